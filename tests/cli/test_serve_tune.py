from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.cli.main import main
from drivetrain.cli.serve import tune_models
from drivetrain.flows.train import TrainResult
from drivetrain.settings import load_settings


def test_tuning_is_told_and_lies_in_the_cache_for_as_many_threads_as_a_process_gets(
    trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"cache_dir": tmp_path, "threads": 2, "workers": 2, "device": "cpu"}
    tune_models(trained.bundle, settings=load_settings(environ={}, flags=given))
    told = capsys.readouterr().err
    assert told.startswith(f"{trained.version}: ")
    assert "tuned in" in told or "not tuned: other programs took" in told
    assert bool(list(tmp_path.rglob("tuning/*.json"))) == ("tuned in" in told)
    if "tuned in" in told:
        assert "1 at a time in the network on 1 cores" in told  # a thread each for two processes


def test_a_device_that_is_not_there_stops_the_command(
    trained: TrainResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", str(trained.bundle), "--tune", "--device", "cuda", "--port", "0", "--db", "none"])
    assert caught.value.code == 1
    assert "pip install 'drivetrain[gpu]'" in capsys.readouterr().err
