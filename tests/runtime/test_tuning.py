from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.arrays import FloatArray
from drivetrain.runtime.batch_types import Tuning
from drivetrain.runtime.device import CPU, Device
from drivetrain.runtime.prediction import Prediction
from drivetrain.runtime.tuning import (
    Found,
    Others,
    Trial,
    default_tuning,
    find_tuning,
    machine_key,
    read_tuning,
    session_threads_tried,
    write_tuning,
)

from .batch_fakes import Echo

CUDA = Device(name="cuda")
Cost = Callable[[int, int], float]


@dataclass
class Priced(Echo):
    """A network that takes so long, by its own clock, for a run of n pictures on some threads."""

    cost: Cost = lambda n, threads: n * 0.01
    now: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, picture: Any, *, name: str | None = None) -> tuple[FloatArray, FloatArray]:
        assert picture.startswith(b"\xff\xd8")  # a JPEG: decoding is a part of what is measured
        return np.zeros((3, 2, 2), dtype=np.float32), np.zeros(1, dtype=np.float32)

    def run(self, pixels: FloatArray, *, threads: int = 1) -> tuple[FloatArray, FloatArray]:
        with self.lock:
            self.now += self.cost(len(pixels), threads)
        return super().run(pixels, threads=threads)

    def decide(self, logits: FloatArray, frozen: FloatArray, style: FloatArray | None) -> Prediction:
        return super().decide(logits, frozen, None)


class Alone(Others):
    def share(self) -> float:
        return 0.0


class Crowd(Others):
    def share(self) -> float:
        return 0.5


def find(cost: Cost, *, threads: int = 4, others: type[Others] = Alone) -> Found:
    model = Priced(cost=cost)
    return find_tuning(model, threads=threads, device=CPU, clock=lambda: model.now, others=others)


def test_defaults_are_a_picture_a_core_on_cpus_and_batches_on_gpus() -> None:
    assert default_tuning(4, device=CPU) == Tuning(workers=5, sessions=4, alone_threads=4, max_size=8)
    assert default_tuning(64, device=CPU).alone_threads == 8
    assert default_tuning(1, device=CPU) == Tuning(workers=1, sessions=1, max_size=8)
    on_gpu = default_tuning(4, device=CUDA)
    assert (on_gpu.max_size, on_gpu.run_size, on_gpu.session_threads) == (16, 16, 1)


def test_sizes_of_session_that_are_tried() -> None:
    assert session_threads_tried(1, device=CPU) == [1]
    assert session_threads_tried(6, device=CPU) == [1, 2, 4, 6]
    assert session_threads_tried(8, device=CPU) == [1, 2, 4, 8]
    assert session_threads_tried(8, device=CUDA) == [1]


def test_nothing_gained_keeps_the_default() -> None:
    found = find(lambda n, threads: n * 0.01)
    assert found.tuning == default_tuning(4, device=CPU)
    assert found.is_quiet
    assert 0.5 < found.gain < 2
    assert len({(trial.tuning, trial.in_flight) for trial in found.trials}) > 8  # all of them were tried


def test_fewer_and_larger_sessions_where_they_are_faster() -> None:
    found = find(lambda n, threads: n * (0.002 if threads == 2 else 0.01))
    assert (found.tuning.sessions, found.tuning.session_threads, found.tuning.alone_threads) == (2, 2, 2)
    assert found.gain > 2


def test_larger_runs_where_they_are_faster() -> None:
    found = find(lambda n, threads: 0.05 + 0.0005 * n)
    assert (found.tuning.max_size, found.tuning.run_size) == (16, 16)


def test_cores_for_a_picture_alone_are_chosen_by_one_caller() -> None:
    found = find(lambda n, threads: n * {1: 0.01, 2: 0.011, 4: 0.012}[threads])
    assert (found.tuning.session_threads, found.tuning.alone_threads) == (1, 1)


def test_what_is_measured_beside_a_crowd_is_not_used() -> None:
    found = find(lambda n, threads: n * (0.002 if threads == 2 else 0.01), others=Crowd)
    assert not found.is_quiet
    assert found.tuning == default_tuning(4, device=CPU)


def test_others_are_those_who_work_on_our_cores() -> None:
    assert 0 <= Others().share() <= 1


FOUND = Found(
    tuning=Tuning(workers=3, sessions=2, max_size=8, run_size=2, max_wait_s=0.25),
    trials=[Trial(tuning=Tuning(workers=3), in_flight=16, pictures_per_s=12.5)],
    others_share=0.01,
)


def test_what_was_found_is_found_again_for_this_bundle_on_this_machine(tmp_path: Path) -> None:
    file = write_tuning(tmp_path, FOUND, digest="a" * 64, key="k")
    assert file.parent.parent == tmp_path
    assert read_tuning(tmp_path, digest="a" * 64, key="k") == FOUND.tuning
    assert read_tuning(tmp_path, digest="b" * 64, key="k") is None
    assert read_tuning(tmp_path, digest="a" * 64, key="other") is None
    assert json.loads(file.read_text())["trials"][0]["pictures_per_s"] == 12.5


@pytest.mark.parametrize(
    "change",
    [
        lambda told: "not JSON",
        lambda told: "[]",
        lambda told: json.dumps(told | {"format": 99}),
        lambda told: json.dumps(told | {"tuning": {"workers": 0}}),
        lambda told: json.dumps(told | {"tuning": {"workers": 3, "unknown": 1}}),
        lambda told: json.dumps(told | {"tuning": {"workers": 10_000}}),
        lambda told: json.dumps(told | {"tuning": {"workers": 3, "max_wait_s": "long"}}),
    ],
)
def test_a_damaged_file_is_as_none(change: Callable[[Any], str], tmp_path: Path) -> None:
    file = write_tuning(tmp_path, FOUND, digest="a", key="k")
    file.write_text(change(json.loads(file.read_text())))
    assert read_tuning(tmp_path, digest="a", key="k") is None


def test_another_device_or_number_of_threads_is_another_machine() -> None:
    keys = {machine_key(device=device, threads=threads) for device in (CPU, CUDA) for threads in (1, 2)}
    assert len(keys) == 4
    assert machine_key(device=CPU, threads=1) in keys
