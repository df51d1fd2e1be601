"""Whether a picture is like those a model knows: the out-of-domain part of every policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.conformal import p_value
from drivetrain.trust.ood import NearestNeighbours
from drivetrain.trust.ood_rule import Hinge, Near, OodRule, Scale, Surroundings
from drivetrain.trust.ood_space import Gaussian, Space

from .policy_values import WHERE, read_floats, read_number, refuse

__all__ = ["KnownRule"]

_UNIT = 1.001  # no number in a row at length 1 is larger; float16 rounds
_LARGEST = 1e6  # of what is kept: its square, summed, stays far below the largest float32
_SPREAD = 1e-12  # the least
_MOST = 1e12
_BY_PLACE, _BY_CLASS = {"neighbour", "mahalanobis"}, {"energy", "doubt", "neighbour"}

_Arrays = Mapping[str, NDArray[Any]]


class KnownRule:
    """Whether a picture is like those the model knows: the out-of-domain part of every policy."""

    def __init__(self, decision: Mapping[str, Any], arrays: _Arrays, *, feature_count: int, output_count: int) -> None:
        self.flag_at = read_number(decision, "ood", "flag_at", low=0, high=1)
        section = decision["ood"]
        with np.errstate(all="ignore"):
            self._scorer: _Scorer
            if section.get("method", "nearest_neighbours") == "nearest_neighbours":
                self._scorer = _Neighbours(decision, arrays, feature_count)
            elif section["method"] == "combined":
                self._scorer = _read_rule(decision, arrays, feature_count, output_count)
            else:
                raise refuse(f"{WHERE}.ood.method", section["method"], "combined, or nearest_neighbours")
        reference = read_floats(arrays, "ood_calibration")
        if reference.ndim != 1 or not bool(np.all(np.diff(reference) >= 0)):
            raise refuse("reference.npz/ood_calibration", f"shape {reference.shape}", "scores in ascending order")
        self.reference = reference.astype(np.float64)  # (n,) ascending: scores of known pictures

    @property
    def rule(self) -> OodRule | None:
        """What the scores are made of; None in bundles that were made before there was such a rule."""
        return self._scorer if isinstance(self._scorer, OodRule) else None

    def scores(
        self, features: FloatArray, logits: FloatArray | None = None, calibrated: FloatArray | None = None
    ) -> FloatArray:
        """(n,) of features (n, f), the network's logits (n, k), and these calibrated, as `judge` says."""
        return self._scorer.scores(features, logits, calibrated)

    def judge(
        self, frozen: FloatArray, logits: FloatArray | None = None, surest: tuple[float, float] | None = None
    ) -> tuple[float, float, bool]:
        """Score, p-value, and whether that is unknown, of features (f,); where classes are told apart, also of the
        network's logits (k,) and `trust.ood.find_surest` of these calibrated, which else are not looked at.
        """
        score = self._scorer.score(frozen, logits, surest)
        strangeness = p_value(self.reference, score)
        return score, strangeness, strangeness <= self.flag_at


class _Scorer(Protocol):
    def score(
        self, features: FloatArray, logits: FloatArray | None = None, surest: tuple[float, float] | None = None
    ) -> float: ...

    def scores(
        self, features: FloatArray, logits: FloatArray | None = None, calibrated: FloatArray | None = None
    ) -> FloatArray: ...


class _Neighbours:
    """The rule of bundles made before there was a better one: the distance to the nearest known pictures."""

    def __init__(self, decision: Mapping[str, Any], arrays: _Arrays, feature_count: int) -> None:
        k = read_number(decision, "ood", "k", low=1, high=1e6)
        known = read_floats(arrays, "ood_known")
        try:
            self._ood = NearestNeighbours(known, k=int(k))
        except InvalidInput as exc:
            raise refuse("reference.npz/ood_known", exc.got, exc.want) from None
        if known.shape[1] != feature_count:
            raise refuse("reference.npz/ood_known", f"shape {known.shape}", f"rows of {feature_count} features")
        if known.max() > _UNIT or known.min() < -_UNIT:
            raise refuse("reference.npz/ood_known", "rows longer than 1", "rows at length 1")

    def score(
        self, features: FloatArray, logits: FloatArray | None = None, surest: tuple[float, float] | None = None
    ) -> float:
        return float(self._ood.scores(features[np.newaxis])[0])

    def scores(
        self, features: FloatArray, logits: FloatArray | None = None, calibrated: FloatArray | None = None
    ) -> FloatArray:
        return self._ood.scores(features)


def _read_rule(decision: Mapping[str, Any], arrays: _Arrays, feature_count: int, output_count: int) -> OodRule:
    """The rule of flows.fit_known."""
    parts = _read_parts(decision)
    by_class = set(parts) == _BY_CLASS
    basis = _read(arrays, "ood_basis", (None, feature_count), most=_UNIT)
    rank = len(basis)
    if not 1 <= rank <= feature_count:
        raise refuse("reference.npz/ood_basis", f"shape {basis.shape}", f"1 to {feature_count} directions")
    known = _read(arrays, "ood_known", (None, output_count if by_class else rank))
    k = read_number(decision, "ood", "k", low=1, high=1e6)
    if not k <= len(known):
        raise refuse(f"{WHERE}.ood.k", k, f"at most the {len(known)} known pictures")
    space = Space(_read(arrays, "ood_centre", (feature_count,), most=_UNIT), basis)
    if by_class:
        around = Surroundings(space=space, known=known, k=int(k))
    else:
        around = Surroundings(space=space, known=known, k=int(k), gaussian=_read_gaussian(arrays, rank))
    return OodRule(
        surroundings=around,
        parts=parts,
        near=_read_scale(decision, "near"),
        far=Hinge(
            scale=_read_scale(decision, "far"),
            begins=read_number(decision, "ood", "far", "begins", low=-_MOST, high=_MOST),
            weight=read_number(decision, "ood", "far", "weight", low=0, high=_LARGEST),
        ),
        total=_read_scale(decision, "total"),
    )


def _read_gaussian(arrays: _Arrays, rank: int) -> Gaussian:
    means = _read(arrays, "ood_means", (None, rank))
    if not len(means):
        raise refuse("reference.npz/ood_means", f"shape {means.shape}", "one class at least")
    return Gaussian(_read(arrays, "ood_whiten", (rank, rank)), means)


def _read_parts(decision: Mapping[str, Any]) -> dict[Any, Near]:
    """The parts of the sum: energy, doubt and neighbour where classes are told apart; else neighbour, mahalanobis."""
    parts = decision["ood"].get("parts")
    if not isinstance(parts, Mapping) or set(parts) not in (_BY_PLACE, _BY_CLASS):
        got = sorted(map(str, parts)) if isinstance(parts, Mapping) else parts
        raise refuse(
            f"{WHERE}.ood.parts", got, "energy, doubt and neighbour; or neighbour and mahalanobis, for no classes"
        )
    return {
        name: Near(
            scale=_read_scale(decision, "parts", name),
            weight=read_number(decision, "ood", "parts", name, "weight", low=0, high=_LARGEST),
        )
        for name in parts
    }


def _read_scale(decision: Mapping[str, Any], *keys: str) -> Scale:
    return Scale(
        read_number(decision, "ood", *keys, "centre", low=-_MOST, high=_MOST),
        read_number(decision, "ood", *keys, "spread", low=_SPREAD, high=_MOST),
    )


def _read(arrays: _Arrays, name: str, shape: tuple[int | None, ...], *, most: float = _LARGEST) -> FloatArray:
    """The floats of this name as float32, of this shape (None: any length), none beyond `most` on either side."""
    array = read_floats(arrays, name)
    is_fit = array.ndim == len(shape) and all(
        want in (None, got) for got, want in zip(array.shape, shape, strict=False)
    )
    if not is_fit:
        want = ", ".join("any" if side is None else str(side) for side in shape)
        raise refuse(f"reference.npz/{name}", f"shape {array.shape}", f"({want})")
    if array.size and float(np.abs(array).max()) > most:
        raise refuse(f"reference.npz/{name}", f"numbers as large as {np.abs(array).max():g}", f"at most {most:g}")
    return np.ascontiguousarray(array, dtype=np.float32)
