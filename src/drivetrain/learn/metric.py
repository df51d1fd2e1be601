"""What a metric is: what it may be given, how that is read, and whether it can say anything of a task."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec

import numpy as np
from numpy.typing import NDArray

from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra
from drivetrain.task import Task

__all__ = [
    "Array",
    "Metric",
    "MetricLike",
    "average_precision",
    "check_average",
    "check_metrics",
    "load_sklearn",
    "marks_correlation",
    "mean_of_labels",
    "measured",
    "metric_name",
    "rank_score",
    "read_predictions",
]

Array = NDArray[Any]
MetricLike = Callable[[Any, Any], float]
_P = ParamSpec("_P")

_OTHERS: dict[Task, str] = {
    "classification": "accuracy, F1Score, RocAuc or BrierScore",
    "multilabel": "accuracy_multi, F1ScoreMulti, RocAucMulti or APScoreMulti",
    "regression": "mae, rmse or R2Score",
}
_TARGETS: dict[Task, str] = {
    "classification": "probabilities (n, k) and a label (n,) for each row",
    "multilabel": "probabilities (n, k) and marks of 0 and 1 (n, k)",
    "regression": "values (n, m) and true ones of the same shape",
}


class Metric:
    """A number for predictions against targets; `name` heads its column and can be set.

    A subclass says `task` and `measure`, and may say `name` and `check`.
    """

    name: str = "metric"
    task: Task = "classification"

    def __init__(self, *, name: str | None = None) -> None:
        if name is not None:
            self.name = name

    def __call__(self, preds: Any, targs: Any) -> float:
        rows, truth = read_predictions(self.name, self.task, preds, targs)
        self.check(rows.shape[1])
        return float(self.measure(rows, truth)) if np.isfinite(rows).all() else math.nan

    def measure(self, preds: Array, targs: Array) -> float:
        """The number for float64 predictions (n, k), all finite, and int64 or float64 targets of the task's shape."""
        raise NotImplementedError

    def check(self, count: int) -> None:
        """Raise InvalidConfig if it says nothing of `count` classes, labels or values."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def measured(
    task: Task,
) -> Callable[[Callable[Concatenate[Array, Array, _P], float]], Callable[Concatenate[Any, Any, _P], float]]:
    """Let a function of arrays take what a Metric takes; `check_metrics` reads its `task`."""

    def decorate(func: Callable[Concatenate[Array, Array, _P], float]) -> Callable[Concatenate[Any, Any, _P], float]:
        @wraps(func)
        def call(preds: Any, targs: Any, /, *args: _P.args, **options: _P.kwargs) -> float:
            rows, truth = read_predictions(func.__name__, task, preds, targs)
            return float(func(rows, truth, *args, **options)) if np.isfinite(rows).all() else math.nan

        call.__dict__["task"] = task
        return call

    return decorate


def check_metrics(metrics: Iterable[MetricLike], *, task: Task, count: int) -> None:
    """Refuse what cannot be computed, before an epoch is spent: the wrong task, too many classes, a name given twice.

    `count` is how many classes, labels or values there are.
    """
    names: set[str] = set()
    for metric in metrics:
        name, inner = metric_name(metric), _inner(metric)
        if name in names:
            hint = "Give one another: F1Score(average='micro', name='micro_f1')."
            raise InvalidConfig("metrics", got=f"two named {name!r}", want="a name of its own for each", hint=hint)
        names.add(name)
        own_task: Task = getattr(inner, "task", task)
        if own_task != task:
            hint = f"For {task} there are {_OTHERS[task]}."
            raise InvalidConfig(f"the metric {name}", got=f"a model for {task}", want=f"one for {own_task}", hint=hint)
        if isinstance(inner, Metric):
            inner.check(count)


def metric_name(metric: MetricLike) -> str:
    """What heads its column: its `name`, else that of the function, also within a partial."""
    inner = _inner(metric)
    return str(getattr(inner, "name", None) or getattr(inner, "__name__", None) or type(inner).__name__)


def read_predictions(name: str, task: Task, preds: Any, targs: Any) -> tuple[Array, Array]:
    """Predictions float64 (n, k) and the task's targets; InvalidInput, naming metrics that fit, if they do not match.

    Tensors may be on any device and of any float type. Values (n,) are read as (n, 1).
    """
    rows, truth = _as_array(preds), _as_array(targs)
    if task == "regression":
        rows, truth = (values.reshape(len(values), -1) if values.ndim else values for values in (rows, truth))
    elif task == "classification" and truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if rows.ndim != 2 or not rows.size or truth.shape != rows.shape[: 1 if task == "classification" else 2]:
        others = "; ".join(f"for {other} there are {names}" for other, names in _OTHERS.items() if other != task)
        got = f"predictions {rows.shape} and targets {truth.shape}"
        raise InvalidInput(name, got=got, want=_TARGETS[task], hint=f"It is for {task}; {others}.")
    rows = rows.astype(np.float64)
    if task == "regression":
        return rows, truth.astype(np.float64)
    whole = truth.astype(np.int64)
    top = rows.shape[1] - 1 if task == "classification" else 1
    if (whole != truth).any() or whole.min() < 0 or whole.max() > top:
        raise InvalidInput(name, got=f"targets from {truth.min()} to {truth.max()}", want=f"whole ones from 0 to {top}")
    return rows, whole


def check_average(owner: str, average: object, allowed: Collection[str]) -> None:
    """Refuse an average that is not `allowed`; None too, since a metric is one number."""
    if average not in allowed:
        raise InvalidConfig(f"{owner}(average)", got=average, want=f"one of {', '.join(sorted(allowed))}")


def mean_of_labels(score: Callable[[Array, Array], float], targs: Array, probs: Array, average: str) -> float:
    """`score` of each label's marks and probabilities, (n, k) both, made one number; NaN if no label has a score.

    "micro" pools all labels; "macro" weighs them alike, "weighted" by their marks. Labels whose score is NaN, for
    want of pictures that are so or are not so, are left out.
    """
    if average == "micro":
        return score(targs.ravel(), probs.ravel())
    scores = np.array([score(targs[:, label], probs[:, label]) for label in range(targs.shape[1])])
    known = ~np.isnan(scores)
    if not known.any():
        return math.nan
    weights = targs.sum(axis=0)[known] if average == "weighted" else None
    return float(np.average(scores[known], weights=weights))


def rank_score(marks: Array, probs: Array, *, max_fpr: float | None = None) -> float:
    """Area under the ROC curve of 0-1 marks (n,); NaN where they are all alike."""
    if marks.min() == marks.max():
        return math.nan
    return float(load_sklearn().roc_auc_score(marks, probs, max_fpr=max_fpr))


def average_precision(marks: Array, probs: Array) -> float:
    """Average precision of 0-1 marks (n,); NaN where none is 1."""
    return float(load_sklearn().average_precision_score(marks, probs)) if marks.any() else math.nan


def marks_correlation(called: Array, true: Array) -> float:
    """Matthews correlation of labels (n,); 0 where there is one label alone."""
    if len(np.union1d(called, true)) < 2:
        return 0.0
    return float(load_sklearn().matthews_corrcoef(true, called))


def load_sklearn() -> Any:
    """`sklearn.metrics`, loaded when a metric of it is first computed."""
    try:
        import sklearn.metrics
    except ModuleNotFoundError as exc:
        raise MissingExtra("this metric", package=exc.name or "scikit-learn", extra="train") from None
    return sklearn.metrics


def _inner(metric: Any) -> Any:
    return _inner(metric.func) if isinstance(metric, partial) else metric


def _as_array(values: Any) -> Array:
    if hasattr(values, "detach"):  # a tensor: bfloat16 has no counterpart in numpy
        values = values.detach().cpu()
        values = values.double() if values.is_floating_point() else values
    return np.asarray(values)
