"""The method `auto`: how much to train, decided by trials on the training pictures and by nothing else.

Head first. If it leaves room, a top is tried: head and top are both trained without a fifth of the training pictures,
and judged on it; on further fifths where the first were few and cannot tell. The trial is short, so it tells less of a
gain than the whole training brings, but it tells of a loss: then the head is kept, and on few pictures where there is
no gain. A top costs nothing more to serve. The pictures held out for calibration are not looked at, nor a test folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.targets import find_strata
from drivetrain.flows.fit_top import TopPlan, TopTrainer, find_cuts, plan_top
from drivetrain.flows.fitting import FitInput, Fitted, fit_by_head, fit_first_head
from drivetrain.flows.probe import estimate_seconds, measure_gap
from drivetrain.learn.device import has_gpu
from drivetrain.learn.folds import deal_folds
from drivetrain.learn.head import Head
from drivetrain.trust.compare import Comparison, compare_predictions

__all__ = ["fit_by_auto"]

_FOLDS = 5
_MOST_TRIALS = 3
_ENOUGH = 500  # pictures judged: more would cost as much again, and seldom change the choice
_LEARNED_FROM = 1800  # pictures of a trial, at most
_MANY = 1000  # pictures to train on: measured, from here on a top gains (1 to 3 points on clothing, 19 on textile)
_LEAST_PICTURES = 200  # to train on; on fewer a fold says too little, and a linear head is what they bear
_GOOD_ENOUGH = 0.99  # of the head's cross-validated score: what is left is too little to find
# Score of a head on an early piece's features less that on the last ones. Measured: -0.11 to -0.17 on photographs of
# clothing, -0.01 to +0.01 on textile under a lens; there training from the early cut gave 0.95, from the late one 0.82.
_ALIKE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What the folds tried so far say of a plan."""

    comparison: Comparison
    n_folds: int


def fit_by_auto(given: FitInput) -> Fitted:
    """Choose between head, top at either cut, and, on a GPU, full; say what was chosen and why."""
    head = fit_first_head(given)
    if reason := _why_head(given, head):
        return _tell(fit_by_head(given, head), f"auto chose head: {reason}.")
    if has_gpu():  # pragma: no cover - needs a GPU
        from drivetrain.flows.fit_full import fit_by_full

        return _tell(fit_by_full(given, head=head), "auto chose full: there is a GPU, where it takes no longer.")
    plan, why_cut = _choose_cut(given)
    trainer = TopTrainer(given, plan)
    trial = _try(given, trainer, head)
    found = trial.comparison
    where = f"in {trial.n_folds} of {_FOLDS} folds of the training pictures"
    told = found.sentence
    is_worse = found.is_told_apart and found.gain < 0
    if is_worse or (found.gain < 0 and len(given.train.items) < _MANY):
        fitted = _tell(fit_by_head(given, head), f"auto chose head over top: {told}, {where}.")
    else:
        fitted = _tell(trainer.finish(head), f"auto chose top: {told}, {where}. {why_cut}")
    record = {**fitted.record, "auto": {"comparison": found.as_json(), "folds": trial.n_folds, "cut": plan.cut}}
    return replace(fitted, record=record)


def _why_head(given: FitInput, head: Head) -> str:
    """Why nothing more is tried; "" if something is."""
    n = len(given.train.items)
    if n < _LEAST_PICTURES:
        return f"{n:,} pictures to train on are too few to train more ({_LEAST_PICTURES} are asked for)"
    if head.cv_score >= _GOOD_ENOUGH:
        return f"its cross-validated {head.score_name} is {head.cv_score:.3f} already"
    if not np.ptp(_deal(given)):
        return "the pictures to train on are all of one group, so that no fold of them can judge another"
    try:
        find_cuts(given)
    except ValueError as exc:
        return f"the backbone cannot be trained in part ({exc})"
    return ""


def _choose_cut(given: FitInput) -> tuple[TopPlan, str]:
    """Where to begin training, a sentence on it, and how long that will take, said before it begins."""
    late, early = plan_top(given), plan_top(given, is_early=True)
    gap = measure_gap(given, early.cut) if early.cut < late.cut else None
    is_early = gap is not None and gap > -_ALIKE
    plan = early if is_early else late
    seconds = estimate_seconds(given, plan, fits=2)
    given.progress.say(
        f"auto: trying to train the network from piece {plan.cut} on, {plan.epochs} epochs over {plan.views} views a "
        f"picture; with the training on all pictures that takes about {_round_time(seconds)}."
    )
    if gap is None or not is_early:
        return plan, ""
    return plan, (
        f"Training begins early, at piece {plan.cut}: features from there tell the classes as well as the last ones do "
        f"({100 * gap:+.1f} points), so these pictures are unlike those the backbone was trained on."
    )


def _round_time(seconds: float) -> str:
    return f"{max(10, round(seconds, -1)):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _try(given: FitInput, trainer: TopTrainer, head: Head) -> _Trial:
    """Until head and top can be told apart, or enough was tried."""
    folds = _deal(given)
    names = np.unique(folds)  # of few groups some folds have none
    held: list[IntArray] = []
    answers: list[tuple[FloatArray, FloatArray]] = []  # of head and top
    for fold in names[:_MOST_TRIALS].tolist():
        rows, out = np.flatnonzero(folds != fold)[:_LEARNED_FROM], np.flatnonzero(folds == fold)
        answers.append(trainer.try_part(head, rows, out, label=f"Trying the top on fold {fold + 1} of {_FOLDS}"))
        held.append(out)
        if len(np.unique(given.train.groups[np.concatenate(held)])) < 2:
            continue  # one group alone has no spread
        comparison = _compare(given, held, answers)
        if comparison.is_told_apart or comparison.gain < 0 or comparison.n >= _ENOUGH:
            break
    return _Trial(comparison=comparison, n_folds=len(held))


def _deal(given: FitInput) -> IntArray:
    """(n,) a fold for each training picture."""
    train = given.train
    strata = find_strata(train.targets, task=given.task)
    return deal_folds(strata, count=_FOLDS, groups=train.groups, part_tied=given.task != "regression")


def _compare(given: FitInput, held: Sequence[IntArray], answers: Sequence[tuple[FloatArray, FloatArray]]) -> Comparison:
    rows = np.concatenate(held)
    return compare_predictions(
        np.concatenate([top for _, top in answers]),
        np.concatenate([head for head, _ in answers]),
        given.train.targets[rows],
        task=given.task,
        reference="head",
        groups=given.train.groups[rows],
    )


def _tell(fitted: Fitted, sentence: str) -> Fitted:
    return replace(fitted, notes=(sentence.strip(), *fitted.notes))
