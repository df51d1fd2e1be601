"""Metrics for regression: values (n, m), in the labels' units."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from drivetrain.errors import InvalidInput
from drivetrain.task import Task

from .metric import Array, Metric, load_sklearn, measured

__all__ = [
    "ExplainedVariance",
    "PearsonCorrCoef",
    "R2Score",
    "SpearmanCorrCoef",
    "exp_rmspe",
    "mae",
    "mse",
    "msle",
    "rmse",
]


@measured("regression")
def mse(preds: Array, targs: Array) -> float:
    """Mean squared error, in squared units."""
    return float(((preds - targs) ** 2).mean())


@measured("regression")
def rmse(preds: Array, targs: Array) -> float:
    """Root of the mean squared error, in the labels' units; large errors weigh more."""
    return math.sqrt(((preds - targs) ** 2).mean())


@measured("regression")
def mae(preds: Array, targs: Array) -> float:
    """Mean absolute error, in the labels' units."""
    return float(np.abs(preds - targs).mean())


@measured("regression")
def msle(preds: Array, targs: Array) -> float:
    """Mean squared difference of ln(1 + value): errors as shares. Values must be above -1."""
    for name, values in (("predictions", preds), ("targets", targs)):
        if (values <= -1).any():
            hint = "An error of values of both signs is told by mae or rmse."
            raise InvalidInput("msle", got=f"{name} down to {values.min():g}", want="values above -1", hint=hint)
    return float(((np.log1p(preds) - np.log1p(targs)) ** 2).mean())


@measured("regression")
def exp_rmspe(preds: Array, targs: Array) -> float:
    """Root mean squared error as a share of the truth, of values that are logarithms."""
    return math.sqrt((np.expm1(preds - targs) ** 2).mean())


class _OfEach(Metric):
    """The mean of a score over the m values; those whose score is NaN are left out."""

    task: Task = "regression"

    def measure(self, preds: Array, targs: Array) -> float:
        scores = np.array([self.score(preds[:, value], targs[:, value]) for value in range(preds.shape[1])])
        known = scores[~np.isnan(scores)]
        return float(known.mean()) if known.size else math.nan

    def score(self, preds: Array, targs: Array) -> float:
        """Of one value, (n,) both."""
        raise NotImplementedError


class R2Score(_OfEach):
    """Share of the labels' variance that is explained: 1 is perfect, 0 is their mean, below 0 is worse than that."""

    name = "r2_score"

    def score(self, preds: Array, targs: Array) -> float:
        return float(load_sklearn().r2_score(targs, preds)) if len(targs) > 1 else math.nan


class ExplainedVariance(_OfEach):
    """R2 with a constant error forgiven."""

    name = "explained_variance_score"

    def score(self, preds: Array, targs: Array) -> float:
        return float(load_sklearn().explained_variance_score(targs, preds)) if len(targs) > 1 else math.nan


class PearsonCorrCoef(_OfEach):
    """How straight the line is of the predicted against the true: 1, whatever its slope; NaN where one is constant."""

    name = "pearsonr"

    def score(self, preds: Array, targs: Array) -> float:
        from scipy.stats import pearsonr

        return _correlate(pearsonr, preds, targs)


class SpearmanCorrCoef(_OfEach):
    """How well the predicted put the pictures into the right order; NaN where all are equal."""

    name = "spearmanr"

    def score(self, preds: Array, targs: Array) -> float:
        from scipy.stats import spearmanr

        return _correlate(spearmanr, preds, targs)


def _correlate(correlation: Callable[[Array, Array], tuple[float, float]], preds: Array, targs: Array) -> float:
    if np.ptp(preds) == 0 or np.ptp(targs) == 0:
        return math.nan
    return float(correlation(preds, targs)[0])
