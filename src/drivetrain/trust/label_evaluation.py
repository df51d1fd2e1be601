"""What a model of several labels a picture is worth on labelled pictures, every share with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import LEAST_DRAWN, Rate, draw_counts, mean_with_interval, weigh
from drivetrain.trust.evaluation import (
    DeferralEvaluation,
    OodEvaluation,
    check_groups,
    measure_deferral,
    measure_ood,
    take_groups,
)
from drivetrain.trust.pieces import count_pieces

__all__ = ["LabelEvaluation", "MultiLabelEvaluation", "average_precision", "evaluate_labels"]

_REPEATS = 1_000
_MOST_DRAWN = 2_000_000_000  # probabilities ranked in all resamples: above it these become fewer, to last seconds
_BLOCK_VALUES = 2_000_000  # drawn values at a time: 16 MB each of a handful of tables
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelEvaluation:
    """One label. What cannot be said (a share of nothing) is None, with the interval (0, 1).

    F1 and average precision have drawn intervals: None for fewer than LEAST_DRAWN pictures, or groups.
    """

    label: str
    n: int  # pictures with it
    n_predicted: int  # pictures said to have it
    precision: float | None
    precision_low: float
    precision_high: float
    recall: float | None
    recall_low: float
    recall_high: float
    f1: float | None
    f1_low: float | None
    f1_high: float | None
    average_precision: float | None  # None where no picture has the label
    average_precision_low: float | None
    average_precision_high: float | None
    n_decided: int  # pictures for which the model itself said present or absent
    n_wrong: int  # of those
    error: float | None
    error_low: float
    error_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiLabelEvaluation:
    """All numbers of one evaluation; `_low` and `_high` are ends of 95 % intervals.

    Means over labels leave out those that no picture has. Their intervals draw whole pictures; they and that of the
    Brier score are None for fewer than LEAST_DRAWN, or for fewer groups of them.
    """

    n: int
    n_exact: int  # pictures with every label right, by the best guess
    exact: float
    exact_low: float
    exact_high: float
    macro_f1: float | None
    macro_f1_low: float | None
    macro_f1_high: float | None
    macro_average_precision: float | None
    macro_average_precision_low: float | None
    macro_average_precision_high: float | None
    micro_f1: float | None
    wrong_share: float  # of all labels of all pictures, by the best guess (Hamming loss)
    brier: float  # mean over labels of the squared distance, in [0, 1]
    brier_low: float | None
    brier_high: float | None
    ece: float  # expected calibration error of a label's probability, mean over labels
    classes: tuple[str, ...]
    per_label: tuple[LabelEvaluation, ...]  # in the order of classes
    deferral: DeferralEvaluation  # pictures of which the model decided every label, and had one wrong
    ood: OodEvaluation
    shifted: OodEvaluation  # of the right kind, in a style it has not seen
    task: str = "multilabel"

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        plain = asdict(self)
        plain["classes"], plain["per_label"] = list(plain["classes"]), list(plain["per_label"])
        return {"task": plain.pop("task"), **plain}


def average_precision(probs: FloatArray, is_present: BoolArray) -> float | None:
    """Mean of the precision at each picture found, the likeliest first, in [0, 1]; None where there is none to find.

    probs and is_present are (n,). Equal probabilities count as one step, as in scikit-learn.
    """
    value = _Ranking.of(probs, is_present).average_precision(np.ones((1, len(probs))))[0]
    return None if np.isnan(value) else float(value)


def evaluate_labels(
    probs: FloatArray,
    targets: FloatArray,
    *,
    classes: Sequence[str],
    guessed: BoolArray,
    decided: BoolArray,
    flagged: BoolArray,
    shifted: BoolArray | None = None,
    groups: IntArray | None = None,
) -> MultiLabelEvaluation:
    """Measure predictions against labels.

    probs is (n, k), a probability for each label by itself; targets is (n, k) of 0 and 1; guessed says which labels the
    best guess holds, decided which the model answers alone, both (n, k); flagged which pictures are out of domain,
    shifted which are of a style it has not seen (None: it does not look), both (n,). Shares have Wilson intervals; F1
    and average precision percentile bootstrap intervals over pictures (1,000 resamples, fixed seed). Groups
    (n,) of pictures that are alike are drawn together, and counted by their likeness in shares. Raises InvalidInput if
    n is 0 or shapes do not fit.
    """
    odd = np.zeros(len(probs), dtype=np.bool_) if shifted is None else shifted
    truth = _check(probs, targets, classes, guessed=guessed, decided=decided, flagged=flagged, shifted=odd)
    n, k = truth.shape
    check_groups(groups, n)
    counts = draw_counts(n, repeats=min(_REPEATS, _MOST_DRAWN // (n * k)), groups=groups)
    scores = [_bootstrap(probs[:, at], truth[:, at], guessed[:, at], counts) for at in range(k)]
    rows = tuple(
        _evaluate_label(name, truth[:, at], guessed[:, at], decided[:, at], scores[at], groups)
        for at, name in enumerate(classes)
    )
    wrong = guessed != truth
    exact = Rate.of(np.asarray((~wrong).all(axis=1)), groups)
    pieces = count_pieces(n, groups)
    return MultiLabelEvaluation(
        n=n,
        n_exact=exact.hits,
        exact=exact.hits / n,
        exact_low=exact.low,
        exact_high=exact.high,
        **_macro("macro_f1", [row.f1 for row in rows], [of.f1 for of in scores], pieces),
        **_macro(
            "macro_average_precision",
            [row.average_precision for row in rows],
            [of.average_precision for of in scores],
            pieces,
        ),
        micro_f1=2 * int((guessed & truth).sum()) / n_marks if (n_marks := int(guessed.sum() + truth.sum())) else None,
        wrong_share=float(wrong.mean()),
        **mean_with_interval("brier", ((probs - truth) ** 2).mean(axis=1), groups),
        ece=float(np.mean([_calibration_error(probs[:, at], truth[:, at]) for at in range(k)])),
        classes=tuple(classes),
        per_label=rows,
        deferral=measure_deferral(np.asarray(decided.all(axis=1)), np.asarray((wrong & decided).any(axis=1)), groups),
        ood=measure_ood(flagged, groups),
        shifted=measure_ood(odd, groups),
    )


def _check(
    probs: FloatArray,
    targets: FloatArray,
    classes: Sequence[str],
    **marks_of: BoolArray,
) -> BoolArray:
    shape = probs.shape
    if len(shape) != 2 or not probs.size or not (probs.min() >= 0 and probs.max() <= 1):
        raise InvalidInput("probs", got=f"shape {shape}", want="probabilities of shape (n, k), n and k of at least 1")
    if targets.shape != shape or not np.isin(targets, (0, 1)).all():
        raise InvalidInput("targets", got=f"{targets.dtype} of shape {targets.shape}", want=f"0 and 1 of shape {shape}")
    if len(classes) != shape[1] or len(set(classes)) != shape[1]:
        raise InvalidInput("classes", got=list(classes), want=f"{shape[1]} different names, one for each column")
    for name, marks in marks_of.items():
        want = shape if name in {"guessed", "decided"} else shape[:1]
        if marks.shape != want or marks.dtype != np.bool_:
            raise InvalidInput(name, got=f"{marks.dtype} of shape {marks.shape}", want=f"bool of shape {want}")
    return np.asarray(targets) > 0.5


class _Ranking(NamedTuple):
    """A label's pictures, the likeliest first; `end` is the last place of the same probability."""

    order: np.ndarray[Any, np.dtype[np.int64]]
    is_present: BoolArray
    end: np.ndarray[Any, np.dtype[np.int64]]

    @classmethod
    def of(cls, probs: FloatArray, is_present: BoolArray) -> _Ranking:
        order = np.argsort(-probs, kind="stable").astype(np.int64)
        ranked = probs[order]
        ends = np.append(np.flatnonzero(ranked[:-1] != ranked[1:]), len(ranked) - 1)
        return cls(order, is_present[order], ends[np.searchsorted(ends, np.arange(len(ranked)))].astype(np.int64))

    def average_precision(self, counts: FloatArray) -> FloatArray:
        """(r,) for r draws; counts (r, n) says how often each picture was drawn. NaN where none was to be found."""
        blocks = np.array_split(counts, max(1, counts.size // _BLOCK_VALUES))
        return np.concatenate([self._average_precision(block.astype(np.float64)) for block in blocks])

    def _average_precision(self, counts: FloatArray) -> FloatArray:
        weights = counts[:, self.order]
        hits = weights * self.is_present
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.cumsum(hits, axis=1)[:, self.end] / np.cumsum(weights, axis=1)[:, self.end]
            out: FloatArray = np.nansum(hits * precision, axis=1) / hits.sum(axis=1)
        return out


class _Draws(NamedTuple):
    """A score in each of r draws, (r,); NaN where it cannot be said."""

    f1: FloatArray
    average_precision: FloatArray
    measured: float | None  # the average precision of the pictures themselves


def _bootstrap(probs: FloatArray, truth: BoolArray, guessed: BoolArray, counts: FloatArray) -> _Draws:
    both, said, there = (weigh(counts, marks) for marks in (truth & guessed, guessed, truth))
    with np.errstate(invalid="ignore"):
        f1 = 2 * both / (said + there)
    ranking = _Ranking.of(probs, truth)
    measured = float(ranking.average_precision(np.ones((1, len(probs))))[0])
    return _Draws(f1, ranking.average_precision(counts), None if np.isnan(measured) else measured)


def _evaluate_label(
    label: str, truth: BoolArray, guessed: BoolArray, decided: BoolArray, draws: _Draws, groups: IntArray | None
) -> LabelEvaluation:
    precision = Rate.of(truth[guessed], take_groups(groups, guessed))
    recall = Rate.of(guessed[truth], take_groups(groups, truth))
    error = Rate.of((truth != guessed)[decided], take_groups(groups, decided))
    pieces = count_pieces(len(truth), groups)
    f1_low, f1_high = _interval(draws.f1, pieces)
    ap_low, ap_high = _interval(draws.average_precision, pieces)
    return LabelEvaluation(
        label=label,
        n=recall.n,
        n_predicted=precision.n,
        precision=precision.share,
        precision_low=precision.low,
        precision_high=precision.high,
        recall=recall.share,
        recall_low=recall.low,
        recall_high=recall.high,
        f1=2 * recall.hits / (recall.n + precision.n) if recall.n + precision.n else None,
        f1_low=f1_low,
        f1_high=f1_high,
        average_precision=draws.measured,
        average_precision_low=ap_low,
        average_precision_high=ap_high,
        n_decided=error.n,
        n_wrong=error.hits,
        error=error.share,
        error_low=error.low,
        error_high=error.high,
    )


def _interval(drawn: FloatArray, n: int) -> tuple[float, float] | tuple[None, None]:
    """Of what was drawn from n pictures, or groups of them."""
    if n < LEAST_DRAWN:
        return None, None
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return 0.0, 1.0
    low, high = np.quantile(known, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return float(low), float(high)


def _macro(name: str, values: Sequence[float | None], draws: Sequence[FloatArray], n: int) -> dict[str, Any]:
    """The mean over the labels that have a value, and its interval."""
    known = [value for value in values if value is not None]
    rows = [drawn for value, drawn in zip(values, draws, strict=True) if value is not None]
    if not known:
        low, high = _interval(np.zeros(0), n)
        return {name: None, f"{name}_low": low, f"{name}_high": high}
    table = np.stack(rows)  # (labels, r)
    n_said = (~np.isnan(table)).sum(axis=0)
    means = np.where(n_said > 0, np.nansum(table, axis=0) / np.maximum(n_said, 1), np.nan)
    low, high = _interval(means, n)
    return {name: sum(known) / len(known), f"{name}_low": low, f"{name}_high": high}


def _calibration_error(probs: FloatArray, truth: BoolArray, *, bins: int = 15) -> float:
    """Mean gap between the probability of a label and how often it is there, over groups of equally many pictures."""
    _, group, sizes = np.unique(probs, return_inverse=True, return_counts=True)
    middle = np.cumsum(sizes) - sizes / 2
    place = (middle * bins / len(probs)).astype(np.int64)[group]
    n_of = np.bincount(place, minlength=bins)
    gap = np.bincount(place, weights=probs, minlength=bins) - np.bincount(place, weights=truth, minlength=bins)
    return float(np.abs(gap).sum() / n_of.sum())
