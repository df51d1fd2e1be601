"""How strange a picture is to a model: single scores, higher is stranger. numpy only: serving needs this."""

from __future__ import annotations

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput

__all__ = [
    "NearestNeighbours",
    "choose_neighbours",
    "kth_distance",
    "log_doubt",
    "measure_doubt",
    "measure_energy",
    "normalise_roots",
    "normalise_rows",
]

_LEAST_DOUBT = 1e-6  # surer than one in a million says no more


def normalise_rows(features: FloatArray) -> FloatArray:
    """Rows at length 1, float32; a row of zeros stays zeros."""
    rows = np.asarray(features, dtype=np.float32)
    length = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))  # float32 may not hold a square
    out: FloatArray = np.divide(rows, np.maximum(length, 1e-12)).astype(np.float32)
    return out


def normalise_roots(features: FloatArray) -> FloatArray:
    """Signed square roots of features, rows at length 1, float32.

    For features that are no less than 0, distances between such rows are Hellinger's: a few large channels no longer
    drown the others. Measured, leaving out a class of clothing: AUROC of the nearest neighbours 0.77 -> 0.80.
    """
    rows = np.asarray(features, dtype=np.float32)
    return normalise_rows(np.sign(rows) * np.sqrt(np.abs(rows)))


def choose_neighbours(n: int) -> int:
    """k for n known pictures: 1 % of them, at least 1, at most 10. After Sun et al. 2022, arXiv:2204.06507."""
    return max(1, min(10, round(0.01 * n)))


def measure_energy(logits: FloatArray) -> FloatArray:
    """-log sum exp of calibrated logits (n, k): (n,). Source: Liu et al. 2020, arXiv:2010.03759, equation 4."""
    scaled = np.asarray(logits, dtype=np.float64)
    most = scaled.max(axis=1)
    out: FloatArray = -most - np.log(np.exp(scaled - most[:, np.newaxis]).sum(axis=1))
    return out


def measure_doubt(logits: FloatArray) -> FloatArray:
    """1 - the largest probability of calibrated logits (n, k): (n,) in [0, 1 - 1/k]. Source: arXiv:1610.02136."""
    scaled = np.asarray(logits, dtype=np.float64)
    shares = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    out: FloatArray = 1.0 - 1.0 / shares.sum(axis=1)  # the largest share is 1
    return out


def log_doubt(logits: FloatArray) -> FloatArray:
    """The logarithm of `measure_doubt`, which tells sure from very sure; (n,), from log 1e-6 on."""
    out: FloatArray = np.log(np.maximum(measure_doubt(logits), _LEAST_DOUBT))
    return out


def kth_distance(rows: FloatArray, known: FloatArray, *, k: int, squares: FloatArray | None = None) -> FloatArray:
    """Euclidean distance of each row (n, d) to the k-th nearest of `known` (m, d), both float32: (n,) float64.

    `squares` (m,) are those of the lengths of `known`, where the caller has them.
    """
    # Not `@`: BLAS would wake threads of its own for it, which then spin for work on the cores that other callers
    # run their networks on. Measured, two callers on two cores: 7.2 ms a picture with it, 4.3 ms without.
    products = np.vecdot(rows[:, np.newaxis], known)  # (n, m)
    lengths = np.vecdot(known, known) if squares is None else squares
    kth = np.partition(lengths - 2 * products, k - 1, axis=1)[:, k - 1].astype(np.float64)
    out: FloatArray = np.sqrt(np.maximum(0.0, np.vecdot(rows, rows) + kth))
    return out


class NearestNeighbours:
    """Distance to the k-th nearest known picture, in [0, 2]; higher is stranger. The whole rule of older bundles.

    Features are the frozen trunk's, at length 1: strangeness must not depend on what the head was taught to see.
    """

    def __init__(self, known: FloatArray, *, k: int) -> None:
        if known.ndim != 2 or not 1 <= k <= len(known):
            raise InvalidInput("known features", got=f"shape {known.shape}, k={k}", want="(n, d) with 1 <= k <= n")
        self.known = np.asarray(known, dtype=np.float32)
        self.k = k

    def scores(self, features: FloatArray) -> FloatArray:
        """(n,) scores of (n, d) features of any length."""
        similarity = np.vecdot(normalise_rows(features)[:, np.newaxis], self.known)  # (n, known); not `@`, as above
        kth = np.partition(similarity, -self.k, axis=1)[:, -self.k]
        out: FloatArray = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * kth.astype(np.float64)))
        return out
