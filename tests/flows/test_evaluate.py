from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from drivetrain.bundle.archive import read_bundle, write_bundle
from drivetrain.bundle.arrays import write_arrays
from drivetrain.data.items import Item, read_items
from drivetrain.data.lineage import digest_items
from drivetrain.errors import InvalidInput
from drivetrain.flows.evaluate import EvaluateResult, evaluate
from drivetrain.flows.train import TrainResult
from drivetrain.flows.trained_on import CALIBRATED_ON, TRAINED_ON, mark_trained
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
    n_train, n = trained.n_train, trained.n_train + trained.n_valid
    flatters = "and its numbers flatter it: it is surer of these, and more often right, than of any other."
    whole = evaluate(predictor, same, progress=SilentProgress())
    assert whole.notes == (
        f"{n_train} of {n} pictures trained it, the others calibrated it, {flatters} "
        "Evaluate on pictures that it has never seen.",
    )
    assert whole.as_json()["n_trained_on"] == n_train
    known = {item.path for item, mark in zip(whole_items(whole), marks(predictor, same, whole), strict=True) if mark}
    assert len(known) == n_train
    for path in sorted(known)[1:]:
        (same / path).unlink()
    part = evaluate(predictor, same, progress=SilentProgress())
    assert part.notes[0].startswith(
        f"1 of {trained.n_valid + 1} pictures trained it, the others calibrated it, and its"
    )
    assert part.suffix == ", 1 of which trained it"
    (same / min(known)).unlink()
    rest = evaluate(predictor, same, progress=SilentProgress())
    n_held = trained.n_valid
    assert rest.notes == (
        f"All {n_held} pictures calibrated it: that its probabilities and its promise agree with them shows nothing. "
        "Evaluate on pictures that it has never seen.",
    )
    assert (rest.suffix, rest.as_json()["n_trained_on"], rest.as_json()["n_calibrated_on"]) == ("", 0, n_held)
    assert rest.learned is not None
    assert rest.learned.tainted == "it was measured on these very pictures"
    other = same / "circle" / "new.png"
    Image.new("RGB", (32, 32), "red").save(other)
    mixed = evaluate(predictor, same, progress=SilentProgress())
    assert mixed.notes[0].startswith(f"{n_held} of {n_held + 1} pictures calibrated it: that its prob")
    assert mixed.learned is not None
    assert mixed.notes[0].endswith("What it promises is held to the other 1 alone.")
    assert (mixed.learned.tainted, mixed.learned.n_fresh) == ("", 1)
    assert [one.n_decided for of in mixed.part_promises for one in of.checks] in ([], [1])


def whole_items(result: EvaluateResult) -> list[Item]:
    return [item for item, _ in result.predictions]


def marks(predictor: Predictor, root: Path, result: EvaluateResult) -> list[bool]:
    digests = [hashlib.sha256((root / item.path).read_bytes()).digest() for item in whole_items(result)]
    return list(mark_trained(predictor.arrays, digests).tolist())


def test_of_a_bundle_that_kept_no_digests_only_the_whole_set_is_known(
    trained: TrainResult, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    bundle = read_bundle(trained.bundle)
    arrays = {name: array for name, array in bundle.arrays.items() if name not in {TRAINED_ON, CALIBRATED_ON}}
    write_bundle(tmp_path / "old.dt", bundle.manifest, {**bundle.members, "reference.npz": write_arrays(arrays)})
    old = load(tmp_path / "old.dt")
    same = picture_folder(per_class=60, suffix=".jpg", root=tmp_path / "same")
    told = evaluate(old, same, progress=SilentProgress())
    assert told.notes == (
        "These are the very pictures that it was made from, and it does not say which of them trained it: its numbers "
        "flatter it. Evaluate on pictures that it has never seen.",
    )
    assert (told.suffix, told.as_json()["n_trained_on"], told.as_json()["n_calibrated_on"]) == ("", None, None)
    if told.promise is not None:
        assert told.promise.sentence.endswith("the model was made from these very pictures.")
    (same / "circle" / "circle-000.jpg").unlink()
    assert evaluate(old, same, progress=SilentProgress()).notes == ()


def test_pictures_that_a_promise_was_measured_on_cannot_test_it(
    trained: TrainResult, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    data = picture_folder(SHAPES, per_class=4, seed=8, root=tmp_path / "data")
    items = read_items(data)
    digest = digest_items((item, hashlib.sha256(items.file(item).read_bytes()).digest()) for item in items)
    bundle = read_bundle(trained.bundle)
    lineage = {**bundle.manifest.lineage, "certified_on": {"data_digest": digest, "n": len(items)}}
    arrays = {name: array for name, array in bundle.arrays.items() if name != CALIBRATED_ON}  # as it was before
    members = {**bundle.members, "reference.npz": write_arrays(arrays)}
    write_bundle(tmp_path / "new.dt", replace(bundle.manifest, lineage=lineage), members)
    told = evaluate(load(tmp_path / "new.dt"), data, progress=SilentProgress())
    assert told.notes == (
        "All 12 pictures calibrated it: that its probabilities and its promise agree with them shows nothing. "
        "Evaluate on pictures that it has never seen.",
    )
    assert told.learned is not None
    assert told.learned.tainted == "it was measured on these very pictures"
    (data / "circle" / "circle-000.png").unlink()
    assert evaluate(load(tmp_path / "new.dt"), data, progress=SilentProgress()).notes == ()


@pytest.mark.parametrize(
    ("max_error", "per_class", "verdict"), [(0.0001, 6, "untested"), (0.6, 6, "consistent"), (0.6, 1, "untested")]
)
def test_a_promise_is_held_against_the_pictures(
    max_error: float, per_class: int, verdict: str, trained: TrainResult, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    """The bundle's own words, and its decisions, with another bound."""
    bundle = read_bundle(trained.bundle)
    promise = {**bundle.manifest.decision["promise"], "is_certified": True, "max_error": max_error}
    decision = {**bundle.manifest.decision, "threshold": 0.0, "promise": {**promise, "threshold": 0.0}}
    write_bundle(tmp_path / "new.dt", replace(bundle.manifest, decision=decision), bundle.members)
    data = picture_folder(SHAPES, per_class=per_class, seed=9, root=tmp_path / "data")
    result = evaluate(load(tmp_path / "new.dt"), data, progress=SilentProgress())
    assert result.promise is not None
    assert result.promise.verdict == verdict
    assert result.promise.n_decided == result.evaluation.deferral.n_accepted
    plain = json.loads(json.dumps(result.as_json()))["promise"]
    assert (plain["verdict"], plain["max_error"]) == (verdict, max_error)
    wrong = {name: SHAPES[(SHAPES.index(name) + 1) % 3] for name in SHAPES}
    for name in SHAPES:
        (data / name).rename(data / f"{name}-aside")
    for name in SHAPES:
        (data / f"{name}-aside").rename(data / wrong[name])
    broken = evaluate(load(tmp_path / "new.dt"), data, progress=SilentProgress()).promise
    assert broken is not None
    if per_class > 1:
        assert broken.verdict == "broken"
        assert "does not hold for pictures like these. `drivetrain certify` renews it" in broken.sentence


def test_where_nothing_is_promised_nothing_is_said_of_it(
    trained: TrainResult, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    bundle = read_bundle(trained.bundle)
    promise = {**bundle.manifest.decision["promise"], "is_certified": False}
    decision = {**bundle.manifest.decision, "promise": promise}
    write_bundle(tmp_path / "new.dt", replace(bundle.manifest, decision=decision), bundle.members)
    result = evaluate(load(tmp_path / "new.dt"), picture_folder(SHAPES, per_class=2), progress=SilentProgress())
    assert result.promise is None
    assert "promise" not in result.as_json()


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
