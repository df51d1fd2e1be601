"""Errors that fall as a + b n^-c with the number n of pictures learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import FloatArray

__all__ = ["PowerLaw", "fit_power_laws", "span_laws"]

# Up to 1.5 the gains of clothing photographs were told 0.4 to 0.9 points too low, up to 0.75 right, from 307, 614 and
# 1,227 of them. Deep networks' curves lie in this range (Hestness et al. 2017, arXiv:1712.00409, section 5); flatter
# ones cannot be told from a straight line over four sizes.
_EXPONENTS = np.linspace(0.1, 0.75, 14)
_LEAST_RISING = 0.02  # share of draws


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """Curves of one exponent, one through each draw."""

    exponent: float
    likelihood: float  # of this exponent among the others; they add up to 1
    errors: FloatArray  # (m, g): of each curve, at the sizes asked for


def fit_power_laws(
    draws: FloatArray, means: FloatArray, sizes: Sequence[int], *, at: FloatArray
) -> tuple[PowerLaw, ...]:
    """For each exponent, curves a + b n^-c through the draws (b, s) of the errors at `sizes`; a and b >= 0.

    Least squares, each size weighted by how far its draws stray from the common level; `means` (s,) of the errors say
    how likely an exponent is. More pictures do not make a model worse, so curves where they would are left out, m <= b;
    where hardly any other is left, they stand as level ones.
    """
    n_sizes, scale = len(sizes), float(sizes[-1])
    strays = draws - draws.mean(axis=0)
    strays = strays - strays.mean(axis=1, keepdims=True)
    variances = np.square(strays).mean(axis=0) / (1 - 1 / n_sizes)
    weights = 1 / np.maximum(variances, max(1e-12, 1e-3 * float(variances.max())))
    misfits, curves = [], []
    for exponent in _EXPONENTS:
        x = (np.asarray(sizes, dtype=np.float64) / scale) ** -exponent
        a, b = _fit_line(x, np.vstack([means, draws]), weights)
        misfits.append(float((weights * np.square(a[0] + b[0] * x - means)).sum()))
        errors: FloatArray = a[1:, None] + b[1:, None] * (at[None, :] / scale) ** -exponent
        is_rising = b[1:] > 0
        curves.append(errors[is_rising] if is_rising.mean() >= _LEAST_RISING else errors)
    likely = np.exp(-(np.array(misfits) - min(misfits)) / 2)
    likely /= likely.sum()
    return tuple(
        PowerLaw(exponent=float(exponent), likelihood=float(share), errors=errors)
        for exponent, share, errors in zip(_EXPONENTS, likely, curves, strict=True)
    )


def span_laws(
    laws: Sequence[PowerLaw], measure: Callable[[FloatArray], FloatArray], *, confidence: float
) -> tuple[float, float, float]:
    """Low end, middle and high end of what `measure` makes of the errors (m, g), (m,).

    The middle is the mean of the exponents' medians by their likelihood. The ends are the widest of any exponent, for
    four sizes do not settle it: for simulated exponents from 0.15 to 1 this held the gain in 90 to 100 % of runs,
    a mixture by likelihood in 13 to 98 %.
    """
    ends = [np.quantile(measure(law.errors), [(1 - confidence) / 2, 0.5, (1 + confidence) / 2]) for law in laws]
    middle = sum(law.likelihood * float(row[1]) for law, row in zip(laws, ends, strict=True))
    return min(float(row[0]) for row in ends), middle, max(float(row[2]) for row in ends)


def _fit_line(x: FloatArray, y: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For each row of y (m, s) the a >= 0 and b >= 0 of least weighted squares for y = a + b x; x and weights (s,)."""
    w = weights / weights.sum()
    x_mean, y_mean = float((x * w).sum()), (y * w).sum(axis=1)
    away = w * (x - x_mean)
    b = np.maximum(0.0, (y - y_mean[:, None]) @ away / float((away * (x - x_mean)).sum()))
    a = y_mean - b * x_mean
    through_0 = np.maximum(0.0, y @ (w * x) / float((w * x * x).sum()))
    return np.maximum(0.0, a), np.where(a < 0, through_0, b)
