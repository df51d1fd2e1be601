"""What a model that measures is worth on measured pictures, every number with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import LEAST_DRAWN, Rate, draw_counts, weigh
from drivetrain.trust.evaluation import OodEvaluation, check_groups, measure_ood
from drivetrain.trust.pieces import count_pieces

__all__ = ["AloneEvaluation", "OutputEvaluation", "ValueEvaluation", "evaluate_values"]

_REPEATS = 2_000
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputEvaluation:
    """One value, in the unit of the labels; drawn intervals (all but `covered`) need LEAST_DRAWN pictures or groups."""

    name: str
    mae: float  # mean distance from the truth
    mae_low: float | None
    mae_high: float | None
    rmse: float  # root of the mean squared distance
    rmse_low: float | None
    rmse_high: float | None
    r2: (
        float | None
    )  # 1 - squared distance / that of always saying the mean of these; None where the truth never varies
    r2_low: float | None
    r2_high: float | None
    bias: float  # mean of answer minus truth
    bias_low: float | None
    bias_high: float | None
    truth_spread: float  # standard deviation of the truth
    covered: float | None  # share of pictures whose interval holds the truth; None where the model gives no interval
    covered_low: float
    covered_high: float
    interval_width: float | None  # mean, from low to high


@dataclass(frozen=True, slots=True, kw_only=True)
class AloneEvaluation:
    """What the model answers alone: pictures that are not unlike all it knows."""

    n_accepted: int
    coverage: float  # share accepted
    coverage_low: float
    coverage_high: float
    mae: tuple[float, ...] | None  # of the accepted, by value; None when there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueEvaluation:
    """All numbers of one evaluation; `_low` and `_high` are ends of 95 % intervals."""

    n: int
    classes: tuple[str, ...]  # the names of the values
    per_value: tuple[OutputEvaluation, ...]  # in the order of classes
    deferral: AloneEvaluation
    ood: OodEvaluation
    shifted: OodEvaluation  # of the right kind, in a style it has not seen
    task: str = "regression"

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        plain = asdict(self)
        plain["classes"], plain["per_value"] = list(plain["classes"]), list(plain["per_value"])
        if self.deferral.mae is not None:
            plain["deferral"]["mae"] = list(self.deferral.mae)
        return {"task": plain.pop("task"), **plain}


def evaluate_values(
    values: FloatArray,
    targets: FloatArray,
    *,
    classes: Sequence[str],
    intervals: FloatArray | None,
    accepted: BoolArray,
    flagged: BoolArray,
    shifted: BoolArray | None = None,
    groups: IntArray | None = None,
) -> ValueEvaluation:
    """Measure answers against the truth.

    values and targets are (n, m), in the same unit; intervals is (n, m, 2), low and high, NaN where the model gives
    none (None: nowhere); accepted, flagged and shifted (None: it does not look) are (n,). Means have percentile
    bootstrap intervals over pictures (2,000 resamples, fixed seed), shares Wilson intervals. Groups (n,) of
    pictures that are alike are drawn together, and counted by their likeness in shares. Raises InvalidInput if n is 0,
    shapes do not fit, or a number is not finite.
    """
    said, true = np.asarray(values, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if said.ndim != 2 or not said.size or said.shape != true.shape:
        raise InvalidInput("values", got=f"shapes {said.shape} and {true.shape}", want="two of shape (n, m)")
    if not (np.isfinite(said).all() and np.isfinite(true).all()):
        raise InvalidInput("values", got="numbers that are not finite", want="finite ones")
    n, m = said.shape
    if len(classes) != m:
        raise InvalidInput("classes", got=list(classes), want=f"{m} names, one for each column")
    odd = np.zeros(n, dtype=np.bool_) if shifted is None else shifted
    if accepted.shape != (n,) or flagged.shape != (n,) or odd.shape != (n,):
        got = f"shapes {accepted.shape}, {flagged.shape} and {odd.shape}"
        raise InvalidInput("accepted", got=got, want=f"({n},)")
    bounds = np.full((n, m, 2), np.nan) if intervals is None else np.asarray(intervals, dtype=np.float64)
    check_groups(groups, n)
    counts = draw_counts(n, repeats=_REPEATS, groups=groups)
    alone = Rate.of(accepted, groups)
    errors = np.abs(said - true)[accepted]
    return ValueEvaluation(
        n=n,
        classes=tuple(classes),
        per_value=tuple(
            _evaluate_output(name, said[:, at], true[:, at], bounds[:, at], counts, groups)
            for at, name in enumerate(classes)
        ),
        deferral=AloneEvaluation(
            n_accepted=alone.hits,
            coverage=alone.hits / n,
            coverage_low=alone.low,
            coverage_high=alone.high,
            mae=tuple(map(float, errors.mean(axis=0))) if len(errors) else None,
        ),
        ood=measure_ood(flagged, groups),
        shifted=measure_ood(odd, groups),
    )


def _evaluate_output(
    name: str, said: FloatArray, true: FloatArray, bounds: FloatArray, counts: FloatArray, groups: IntArray | None
) -> OutputEvaluation:
    gap = said - true
    squared = gap**2
    middle = float(true.mean())
    centred = true - middle  # so that the variance of a draw does not drown in the mean's rounding
    n = count_pieces(len(true), groups)
    drawn_n = weigh(counts, np.ones(len(true)))
    drawn_squared = weigh(counts, squared) / drawn_n
    drawn_spread = weigh(counts, centred**2) / drawn_n - (weigh(counts, centred) / drawn_n) ** 2
    spread = float(np.mean(centred**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn_r2 = np.where(drawn_spread > 0, 1 - drawn_squared / drawn_spread, np.nan)
    has_interval = bool(np.isfinite(bounds).all())
    is_covered = (true >= bounds[:, 0]) & (true <= bounds[:, 1])
    covered = Rate.of(is_covered, groups) if has_interval else Rate.of(is_covered[:0])
    return OutputEvaluation(
        name=name,
        **_with_interval("mae", float(np.abs(gap).mean()), weigh(counts, np.abs(gap)) / drawn_n, n),
        **_with_interval("rmse", float(squared.mean() ** 0.5), np.sqrt(drawn_squared), n),
        **_with_interval("r2", 1 - float(squared.mean()) / spread if spread > 0 else None, drawn_r2, n),
        **_with_interval("bias", float(gap.mean()), weigh(counts, gap) / drawn_n, n),
        truth_spread=spread**0.5,
        covered=covered.share,
        covered_low=covered.low,
        covered_high=covered.high,
        interval_width=float((bounds[:, 1] - bounds[:, 0]).mean()) if has_interval else None,
    )


def _with_interval(name: str, value: float | None, drawn: FloatArray, n: int) -> dict[str, Any]:
    if n < LEAST_DRAWN:
        return {name: value, f"{name}_low": None, f"{name}_high": None}
    known = drawn[np.isfinite(drawn)]
    if value is None or not len(known):
        return {name: value, f"{name}_low": 0.0, f"{name}_high": 1.0}  # only of r2, which nothing is known of
    low, high = np.quantile(known, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return {name: value, f"{name}_low": float(low), f"{name}_high": float(high)}
