from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from drivetrain.errors import InvalidConfig, MissingExtra, NotFound, Unavailable
from drivetrain.flows.train import TrainResult
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.runtime.batch_types import Tuning
from drivetrain.runtime.device import CPU, Device, find_device
from drivetrain.runtime.ready import Ready, open_ready, tune_bundle
from drivetrain.runtime.session import Session
from drivetrain.runtime.tuning import Found, default_tuning, machine_key, write_tuning

WITH_CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]
WITHOUT = ["CPUExecutionProvider"]


def ready(trained: TrainResult, **given: object) -> Ready:
    return open_ready(trained.bundle, limits=DecodeLimits(), threads=2, **given)  # type: ignore[arg-type]


def test_devices_are_found_or_told_how_to_get() -> None:
    assert find_device("cpu", available=WITH_CUDA) == CPU
    assert find_device("auto", available=WITH_CUDA).name == "cuda"
    found = find_device("auto", available=WITHOUT)
    assert found.statement == (
        "device: auto was asked for, cpu is used: the onnxruntime installed here has no CUDA "
        "(it comes with 'drivetrain[gpu]')"
    )
    cuda = find_device("cuda", available=WITH_CUDA)
    assert (cuda.name, cuda.first_provider, cuda.providers[0][1]["use_tf32"]) == ("cuda", "CUDAExecutionProvider", "0")
    with pytest.raises(MissingExtra, match=r"no package 'onnxruntime-gpu' here.*pip install 'drivetrain\[gpu\]'"):
        find_device("cuda", available=WITHOUT)
    with pytest.raises(InvalidConfig, match="device: got gpu; want one of auto, cpu, cuda"):
        find_device("gpu", available=WITH_CUDA)


@pytest.mark.filterwarnings("ignore:Specified provider")  # onnxruntime's own words, where it has no CUDA
def test_a_device_that_does_not_run_is_an_error_and_never_another_one(trunk_file: Path, trained: TrainResult) -> None:
    with pytest.raises(Unavailable, match=r"device cuda: got .*; want a GPU with its driver.*--device cpu"):
        Session(trunk_file, device=Device(name="cuda"))
    with pytest.raises(Unavailable, match="device cuda: got"):
        ready(trained, device="cuda", available=WITH_CUDA)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_goes_to_the_cpu_where_the_trial_on_cuda_fails_and_says_so(trained: TrainResult) -> None:
    found = ready(trained, available=WITH_CUDA)
    assert found.predictor.device.name == "cpu"
    assert "auto was asked for, cpu is used: cuda was tried, and does not run here" in found.statements[0]


def test_defaults_have_a_session_for_a_picture_alone(trained: TrainResult) -> None:
    found = ready(trained)
    assert found.tuning == default_tuning(2, device=CPU)
    zeros = np.zeros((1, 3, found.predictor.input_size, found.predictor.input_size), dtype=np.float32)
    np.testing.assert_array_equal(found.predictor.run(zeros, threads=2)[0], found.predictor.run(zeros)[0])
    assert not found.is_tuned
    assert "2 for a picture alone" in found.statements[1]
    assert "--tune" in found.statements[1]


def test_what_was_tuned_is_used_at_the_next_start(trained: TrainResult, tmp_path: Path) -> None:
    way = Tuning(workers=2, session_threads=3, alone_threads=5, max_size=7, max_wait_s=0.005)
    key = machine_key(device=CPU, threads=2)
    write_tuning(tmp_path, Found(tuning=way, trials=[], others_share=0.0), digest=trained.digest, key=key)
    found = ready(trained, cache_dir=tmp_path)
    assert (found.tuning, found.is_tuned) == (way, True)
    assert "waiting up to 5 ms for company" in found.statements[1]
    assert "as tuned for this machine" in found.statements[1]
    assert ready(trained).tuning != way


def test_tuning_tells_what_it_found_and_keeps_it_unless_others_were_at_work(
    trained: TrainResult, tmp_path: Path
) -> None:
    tuned = tune_bundle(trained.bundle, limits=DecodeLimits(), threads=2, cache_dir=tmp_path, seconds=0.2)
    assert tuned.version in tuned.statement
    if tuned.file is None:
        assert "not tuned: other programs took" in tuned.statement
        assert not list(tmp_path.rglob("*.json"))
    else:
        assert f"tuned in {len(tuned.found.trials)} trials" in tuned.statement
        assert ready(trained, cache_dir=tmp_path).tuning == tuned.found.tuning


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_ready(tmp_path / "gone.dt", limits=DecodeLimits(), threads=1)
