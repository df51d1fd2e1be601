"""`--ood`: pictures of something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from drivetrain.errors import InvalidInput, NotFound
from drivetrain.flows.evaluate import EvaluateConfig, EvaluateResult, evaluate
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import Predictor

from .conftest import plain


def ask(model: Predictor, data: Path, ood: Path) -> EvaluateResult:
    return evaluate(model, data, progress=SilentProgress(), config=EvaluateConfig(ood=ood))


def test_foreign_pictures_are_held_against_known_ones(model: Predictor, data: Path, foreign: Path) -> None:
    result = ask(model, data, foreign)
    told = result.foreign
    assert told is not None
    answers = {path.name: model.predict(path) for path in sorted((foreign / "deep").iterdir())}
    known = [answer.ood_score for _, answer in result.predictions]
    scores = [answer.ood_score for answer in answers.values()]
    truth = np.repeat([0, 1], [len(known), len(scores)])
    assert told.detection.auroc == pytest.approx(roc_auc_score(truth, known + scores))
    assert told.unknown.hits == sum("unknown" in answer.reasons for answer in answers.values())
    assert told.deferred.hits == sum(answer.decision == "defer" for answer in answers.values())
    assert told.shifted.hits == sum("shifted" in answer.reasons for answer in answers.values())
    assert told.known_unknown.hits == sum("unknown" in answer.reasons for _, answer in result.predictions)
    assert (told.unknown.n, told.known_unknown.n) == (20, 54)
    assert [path for path, _ in told.mistaken] == [
        f"deep/{name}" for name in sorted(answers, key=lambda n: answers[n].ood_score)
    ]
    assert [path for path, _ in told.unreadable] == ["cut.png"]
    shown = plain(result.as_json())["foreign"]
    assert shown["auroc"] == told.detection.auroc
    assert len(shown["scores"]) == 20
    assert shown["unknown"]["hits"] == told.unknown.hits


def test_how_many_were_mistaken_is_said(model: Predictor, data: Path, foreign: Path, tmp_path: Path) -> None:
    told = ask(model, data, foreign).foreign
    assert told is not None
    assert told.deferred.hits == told.deferred.n == 20
    assert told.tell_mistaken() == "It decided none of them by itself: every one was left to a person."
    shutil.copytree(data, tmp_path / "same")
    (tmp_path / "same" / "labels.csv").unlink()
    same = ask(model, data, tmp_path / "same").foreign
    assert same is not None
    n = same.deferred.n - same.deferred.hits
    assert n > 0
    assert same.tell_mistaken() == f"Of these 54 it decided {n} by itself."


def test_folders_that_are_not_foreign_are_refused(model: Predictor, data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"--ood: got .*gone; want a folder of pictures of something else"):
        ask(model, data, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="empty, a folder without a picture"):
        ask(model, data, tmp_path / "empty")
    with pytest.raises(InvalidInput, match="18 of whose pictures are those of DATA"):
        ask(model, data, data / "circle")
    (tmp_path / "empty" / "cut.png").write_bytes(b"\x89PNG")
    with pytest.raises(InvalidInput, match="--ood: got 1 pictures, none of which can be read"):
        ask(model, data, tmp_path / "empty")
