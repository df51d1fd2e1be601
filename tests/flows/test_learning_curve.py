from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.flows import learning_curve as flow
from drivetrain.flows.learning_curve import learning_curve
from drivetrain.learn.head import fit_head, scale_features
from drivetrain.progress import SilentProgress
from drivetrain.trust.learning_curve import LearningCurve

K, D = 3, 40


def make(n: int = 240, *, seed: int = 0, spread: float = 1.6) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % K).astype(np.int64)
    centres = np.random.default_rng(99).normal(size=(K, D))
    return (centres[labels] + spread * rng.normal(size=(n, D))).astype(np.float32), labels


def run(features: FloatArray, targets: Any, **options: Any) -> LearningCurve:
    given: dict[str, Any] = {
        "task": "classification", "groups": None, "class_count": K, "threads": 2, "progress": SilentProgress(),
        "seed": 0, "penalty": 0.1,
    }  # fmt: skip
    return learning_curve(features, targets, **{**given, **options})


def test_more_pictures_make_a_better_head() -> None:
    features, labels = make(spread=3)
    told = run(features, labels, classes=["hat", "shoe", "sock"])
    assert [point.n for point in told.points] == [48, 96, 144, 192]  # of the 192 that are not held out
    assert told.points[-1].score > told.points[0].score + 0.02
    assert (told.n, told.repeats, told.score, told.is_share) == (240, 3, "accuracy", True)
    assert [(row.label, row.n) for row in told.classes] == [("hat", 80), ("shoe", 80), ("sock", 80)]
    fitted = fit_head(features, labels, class_count=K, threads=2, progress=SilentProgress(), penalties=(0.1,))
    assert told.points[-1].score == pytest.approx(fitted.cv_score, abs=0.04)


def test_it_is_the_same_for_any_number_of_threads_and_another_for_another_seed() -> None:
    features, labels = make(120)
    one = run(features, labels, threads=1)
    assert one == run(features, labels, threads=3)
    assert one != run(features, labels, seed=1)


def test_options_are_heeded() -> None:
    features, labels = make(120)
    usual = run(features, labels)
    assert [point.n for point in run(features, labels, fractions=(0.5, 1)).points] == [48, 96]
    assert run(features, labels, repeats=1).repeats == 1
    assert run(features, labels, penalty=30.0).points != usual.points
    assert run(features, labels, class_weights=[50, 1, 1]).classes[0].score > usual.classes[0].score
    mixed, labels = make(120, spread=4)
    mixed[:, 20:] *= 1e-4
    assert run(mixed, labels, blocks=(20, 20)).points[-1].score > run(mixed, labels).points[-1].score


def test_without_a_penalty_the_head_s_own_is_found() -> None:
    features, labels = make(120)
    head = fit_head(features, labels, class_count=K, threads=2, progress=SilentProgress())
    assert run(features, labels, penalty=None) == run(features, labels, penalty=head.penalty)
    mixed = features * np.where(np.arange(D) < 30, 1, 1e-4).astype(np.float32)
    parted = fit_head(mixed, labels, class_count=K, threads=2, progress=SilentProgress(), blocks=(30, 10))
    told = run(mixed, labels, penalty=None, blocks=(30, 10))
    assert told == run(mixed, labels, penalty=parted.penalty, blocks=(30, 10))
    assert told != run(mixed, labels, penalty=None)


def test_a_part_is_fitted_as_the_head_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of a side at the head's penalty: the same answers as `fit_head` gives."""
    features, labels = make(120)
    side, held = np.arange(96), np.arange(96, 120)
    head = fit_head(features[side], labels[side], class_count=K, threads=1, progress=SilentProgress(), penalties=(0.1,))
    scaled, _, _ = scale_features(features[side])
    trial = flow._Trial(features=scaled, targets=labels[side], task="classification", penalty=0.1, n_outputs=K,
                        weights=None)  # fmt: skip
    job = flow._Job(held=np.arange(24), side=side, sizes=(24, 96))
    answers = trial.judge(job)
    assert answers.shape == (2, 24, K)
    assert answers[1] == pytest.approx(head.logits(features[:24]), abs=0.02)
    assert np.abs(answers[0] - answers[1]).max() > 0.1
    assert len(held) == 24


def test_numbers_are_fitted_as_the_head_is() -> None:
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(150, D))).astype(np.float32)
    values = (np.sqrt(features) @ rng.normal(size=(D, 2)) * [1, 100] + rng.normal(size=(150, 2)) * [0.5, 50]).astype(
        "f4"
    )
    head = fit_head(features, values, task="regression", class_count=2, threads=1, progress=SilentProgress(),
                    penalties=(0.1,))  # fmt: skip
    for rows in (np.arange(150), np.arange(30)):  # more pictures than features, and fewer
        scaled, _, _ = scale_features(features[rows])
        weight = flow._fit_ridge(scaled, values[rows], 0.1)
        away = scaled - scaled.mean(axis=0)
        moved = (
            away.T @ (away @ weight[:-1] - (values[rows] - values[rows].mean(axis=0))) / len(rows) + 0.1 * weight[:-1]
        )
        assert np.abs(moved).max() < 1e-3  # the gradient, in values of a size of 100
        if len(rows) == 150:
            assert scaled @ weight[:-1] + weight[-1] == pytest.approx(head.logits(features), abs=0.1)
    told = run(features, values, task="regression", class_count=2)
    assert (told.score, told.is_share, told.classes) == ("mean absolute error", False, ())
    assert told.points[-1].score < told.points[0].score


def test_labels_that_stand_together() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, D)).astype(np.float32)
    targets = (features @ rng.normal(size=(D, 2)) + rng.normal(size=(200, 2)) > 2).astype(np.float32)
    told = run(features, targets, task="multilabel", class_count=2, classes=["red", "round"])
    assert told.score == "label accuracy"
    assert told.points[-1].score > max(1 - targets.mean(), 0.75)
    assert [row.n for row in told.classes] == targets.sum(axis=0).tolist()
    assert all(
        row.score < told.points[-1].score for row in told.classes
    )  # found of those that have it, which is harder


def deal(strata: IntArray, groups: IntArray | None, *, seed: int = 0) -> list[flow._Job]:
    return flow._deal(strata, groups, flow.FRACTIONS, np.random.default_rng(seed), task="classification")


def test_parts_are_nested_and_alike_and_every_picture_is_held_out_once() -> None:
    strata = np.repeat([0, 1, 2], [100, 50, 5])
    jobs = deal(strata, None)
    assert len(jobs) == 5
    assert sorted(np.concatenate([job.held for job in jobs]).tolist()) == list(range(155))
    for job in jobs:
        assert sorted([*job.held, *job.side]) == list(range(155))
        for size, share in zip(job.sizes, flow.FRACTIONS, strict=True):
            assert np.bincount(strata[job.side[:size]], minlength=3) == pytest.approx(
                share * np.bincount(strata[job.side], minlength=3), abs=1
            )
    assert (deal(strata, None, seed=1)[0].held != jobs[0].held).any()


def test_groups_are_learned_from_or_judged_and_never_cut() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(40, size=300)
    strata = groups % 3
    for job in deal(strata, groups):
        assert not set(groups[job.held]) & set(groups[job.side])
        for size in job.sizes[:-1]:
            assert not set(groups[job.side[:size]]) & set(groups[job.side[size:]])
            assert set(strata[job.side[:size]]) == {0, 1, 2}


def test_copies_do_not_flatter() -> None:
    features, labels = make(80, spread=3)
    features, labels = np.repeat(features, 3, axis=0), np.repeat(labels, 3)
    groups = np.repeat(np.arange(80), 3)
    alone, grouped = run(features, labels), run(features, labels, groups=groups)
    assert grouped.n_groups == 80
    assert grouped.points[-1].score < alone.points[-1].score - 0.05


def test_a_small_part_is_held_back_more(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []

    def note(self: flow._Trial, x: FloatArray, y: IntArray, penalty: float, *, start: FloatArray) -> FloatArray:
        seen.append((len(x), penalty))
        return start

    monkeypatch.setattr(flow._Trial, "_fit", note)
    features, labels = make(120)
    run(features, labels, repeats=1, threads=1)
    assert seen[:4] == [
        (24, pytest.approx(0.4)),
        (48, pytest.approx(0.2)),
        (72, pytest.approx(0.4 / 3)),
        (96, pytest.approx(0.1)),
    ]


class Counting(SilentProgress):
    def __init__(self) -> None:
        self.tasks: list[list[Any]] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Any]:
        row: list[Any] = [name, total, 0]
        self.tasks.append(row)

        def advance(steps: int) -> None:
            row[2] += steps

        yield advance


def test_progress_reaches_its_end() -> None:
    progress = Counting()
    features, labels = make(60)
    run(features, labels, progress=progress, repeats=2)
    assert progress.tasks == [["Learning from parts", 10, 10]]


def test_unfit_input_is_refused() -> None:
    features, labels = make(60)
    with pytest.raises(InvalidInput, match="training set: got 19 pictures; want 20 or more"):
        run(features[:19], labels[:19])
    with pytest.raises(InvalidInput, match="groups: got 3 of 60 items"):
        run(features, labels, groups=np.arange(3))
    with pytest.raises(InvalidInput, match="want two groups or more"):
        run(features, features[:, :1], groups=np.zeros(60, dtype=np.int64), task="regression", class_count=1)
    with pytest.raises(InvalidInput, match="of two classes or more"):
        run(features, labels * 0)
    for fractions in ((0.5,), (0.5, 0.25), (0, 1), (0.5, 1.5)):
        with pytest.raises(InvalidConfig, match="fractions: got"):
            run(features, labels, fractions=fractions)
    with pytest.raises(InvalidConfig, match="repeats: got 0"):
        run(features, labels, repeats=0)
