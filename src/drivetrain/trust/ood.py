"""How strange a picture is to a model: single scores, higher is stranger. numpy only: serving needs this."""

from __future__ import annotations

import math

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput

__all__ = [
    "NearestNeighbours",
    "choose_neighbours",
    "find_surest",
    "measure_doubt",
    "measure_energy",
    "normalise_roots",
    "normalise_rows",
]

_LEAST = 1e-300
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


def find_surest(logits: FloatArray) -> tuple[float, float]:
    """(the largest of calibrated logits (k,), its probability)."""
    most = float(logits.max())
    return most, 1 / float(np.exp(logits - most, dtype=np.float64).sum())


def measure_energy(most: float, probability: float) -> float:
    """-log sum exp of calibrated logits, of the largest and its probability: Liu et al. 2020, arXiv:2010.03759."""
    return math.log(max(probability, _LEAST)) - most


def measure_doubt(probability: float) -> float:
    """log(1 - the largest probability), which tells sure from very sure, from log 1e-6 on: arXiv:1610.02136."""
    return math.log(max(1 - probability, _LEAST_DOUBT))


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
        # Not `@`: BLAS would wake threads of its own for it, which then spin for work on the cores that other callers
        # run their networks on. Measured, two callers on two cores: 7.2 ms a picture with it, 4.3 ms without.
        similarity = np.vecdot(normalise_rows(features)[:, np.newaxis], self.known)  # (n, known)
        kth = np.partition(similarity, -self.k, axis=1)[:, -self.k]
        out: FloatArray = np.sqrt(np.maximum(0.0, 2.0 - 2.0 * kth.astype(np.float64)))
        return out
