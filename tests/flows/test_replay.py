from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from drivetrain.flows.replay import Replayed, replay_rollout
from drivetrain.runtime.prediction import Prediction
from drivetrain.runtime.predictor import load
from drivetrain.store.store import Store

from .rollout_traffic import Clock, Traffic, begin, write_bundle


def picture(seed: int) -> bytes:
    """Of one colour with a little noise: some are taken, some left to people."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 256, 3) + rng.integers(-20, 20, (8, 8, 3))
    pixels = np.clip(colour, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_a_model_runs_over_what_was_kept(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, has_incumbent=True)
    traffic = Traffic(store, clock, deployment)
    predictor = load(tmp_path / "new2.dt")
    want = dict.fromkeys((name for name in Replayed.__dataclass_fields__ if name != "version"), 0)
    for seed in range(70):  # more than are in memory at once
        data = picture(seed)
        answer = predictor.predict(data)
        assert isinstance(answer, Prediction)
        old = ("circle", "square", None)[seed % 3]
        truth = "circle" if seed % 2 else None
        traffic.send(1, incumbent=old, truth=truth, image_sha256=store.images.put(data), candidate="circle")
        want["n"] += 1
        if answer.decision != "accept":
            want["n_deferred"] += 1
            continue
        want["n_labelled"] += truth is not None
        want["n_wrong"] += truth is not None and answer.label != truth
        want["n_compared"] += old is not None
        want["n_same"] += answer.label == old
        want["wins"] += truth is not None and old is not None and answer.label == truth != old
        want["losses"] += truth is not None and old == truth != answer.label
    traffic.send(1, truth=None)  # not kept
    traffic.send(1, truth=None, image_sha256=store.images.put(b"no picture"))
    found = replay_rollout(store, "shapes", threads=2)
    assert asdict(found) == {**want, "n_gone": 2, "version": predictor.version}
    assert min(asdict(found)[name] for name in want) > 0
    assert found.n_compared > found.n_same


def test_another_model_than_its_candidate(store: Store, tmp_path: Path) -> None:
    begin(store, tmp_path)
    other = write_bundle(tmp_path / "other.dt", seed=9)
    assert replay_rollout(store, "shapes", candidate=other).version == load(other).version
    assert replay_rollout(store, "shapes").version != load(other).version
