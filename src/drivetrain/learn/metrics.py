"""How good predictions are: (preds, targs) -> float, of all held-out pictures at once. docs/metrics.md explains each.

Names are fastai's; numbers are scikit-learn's where it has them. `preds` are what a Learner gives: probabilities (n, k)
of one label or of several, or values (n, m). `targs` are labels (n,) in [0, k), marks (n, k) of 0 and 1, or values
(n, m). Both may be torch tensors or numpy arrays. Of predictions that are not finite, every metric is NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from drivetrain.errors import InvalidConfig
from drivetrain.task import Task

from .label_metrics import (
    ECE,
    APScoreBinary,
    BalancedAccuracy,
    BrierScore,
    CohenKappa,
    ExpectedCalibrationError,
    F1Score,
    FBeta,
    Jaccard,
    MatthewsCorrCoef,
    Perplexity,
    Precision,
    Recall,
    RocAuc,
    RocAucBinary,
    accuracy,
    error_rate,
    top_k_accuracy,
)
from .metric import Array, Metric, MetricLike, check_metrics, metric_name
from .multilabel_metrics import (
    APScoreMulti,
    BrierScoreMulti,
    F1ScoreMulti,
    FBetaMulti,
    HammingLossMulti,
    JaccardMulti,
    MatthewsCorrCoefMulti,
    PrecisionMulti,
    RecallMulti,
    RocAucMulti,
    accuracy_multi,
)
from .value_metrics import (
    ExplainedVariance,
    PearsonCorrCoef,
    R2Score,
    SpearmanCorrCoef,
    exp_rmspe,
    mae,
    mse,
    msle,
    rmse,
)

__all__ = [
    "ECE",
    "APScoreBinary",
    "APScoreMulti",
    "BalancedAccuracy",
    "BrierScore",
    "BrierScoreMulti",
    "CohenKappa",
    "ExpectedCalibrationError",
    "ExplainedVariance",
    "F1Score",
    "F1ScoreMulti",
    "FBeta",
    "FBetaMulti",
    "HammingLossMulti",
    "Jaccard",
    "JaccardMulti",
    "MatthewsCorrCoef",
    "MatthewsCorrCoefMulti",
    "Metric",
    "MetricLike",
    "PearsonCorrCoef",
    "Perplexity",
    "Precision",
    "PrecisionMulti",
    "R2Score",
    "Recall",
    "RecallMulti",
    "RocAuc",
    "RocAucBinary",
    "RocAucMulti",
    "SpearmanCorrCoef",
    "accuracy",
    "accuracy_multi",
    "check_metrics",
    "error_rate",
    "exp_rmspe",
    "mae",
    "metric_name",
    "mse",
    "msle",
    "rmse",
    "skm_to_metric",
    "top_k_accuracy",
]


class _FromFunction(Metric):
    def __init__(self, func: Callable[..., Any], *, task: Task, thresh: Any, is_label: bool, options: Any) -> None:
        super().__init__(name=getattr(func, "__name__", "metric"))
        self.task = task
        self._func, self._thresh, self._is_label, self._options = func, thresh, is_label, options

    def measure(self, preds: Array, targs: Array) -> float:
        if self._is_label:
            preds = preds.argmax(axis=1) if self._thresh is None else (preds > self._thresh).astype(np.int64)
        number = np.asarray(self._func(targs, preds, **self._options))
        if number.ndim:
            want = "one number: give it an average, or another option that makes one of them"
            raise InvalidConfig(f"the metric {self.name}", got=f"{number.size} numbers", want=want)
        return float(number)


def skm_to_metric(
    func: Callable[..., Any],
    is_class: bool = True,
    thresh: float | None = None,
    *,
    task: Task | None = None,
    name: str | None = None,
    **options: Any,
) -> Metric:
    """A metric of any function of scikit-learn's shape, func(true, predicted, **options).

    It is given the most probable labels (n,); with `thresh` the marks (n, k) of several labels; with is_class=False the
    values (n, m) as they are. `task="classification", is_class=False` gives it the probabilities (n, k) of one label.
    """
    natural: Task = "regression" if not is_class else "classification" if thresh is None else "multilabel"
    metric = _FromFunction(func, task=task or natural, thresh=thresh, is_label=is_class, options=options)
    metric.name = name or metric.name
    return metric
