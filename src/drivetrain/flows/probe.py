"""A quick look before a long training: are these pictures like those the backbone knows, and how long will it take?"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from drivetrain.errors import UnreadablePicture
from drivetrain.flows.fit_top import TopPlan
from drivetrain.flows.fitting import FitInput, fit_head_on
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.learn.activations import cut_trunk, measure_maps
from drivetrain.progress import SilentProgress
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.session import Session

__all__ = ["estimate_seconds", "measure_gap"]

_JUDGED = 600  # pictures
_TIMED = 48
_STEP_FLOPS = 6.0  # operations a weight and place, forward and back
_RATE = 100e9  # operations a second and core that training reaches; measured on one with bfloat16, about


def measure_gap(given: FitInput, piece: int) -> float | None:
    """Cross-validated score of a head on the means of what `piece` is given, less that on the last map's means.

    Of a few hundred pictures. None where the trunk does not tell the former.
    """
    layout = given.trunk.layout
    means = layout.find_means(piece)
    if means is None:
        return None
    rows = np.arange(min(len(given.train.items), _JUDGED))  # their order says nothing
    early, last = (
        fit_head_on(given, rows, features=given.train.features[rows, part], progress=SilentProgress()).cv_score
        for part in (means, slice(0, layout.last))
    )
    return early - last


def estimate_seconds(given: FitInput, plan: TopPlan, *, fits: int) -> float:
    """About how long views and `fits` trainings take, where nothing is in the cache."""
    n = len(given.train.items)
    looking = (n * (plan.views + 0.2) + len(given.valid.items)) * _time_picture(given, plan.cut)
    maps = measure_maps(given.trunk)
    weights = 4.5e6 if not maps else sum(6 * 2 * maps[p][0] ** 2 * maps[p][1] for p in maps if p >= plan.cut)
    training = fits * n * plan.epochs * _STEP_FLOPS * weights / (_RATE * given.settings.worker_threads)
    return looking + training


def _time_picture(given: FitInput, piece: int) -> float:
    """Seconds to decode a picture and run it up to the piece, all cores at work."""
    session = Session(cut_trunk(given.trunk, piece))
    files = given.train.files[:_TIMED]

    def work(file: Path) -> None:
        try:
            data = read_picture_file(file, name=str(file), limits=given.limits)
            pixels = given.preprocess.from_bytes(data, name=str(file), limits=given.limits)
        except UnreadablePicture:  # it was readable a minute ago; whoever needs it will say so
            return
        session.run(["activation"], pixels[np.newaxis])

    began = time.perf_counter()
    for _ in map_in_order(work, files, threads=callers_for(given.settings.worker_threads)):
        pass
    return (time.perf_counter() - began) / len(files)
