"""Certify end to end: a new promise on new pictures, the same network."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.bundle.archive import Bundle, read_bundle, write_bundle
from drivetrain.bundle.arrays import write_arrays
from drivetrain.errors import DrivetrainError, InvalidConfig, InvalidInput, NotFound
from drivetrain.flows.certify import CertifyConfig, CertifyResult, certify
from drivetrain.flows.evaluate import evaluate
from drivetrain.flows.train import TrainResult
from drivetrain.flows.trained_on import CALIBRATED_ON, TRAINED_ON, mark_calibrated, mark_trained, pack_digests
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import load
from drivetrain.settings import load_settings

PictureFolder = Callable[..., Path]
Certify = Callable[..., CertifyResult]


@pytest.fixture
def run(tmp_path: Path, shared_cache: Path) -> Certify:
    def run(model: Path, data: Path, *, out: str = "new.dt", **options: Any) -> CertifyResult:
        config = CertifyConfig(model=model, data=data, out=tmp_path / out, options=options)
        settings = load_settings(environ={}, folder=tmp_path, flags={"cache_dir": shared_cache, "threads": 2})
        return certify(config, settings=settings, progress=SilentProgress())

    return run


@pytest.fixture(scope="module")
def labelled(picture_folder: PictureFolder) -> Path:
    """150 pictures of the model's three shapes that it never saw."""
    return picture_folder(per_class=50, seed=77, suffix=".jpg")


def same_but(new: Bundle, old: Bundle) -> set[str]:
    """Members that differ."""
    assert new.members.keys() == old.members.keys()
    return {name for name in old.members if new.members[name] != old.members[name]}


def test_a_new_promise_on_the_same_network(trained: TrainResult, labelled: Path, run: Certify) -> None:
    before = hashlib.sha256(trained.bundle.read_bytes()).digest()
    result = run(trained.bundle, labelled)
    assert hashlib.sha256(trained.bundle.read_bytes()).digest() == before
    old, new = read_bundle(trained.bundle), read_bundle(result.bundle)
    assert same_but(new, old) == {"reference.npz", "fixtures/expected.json", "MODEL_CARD.md"}
    assert (new.manifest.name, result.version) == (old.manifest.name, new.version)  # a version of the same model
    assert new.manifest.lineage["parent"] == old.manifest.digest
    assert new.manifest.lineage["certified_on"]["n"] == result.n == 150
    assert new.manifest.training == old.manifest.training
    assert (result.parent, result.before) == (old.version, old.manifest.decision["statement"])
    decision = new.manifest.decision
    assert decision["promise"]["n_calibration"] == 75
    assert decision["promise"]["is_certified"]
    assert decision["statement"] == result.statement != result.before
    assert decision["ood"]["n_calibration"] == decision["style"]["n_calibration"] == 75
    np.testing.assert_array_equal(new.arrays["ood_known"], old.arrays["ood_known"])
    assert len(new.arrays["ood_calibration"]) == 75
    np.testing.assert_array_equal(new.arrays[TRAINED_ON], old.arrays[TRAINED_ON])
    assert len(new.arrays[CALIBRATED_ON]) == 150
    assert not np.isin(new.arrays[CALIBRATED_ON], old.arrays[CALIBRATED_ON]).any()
    for kept, taken in zip(decision["style"]["directions"], old.manifest.decision["style"]["directions"], strict=True):
        assert kept == taken  # what is usual was learned from training pictures
    assert result.evaluation.n == 150
    assert json.dumps(result.as_json())
    assert load(result.bundle).fixture_difference < 1e-6  # proved by its own fixtures


def test_the_new_policy_is_the_one_that_serves(
    trained: TrainResult, labelled: Path, picture_folder: PictureFolder, run: Certify
) -> None:
    result = run(trained.bundle, labelled, max_error=0.1)
    others = picture_folder(per_class=10, seed=78, suffix=".jpg")
    told = evaluate(load(result.bundle), others, progress=SilentProgress())
    assert told.evaluation.accuracy > 0.9  # type: ignore[union-attr]
    assert told.evaluation.deferral.coverage > 0.5
    own = evaluate(load(result.bundle), labelled, progress=SilentProgress())
    assert own.evaluation.as_json()["deferral"] == result.evaluation.as_json()["deferral"]
    assert own.evaluation.as_json()["ood"] == result.evaluation.as_json()["ood"]


def test_the_same_twice_and_again_of_its_own_child(trained: TrainResult, labelled: Path, run: Certify) -> None:
    first, again = (run(trained.bundle, labelled, out="a.dt") for _ in range(2))
    assert first.digest == again.digest
    child = run(first.bundle, labelled, out="b.dt")
    old, new = read_bundle(first.bundle).manifest, read_bundle(child.bundle).manifest
    assert new.lineage["parent"] == old.digest
    assert new.decision == old.decision  # nothing of the parent's calibration is left in it


@pytest.mark.parametrize(
    ("options", "read", "want"),
    [
        ({"max_error": 0.2}, lambda d: (d["promise"]["max_error"], d["promise"]["n_needed"]), (0.2, 14)),
        ({"max_defer": 0.5}, lambda d: d["deferral_limit"]["most"], 0.5),
        ({"ood_alpha": 0.2}, lambda d: (d["ood"]["flag_at"], round(d["style"]["flag_at"], 9)), (0.16, 0.04)),
        ({"cost_error": 30.0, "cost_review": 1.0}, lambda d: (d["rule"], d["cost"]["cost_error"]), ("cost", 30.0)),
        ({"per_class": True, "max_error": 0.3}, lambda d: len(d["class_thresholds"]), 3),
        ({}, lambda d: (d["rule"], d["promise"]["max_error"]), ("promise", 0.05)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_options_reach_the_policy(
    options: dict[str, Any],
    read: Callable[[Any], Any],
    want: Any,
    trained: TrainResult,
    labelled: Path,
    run: Certify,
) -> None:
    decision = read_bundle(run(trained.bundle, labelled, **options).bundle).manifest.decision
    assert read(decision) == want
    assert {name: decision["policy"][name] for name in options} == options


def test_too_few_pictures_for_a_flag_are_told(trained: TrainResult, labelled: Path, run: Certify) -> None:
    result = run(trained.bundle, labelled, ood_alpha=0.01)
    assert "Only 75 pictures to tell the unknown by: nothing can be flagged as unknown yet." in result.notes
    told = "Only 75 pictures to tell a new style by: none can be flagged as shifted yet (it takes 499)."
    assert told in result.notes
    assert not any("nothing can be flagged" in note for note in run(trained.bundle, labelled, out="b.dt").notes)


def test_options_not_given_stay_as_the_model_has_them(trained: TrainResult, labelled: Path, run: Certify) -> None:
    first = run(trained.bundle, labelled, out="a.dt", max_error=0.2, ood_alpha=0.1)
    second = read_bundle(run(first.bundle, labelled, out="b.dt", max_defer=0.3).bundle).manifest.decision["policy"]
    assert second == {"max_error": 0.2, "max_defer": 0.3, "per_class": False, "ood_alpha": 0.1}
    costs = run(first.bundle, labelled, out="c.dt", cost_error=9.0, cost_review=1.0)
    policy = read_bundle(costs.bundle).manifest.decision["policy"]
    assert policy == {"per_class": False, "cost_error": 9.0, "cost_review": 1.0, "ood_alpha": 0.1}
    back = read_bundle(run(costs.bundle, labelled, out="d.dt", max_error=0.1).bundle).manifest.decision["policy"]
    assert back == {"max_error": 0.1, "per_class": False, "ood_alpha": 0.1}


def test_the_card_tells_the_new_promise_and_keeps_what_it_was_made_of(
    trained: TrainResult, labelled: Path, run: Certify
) -> None:
    result = run(trained.bundle, labelled)
    old, new = (read_bundle(path).members["MODEL_CARD.md"].decode() for path in (trained.bundle, result.bundle))
    assert result.before[:40] in old
    assert result.before[:60] not in new
    assert "of 150 pictures it was certified on" in new
    assert new.count("\n## Evaluation\n") == new.count("\n## When it defers\n") == 1
    data = old[old.index("\n## Data\n") : old.index("\n## Evaluation\n")]
    assert data in new
    assert f"# {read_bundle(trained.bundle).manifest.name}\n" in new  # a version of the same model
    assert read_bundle(trained.bundle).manifest.digest in new


def test_pictures_it_was_trained_on_are_left_out_and_told(
    trained: TrainResult, labelled: Path, picture_folder: PictureFolder, run: Certify, tmp_path: Path
) -> None:
    """The very same files: what trained is left out; what was held out may certify."""
    mixed = shutil.copytree(labelled, tmp_path / "mixed")
    seen = picture_folder(per_class=60, suffix=".jpg")  # those of the fixture `trained`
    for file in sorted(seen.rglob("*.jpg")):
        shutil.copyfile(file, mixed / file.parent.name / f"seen-{file.name}")
    result = run(trained.bundle, mixed)
    assert result.n == 150 + trained.n_valid
    assert f"Left out: {trained.n_train} of {150 + 180} pictures, which the model was trained on." in result.notes[0]
    with pytest.raises(InvalidInput, match="got 72 readable pictures to certify by; want 118 at least"):
        run(trained.bundle, seen)


def test_of_copies_one_counts(trained: TrainResult, labelled: Path, run: Certify, tmp_path: Path) -> None:
    copies = shutil.copytree(labelled, tmp_path / "copies")
    for folder in copies.iterdir():
        files = sorted(folder.iterdir())
        for file in files[20:]:
            file.unlink()
        for file in files[:20]:
            for again in range(3):
                shutil.copyfile(file, folder / f"again-{again}-{file.name}")
    with pytest.raises(InvalidInput, match="got 240 readable pictures to certify by, which count as 60: of copies"):
        run(trained.bundle, copies)
    result = run(trained.bundle, copies, max_error=0.2)
    assert "Of the 120 pictures kept apart 30 count, one of each group" in " ".join(result.notes)
    assert read_bundle(result.bundle).manifest.decision["promise"]["n_calibration"] == 30


def test_pictures_that_cannot_be_read_are_not_called_trained_on(
    trained: TrainResult, labelled: Path, run: Certify, tmp_path: Path
) -> None:
    damaged = shutil.copytree(labelled, tmp_path / "damaged")
    for file in damaged.rglob("*.*"):
        file.write_bytes(file.read_bytes()[:400])
    with pytest.raises(InvalidInput, match=r"got 150 pictures, none of them readable \(.*; want readable pictures"):
        run(trained.bundle, damaged)


def test_a_bundle_that_does_not_say_what_it_was_trained_on(
    trained: TrainResult, picture_folder: PictureFolder, run: Certify, tmp_path: Path
) -> None:
    old = read_bundle(trained.bundle)
    arrays = {name: array for name, array in old.arrays.items() if name != TRAINED_ON}
    members = {**old.members, "reference.npz": write_arrays(arrays)}
    write_bundle(tmp_path / "old.dt", old.manifest, members)
    seen = picture_folder(per_class=60, suffix=".jpg")
    result = run(tmp_path / "old.dt", seen)
    assert result.n == 180
    assert any("These are the very pictures the model was made from" in note for note in result.notes)
    assert TRAINED_ON not in read_bundle(result.bundle).arrays


def test_a_bundle_of_before_styles_were_told(
    trained: TrainResult, labelled: Path, run: Certify, tmp_path: Path
) -> None:
    old = read_bundle(trained.bundle)
    decision = {name: value for name, value in old.manifest.decision.items() if name not in ("style", "policy")}
    write_bundle(tmp_path / "old.dt", dataclasses.replace(old.manifest, decision=decision), dict(old.members))
    decided = read_bundle(run(tmp_path / "old.dt", labelled).bundle).manifest.decision
    assert "style" not in decided
    assert decided["ood"]["flag_at"] == 0.05  # all of it
    assert decided["policy"]["ood_alpha"] == 0.05


def test_what_cannot_be_certified_by(
    trained: TrainResult, picture_folder: PictureFolder, run: Certify, tmp_path: Path
) -> None:
    few = picture_folder(per_class=10, seed=5)
    values = picture_folder(("circle",), per_class=3, root=tmp_path / "values")
    rows = [f"{file.relative_to(values).as_posix()},{at}" for at, file in enumerate(sorted(values.rglob("*.png")))]
    (values / "labels.csv").write_text("\n".join(["path,value", *rows]))
    refused: list[tuple[Path, dict[str, Any], type[DrivetrainError], str]] = [
        (few, {}, InvalidInput, "30 readable pictures to certify by; want 118 at least: half of them test the promise"),
        (few, {"max_error": 0.01}, InvalidInput, "want 598 at least: .*1 % takes 299 without an error"),
        (few, {"cost_error": 5.0, "cost_review": 1.0}, InvalidInput, "want 60 at least: half of them fit the temper"),
        (picture_folder(("circle", "bear"), per_class=6), {}, InvalidInput, "labels the model does not know: 'bear'"),
        (values, {}, InvalidInput, "data for regression; want data for classific"),
        (tmp_path / "none", {}, NotFound, "DATA: got "),
    ]
    for data, options, kind, told in refused:
        with pytest.raises(kind, match=told):
            run(trained.bundle, data, **options)
    assert not (tmp_path / "new.dt").exists()
    assert run(trained.bundle, few, max_error=0.25).n == 30


def test_a_place_that_will_not_do(trained: TrainResult, tmp_path: Path) -> None:
    for out, told in ((tmp_path / "m.onnx", "want a file NAME.dt"), (trained.bundle, "the model itself; want another")):
        with pytest.raises(InvalidConfig, match=told):
            CertifyConfig(model=trained.bundle, data=tmp_path, out=out, options={})
    with pytest.raises(InvalidConfig, match="--max-error"):
        CertifyConfig(model=trained.bundle, data=tmp_path, out=tmp_path / "m.dt", options={"max_error": 2.0})


def test_pictures_marked_test_are_left_to_evaluate(
    trained: TrainResult, labelled: Path, run: Certify, tmp_path: Path
) -> None:
    data = shutil.copytree(labelled, tmp_path / "data")
    files = sorted(data.rglob("*.jpg"))
    rows = [
        f"{file.relative_to(data).as_posix()},{file.parent.name},{'test' if at % 10 == 0 else ''}"
        for at, file in enumerate(files)
    ]
    (data / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    (files[1]).write_bytes(b"no picture")
    result = run(trained.bundle, data)
    assert result.n == 134
    assert any(note.startswith("Left alone, because marked test: 15 pictures.") for note in result.notes)
    assert [path for path, _ in result.unreadable] == [files[1].relative_to(data).as_posix()]


def test_copies_stand_in_one_half(trained: TrainResult, labelled: Path, run: Certify, tmp_path: Path) -> None:
    """Each picture twice: half of the reference would come twice if both were dealt alone."""
    data = shutil.copytree(labelled, tmp_path / "data")
    for file in sorted(data.rglob("*.jpg")):
        shutil.copyfile(file, file.with_name(f"again-{file.name}"))
    result = run(trained.bundle, data)
    reference = read_bundle(result.bundle).arrays["ood_calibration"]
    assert result.n == 300
    assert len(np.unique(reference.round(9))) <= len(reference) / 2 + 1


def test_digests_are_told_apart() -> None:
    digests = [hashlib.sha256(bytes([at])).digest() for at in range(6)]
    packed = pack_digests(digests[:4])
    assert packed.dtype == np.int64
    assert mark_trained({TRAINED_ON: packed}, digests).tolist() == [True] * 4 + [False] * 2
    assert not mark_trained({}, digests).any()
    assert (
        mark_calibrated({TRAINED_ON: packed[:1], CALIBRATED_ON: packed}, digests).tolist() == [True] * 4 + [False] * 2
    )
    assert not mark_trained({TRAINED_ON: np.zeros((2, 2), np.float32)}, digests).any()  # a stranger's
