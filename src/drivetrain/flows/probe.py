"""A quick look before a long training: are these pictures like those the backbone knows, and how long will it take?"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import UnreadablePicture
from drivetrain.flows.fit_top import TopPlan
from drivetrain.flows.fitting import FitInput
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.learn.activations import cut_trunk, measure_maps
from drivetrain.learn.head import fit_head
from drivetrain.progress import SilentProgress
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.session import Session

__all__ = ["Probe", "estimate_seconds", "probe_piece"]

_PROBED = 600  # pictures
_STEP_FLOPS = 6.0  # operations a weight and place, forward and back
_RATE = 100e9  # operations a second and core that training reaches; measured on one with bfloat16, about


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a quick look found."""

    gap: float  # cross-validated score of a head on the piece's pooled maps, less that on the frozen features
    seconds_a_picture: float  # to decode one and run it up to the piece, all cores at work


def probe_piece(given: FitInput, piece: int) -> Probe:
    """Fit a head on what `piece` is given, pooled, and one on the frozen features, for a few hundred pictures."""
    session = Session(cut_trunk(given.trunk, piece))
    rows = np.arange(min(len(given.train.items), _PROBED))  # their order says nothing
    began = time.perf_counter()

    def work(row: int) -> FloatArray | None:
        name = str(given.train.files[row])
        try:
            data = read_picture_file(given.train.files[row], name=name, limits=given.limits)
            pixels = given.preprocess.from_bytes(data, name=name, limits=given.limits)
        except UnreadablePicture:  # it was readable a minute ago; whoever needs it will say so
            return None
        pooled: FloatArray = session.run(["activation"], pixels[np.newaxis])[0][0].mean(axis=(1, 2))
        return pooled

    with given.progress.task("Looking at a few pictures closely", total=len(rows)) as advance:
        found = []
        for pooled in map_in_order(work, rows.tolist(), threads=callers_for(given.settings.worker_threads)):
            found.append(pooled)
            advance(1)
    spent = (time.perf_counter() - began) / len(rows)
    kept = [row for row, pooled in zip(rows.tolist(), found, strict=True) if pooled is not None]
    early = np.stack([pooled for pooled in found if pooled is not None])
    return Probe(
        gap=_score(given, early, kept) - _score(given, given.train.features[kept], kept), seconds_a_picture=spent
    )


def estimate_seconds(given: FitInput, plan: TopPlan, *, seconds_a_picture: float, fits: int) -> float:
    """About how long views and training take, where nothing is in the cache."""
    n = len(given.train.items)
    looking = (n * (1 + plan.views) + len(given.valid.items)) * seconds_a_picture
    maps = measure_maps(given.trunk)
    weights = 4.5e6 if not maps else sum(6 * 2 * maps[p][0] ** 2 * maps[p][1] for p in maps if p >= plan.cut)
    training = fits * n * plan.epochs * _STEP_FLOPS * weights / (_RATE * given.settings.worker_threads)
    return looking + training


def _score(given: FitInput, features: FloatArray, rows: list[int]) -> float:
    head = fit_head(
        features,
        given.train.targets[rows],
        task=given.task,
        class_count=given.n_out,
        threads=given.settings.worker_threads,
        progress=SilentProgress(),
        groups=given.train.groups[rows],
    )
    return head.cv_score
