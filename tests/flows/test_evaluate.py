from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.errors import InvalidInput
from drivetrain.flows.evaluate import evaluate
from drivetrain.flows.train import TrainResult
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import Predictor, load

PictureFolder = Callable[..., Path]
SHAPES = ("circle", "square", "stripes")


@pytest.fixture(scope="module")
def predictor(trained: TrainResult) -> Predictor:
    return load(trained.bundle, threads=2)


def test_the_numbers_are_those_of_the_predictions(
    predictor: Predictor, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    data = picture_folder(SHAPES, per_class=6, seed=5, root=tmp_path / "data")
    shutil.copy(data / "circle" / "circle-000.png", data / "square" / "impostor.png")
    result = evaluate(predictor, data, progress=SilentProgress())
    truth_and_answer = [(item.label, predictor.predict(data / item.path)) for item, _ in result.predictions]
    assert [answer for _, answer in truth_and_answer] == [answer for _, answer in result.predictions]
    n = len(truth_and_answer)
    evaluation = result.evaluation
    right = [truth == answer.label for truth, answer in truth_and_answer]
    assert (evaluation.n, evaluation.n_correct) == (n, sum(right)) == (19, evaluation.n_correct)
    assert evaluation.accuracy == sum(right) / n < 1
    losses = [-math.log(answer.probabilities[truth]) for truth, answer in truth_and_answer]
    assert evaluation.log_loss == pytest.approx(sum(losses) / n)
    accepted = [(truth, answer) for truth, answer in truth_and_answer if answer.decision == "accept"]
    assert evaluation.deferral.n_accepted == len(accepted)
    assert evaluation.deferral.n_wrong == sum(truth != answer.label for truth, answer in accepted)
    assert evaluation.ood.n_flagged == sum("unknown" in answer.reasons for _, answer in truth_and_answer)
    square = evaluation.per_class[1]
    assert (square.label, square.n) == ("square", 7)
    assert square.recall == sum(t == a.label for t, a in truth_and_answer if t == "square") / 7
    assert evaluation.confusion[1][0] == sum(a.label == "circle" for t, a in truth_and_answer if t == "square")


def test_strange_pictures_are_left_to_a_person(predictor: Predictor, tmp_path: Path) -> None:
    from PIL import Image

    for name in SHAPES:
        (tmp_path / name).mkdir()
        Image.effect_noise((64, 48), 200).save(tmp_path / name / "noise.png")
    evaluation = evaluate(predictor, tmp_path, progress=SilentProgress()).evaluation
    assert (evaluation.ood.n_flagged, evaluation.deferral.n_accepted) == (3, 0)
    assert evaluation.deferral.error is None


def test_a_label_the_model_does_not_know_is_named(predictor: Predictor, picture_folder: PictureFolder) -> None:
    data = picture_folder(("circle", "owl", "yak"), per_class=1)
    with pytest.raises(InvalidInput) as caught:
        evaluate(predictor, data, progress=SilentProgress())
    assert caught.value.message == (
        "DATA: got labels the model does not know: 'owl', 'yak'; want labels among 'circle', 'square', 'stripes'. "
        "Evaluate without them, or train with them."
    )


def test_where_a_part_is_marked_test_only_that_is_read(
    predictor: Predictor, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    picture_folder(SHAPES, per_class=3, root=tmp_path / "train")
    picture_folder(SHAPES, per_class=2, root=tmp_path / "test")
    result = evaluate(predictor, tmp_path, progress=SilentProgress())
    assert {item.split for item, _ in result.predictions} == {"test"}
    assert result.evaluation.n == 6
    assert result.notes == ("Only the pictures marked test were read: 6 of 15.",)


def test_unreadable_and_missing_are_told(predictor: Predictor, picture_folder: PictureFolder, tmp_path: Path) -> None:
    data = picture_folder(("circle", "square"), per_class=2, root=tmp_path / "data")
    (data / "stripes").mkdir()
    (data / "stripes" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (data / "circle" / "empty.png").touch()
    (data / "notes.txt").touch()
    result = evaluate(predictor, data, progress=SilentProgress())
    assert [path for path, _ in result.unreadable] == ["circle/empty.png", "stripes/cut.jpg"]
    assert all(reason for _, reason in result.unreadable)
    assert result.evaluation.n == 4
    assert result.evaluation.per_class[2].recall is None
    assert result.notes == (
        "Left out, being no pictures by their name, or without a label: 1 file.",
        "No readable picture of stripes: nothing is known about these.",
    )
    for file in (*data.glob("circle/*"), *data.glob("square/*")):
        file.write_bytes(b"")
    with pytest.raises(InvalidInput, match="DATA: got 6 pictures, none of which can be read; want one readable"):
        evaluate(predictor, data, progress=SilentProgress())


def test_pictures_the_model_was_made_from_flatter_it(
    predictor: Predictor, trained: TrainResult, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    same = picture_folder(per_class=60, suffix=".jpg", root=tmp_path / "same")
    note = "These are the very pictures the model was made from: the numbers flatter it, others will tell."
    assert evaluate(predictor, same, progress=SilentProgress()).notes == (note,)
    (same / "circle" / "circle-000.jpg").unlink()
    assert evaluate(predictor, same, progress=SilentProgress()).notes == ()


def test_as_json_is_plain_and_whole(predictor: Predictor, picture_folder: PictureFolder, trained: TrainResult) -> None:
    result = evaluate(predictor, picture_folder(SHAPES, per_class=1, seed=3), progress=SilentProgress())
    plain = json.loads(json.dumps(result.as_json()))
    assert plain["version"] == trained.version
    assert plain["accuracy"] == result.evaluation.accuracy
    assert [(row["path"], row["truth"]) for row in plain["predictions"]] == [
        (f"{name}/{name}-000.png", name) for name in SHAPES
    ]
    assert plain["predictions"][0].keys() >= {"label", "probability", "decision", "reasons", "ood_p_value"}
    assert plain["unreadable"] == plain["notes"] == []
