"""Which calibration a model gets: none, a temperature, or a temperature and a bias for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.calibration import fit_bias_corrected, fit_temperature, log_softmax, scale_logits

__all__ = ["Scaling", "ScalingMethod", "choose_scaling"]

ScalingMethod = Literal["none", "temperature", "bias_corrected_temperature"]
_LEAST_FOR_TEMPERATURE = 30  # pictures; on fewer, a lucky draw would make the model sure of everything
_LEAST_FOR_BIAS = 10  # pictures of each class


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Calibrated logits are logits / temperature + bias; and how that was chosen."""

    method: ScalingMethod
    temperature: float
    bias: FloatArray | None  # (k,), only of bias_corrected_temperature
    n: int  # pictures it was fitted to
    temperature_loss: float | None = None  # cross-fitted log-loss with a temperature alone; None: not compared
    bias_loss: float | None = None  # the same with a bias too

    def apply(self, logits: FloatArray) -> FloatArray:
        """Calibrated logits of (k,) or (n, k), float64."""
        return scale_logits(logits, temperature=self.temperature, bias=self.bias)


def choose_scaling(logits: FloatArray, labels: IntArray, *, folds: IntArray | None = None) -> Scaling:
    """Fit to logits (n, k) and labels (n,) that neither trained nor selected; nothing below 30 pictures.

    A bias is fitted where every class has ten pictures, and taken only where it lowers the log-loss on pictures it was
    not fitted to (each of the `folds` (n,), fitted to the others) by more than the standard error of that difference:
    it has k numbers to the temperature's one, and moves answers. Without folds there is no comparison, so no bias.
    """
    n, k = logits.shape
    if folds is not None and len(folds) != n:
        raise InvalidInput("folds", got=f"{len(folds)} of {n} pictures", want="a fold for each picture")
    if n < _LEAST_FOR_TEMPERATURE:
        return Scaling(method="none", temperature=1.0, bias=None, n=n)
    plain = Scaling(method="temperature", temperature=fit_temperature(logits, labels), bias=None, n=n)
    if folds is None or np.bincount(labels, minlength=k).min() < _LEAST_FOR_BIAS or np.ptp(folds) == 0:
        return plain
    losses = np.empty((2, n))
    for fold in np.unique(folds):
        rest, out = folds != fold, folds == fold
        biased = fit_bias_corrected(logits[rest], labels[rest])
        for row, (temperature, bias) in zip(
            losses, ((fit_temperature(logits[rest], labels[rest]), None), biased), strict=True
        ):
            log_probs = log_softmax(scale_logits(logits[out], temperature=temperature, bias=bias))
            row[out] = -log_probs[np.arange(len(log_probs)), labels[out]]
    gain = losses[0] - losses[1]
    told = {"temperature_loss": float(losses[0].mean()), "bias_loss": float(losses[1].mean())}
    if gain.mean() <= gain.std(ddof=1) / n**0.5:
        return Scaling(method="temperature", temperature=plain.temperature, bias=None, n=n, **told)
    temperature, bias = fit_bias_corrected(logits, labels)
    return Scaling(method="bias_corrected_temperature", temperature=temperature, bias=bias, n=n, **told)
