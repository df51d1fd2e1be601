"""`--against`: two bundles on the same pictures, and what a prior makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from drivetrain.bundle.archive import read_bundle, write_bundle
from drivetrain.bundle.arrays import write_arrays
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.flows.evaluate import EvaluateConfig, EvaluateResult, evaluate
from drivetrain.flows.evaluate_against import read_prior
from drivetrain.flows.train import TrainResult
from drivetrain.flows.trained_on import TRAINED_ON
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.trust.belief import Prior
from drivetrain.trust.compare import compare_right

from .conftest import plain


def ask(model: Predictor, other: Path, data: Path, prior: Prior | None = None) -> EvaluateResult:
    against = load(other, threads=2)
    return evaluate(model, data, progress=SilentProgress(), config=EvaluateConfig(prior=prior), against=against)


def test_the_difference_is_paired(model: Predictor, other: Path, data: Path) -> None:
    result = ask(model, other, data)
    told = result.against
    assert told is not None
    reference = load(other)
    right = {item.path: answer.label == item.label for item, answer in result.predictions}
    than = {item.path: reference.predict(data / item.path).label == item.label for item, _ in result.predictions}
    ours, theirs = (np.array([*of.values()], dtype=bool) for of in (right, than))
    assert told.comparison == compare_right(ours, theirs, reference="other")
    assert told.comparison.n_better > 15
    assert told.won == tuple(path for path in right if right[path] and not than[path])
    assert told.lost == tuple(path for path in right if than[path] and not right[path])
    assert (told.name, told.version) == ("other", reference.version)
    assert told.evaluation.n_correct == sum(than.values())
    assert told.belief is None
    shown = plain(result.as_json())["against"]
    assert shown["p_value"] == told.comparison.p_value < 0.01
    assert "It is not the chance that they are equally good" in shown["p_value_words"]
    assert shown["sentence"].startswith("the gain over other is +")
    assert "belief" not in shown


def test_pictures_that_trained_the_other_are_told(
    model: Predictor, other: Path, data: Path, trained: TrainResult, picture_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = picture_folder(per_class=60, suffix=".jpg", root=tmp_path / "same")
    bundle = read_bundle(other)
    arrays = dict(bundle.arrays) | {TRAINED_ON: bundle.arrays[TRAINED_ON][:10]}
    write_bundle(tmp_path / "fewer.dt", bundle.manifest, {**bundle.members, "reference.npz": write_arrays(arrays)})
    result = ask(model, tmp_path / "fewer.dt", root)
    assert result.against is not None
    assert (result.as_json()["n_trained_on"], result.against.n_trained_on) == (trained.n_train, 10)
    assert plain(result.as_json())["against"]["n_trained_on"] == 10
    assert plain(result.as_json())["against"]["n_calibrated_on"] == trained.n_valid
    ours, theirs, unequal = result.notes
    assert ours.startswith(f"{trained.n_train} of 180 pictures trained it, the others calibrated it, and its numbers")
    assert theirs.startswith(f"10 of 180 pictures trained {result.against.version}, and its numbers flatter it")
    assert unequal == "More of the pictures trained the one model than the other, and that one they favour."
    assert ask(model, other, data).notes == ()


def test_a_prior_is_shown_beside_and_changes_nothing_else(model: Predictor, other: Path, data: Path) -> None:
    without, given = (ask(model, other, data, prior).against for prior in (None, Prior(wins=1, losses=900)))
    assert without is not None
    assert given is not None
    assert given.comparison == without.comparison
    assert given.belief == Prior(wins=1, losses=900).update(given.comparison.n_better, given.comparison.n_worse)
    assert given.belief.better < 0.01


def test_pictures_of_a_group_count_for_less(
    model: Predictor, other: Path, picture_folder: Callable[..., Path], tmp_path: Path
) -> None:
    root = picture_folder(per_class=8, seed=5, root=tmp_path / "data")
    rows = [f"{f.parent.name}/{f.name},{f.parent.name},g{at // 4}" for at, f in enumerate(sorted(root.rglob("*.png")))]
    (root / "labels.csv").write_text("\n".join(["path,label,group", *rows[:-1], rows[-1].rpartition(",")[0] + ","]))
    told = ask(model, other, root, Prior(wins=1, losses=1)).against
    assert told is not None
    assert (told.comparison.n, told.comparison.n_groups) == (24, 7)  # the last stands by itself
    assert told.comparison.counted < 0.5
    assert told.belief is not None
    assert told.belief.n_better == pytest.approx(told.comparison.counted * told.comparison.n_better)


@pytest.mark.parametrize(
    ("text", "prior"),
    [
        ("8,4", Prior(wins=8, losses=4)),
        (" 0.5 , 0.5 ", Prior(wins=0.5, losses=0.5)),
        ("50-80", Prior.between(0.5, 0.8)),
        ("50 % - 80 %", Prior.between(0.5, 0.8)),
    ],
)
def test_a_prior_is_read(text: str, prior: Prior) -> None:
    assert read_prior(text) == prior


@pytest.mark.parametrize("text", ["", "8", "8;4", "a,b", "1.2.3,4", "8,4,2", "0,1", "80-50", "0-50", "50-100"])
def test_what_is_no_prior_is_one_clear_error(text: str) -> None:
    with pytest.raises(InvalidConfig, match="prior: got"):
        read_prior(text)


def test_what_cannot_be_compared_is_refused(
    model: Predictor, other: Path, data: Path, picture_folder: Callable[..., Path]
) -> None:
    with pytest.raises(InvalidInput, match=f"--against: got {model.version}, the same model; want another one"):
        evaluate(model, data, progress=SilentProgress(), against=model)
    with pytest.raises(InvalidConfig, match="--prior: got no other model"):
        evaluate(model, data, progress=SilentProgress(), config=EvaluateConfig(prior=Prior(wins=1, losses=1)))
