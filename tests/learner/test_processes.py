"""Several processes that train one model; one that needs none of it."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from drivetrain.errors import MissingExtra
from drivetrain.learn.checkpoint import read_tree
from drivetrain.learn.processes import AcceleratedProcesses, OneProcess, find_processes

from . import joint
from .makers import weights_of

needs_accelerate = pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="no accelerate here")


def test_one_process_is_alone() -> None:
    alone = find_processes({})
    assert isinstance(alone, OneProcess)
    model = nn.Linear(1, 1)
    assert alone.wrap(model) is model
    assert (alone.share, alone.device, alone.gather(3)) == ((0, 1), None, [3])
    assert alone.is_true_for_all(True)
    assert not alone.is_true_for_all(False)
    assert alone.mean(torch.tensor(2.0)) == 2


def test_several_need_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtra, match=r"several GPUs.*'drivetrain\[gpus\]'"):
        find_processes({"WORLD_SIZE": "2"})


@needs_accelerate
def test_accelerate_with_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    one = AcceleratedProcesses()
    assert (one.share, one.device) == ((0, 1), torch.device("cpu"))
    assert one.wrap(nn.Linear(2, 1))(torch.ones(1, 2)).shape == (1, 1)
    assert one.is_true_for_all(True)
    assert not one.is_true_for_all(False)
    assert one.mean(torch.tensor(2.0)) == 2
    assert one.gather({"a": 1}) == [{"a": 1}]


@needs_accelerate
def test_two_processes_train_as_one_with_twice_the_batch(shapes: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.learner.joint", str(shapes), str(tmp_path)],
            cwd=Path(__file__).parents[2],
            env=os.environ
            | {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"}
            | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        ended = [process.communicate(timeout=500)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0, 0], ended
    first, second = (read_tree(tmp_path / f"rank{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first["weights"][name], second["weights"][name]) for name in first["weights"])
    assert first["values"] == second["values"] == first["again"]
    alone = joint.train(shapes, tmp_path / "alone", processes=1)
    wanted: dict[str, Any] = weights_of(alone)
    for name, value in first["weights"].items():
        assert torch.allclose(value, wanted[name], atol=1e-5), name
    for row, want in zip(first["values"], alone.recorder.values, strict=True):
        assert row == pytest.approx(want, abs=1e-4)
    assert sorted(first["preds"].sum(1).tolist()) == pytest.approx([1.0] * 9)
    assert len(first["lines"]) == 5  # one of them tells
