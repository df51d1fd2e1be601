"""The out-of-domain rule of a bundle, fitted to training pictures and a half of those held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.trust.conformal import p_values
from drivetrain.trust.ood import choose_neighbours, normalise_roots
from drivetrain.trust.ood_rule import OodRule, Scale, Surroundings, fit_rule
from drivetrain.trust.ood_space import fit_gaussian, fit_space

__all__ = ["Known", "choose_known", "fit_known", "fit_scales", "fit_surroundings", "rank_scores"]

_RANK = 64  # directions of the space; AUROC of the nearest neighbours falls with more, of the far with fewer
_LEAST_OUTSIDE = 3  # a space of d columns has at most d / 3 directions, or nothing would lie outside
_MOST_PLACES = 2048  # pictures whose coordinates are kept
_MOST_ANSWERS = 512  # pictures whose logits are kept: 3,000 do no better
_MOST_FITTED = 8192  # pictures that the space is fitted to
_MOST_REFERENCE = 50_000  # scores
_MOST_CROSSED = 128  # pictures; beyond, that they shaped the scales adds 0.2 points or less to what is flagged
_FOLDS = 10
_LARGEST = 6e4  # of float16
_BASIS_BYTES, _ANSWER_BYTES = 1_000_000, 400_000  # with all else, the reference stays below 2 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The out-of-domain rule, and which held-out pictures it takes for known, (n,)."""

    section: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    is_known: BoolArray


def choose_known(strata: IntArray, *, outputs: int) -> IntArray:
    """Rows of the training pictures (n,) whose logits (outputs,) are kept, every class with its fair share."""
    return _deal(strata, min(_MOST_ANSWERS, max(1, _ANSWER_BYTES // (2 * outputs))))


def fit_known(
    train_features: FloatArray,
    train_strata: IntArray,
    valid_features: FloatArray,
    fit: IntArray,
    notes: list[str],
    *,
    known_logits: FloatArray | None = None,
    valid_logits: FloatArray | None = None,
    calibrated: FloatArray | None = None,
    alpha: float = 0.05,
) -> Known:
    """Fit to training pictures and the held-out rows `fit`; judge all held-out pictures (n, f).

    A model that tells classes apart gives logits: known_logits (m, k) of the training pictures of `choose_known`,
    valid_logits (n, k), and these calibrated. Others give none: a picture that bears none of a number of labels is no
    stranger. train_strata (n,) are the classes, or what stands for them.
    """
    around = fit_surroundings(train_features, train_strata, known_logits=known_logits)
    if not around.by_class:
        valid_logits = calibrated = None
    return fit_scales(around, valid_features, fit, notes, logits=valid_logits, calibrated=calibrated, alpha=alpha)


def fit_scales(
    around: Surroundings,
    features: FloatArray,
    fit: IntArray,
    notes: list[str],
    *,
    logits: FloatArray | None,
    calibrated: FloatArray | None,
    alpha: float,
) -> Known:
    """The part of `fit_known` that looks at held-out pictures: features (n, f), and both kinds of logits or none.

    A p-value is exact where the pictures of `fit` are to the rule what a known one in service is. But they shaped its
    scales, and by these look less strange than others do: 30 flagged 4.3 % of others where 3.2 % is stated. So a
    few are each taken as they look by the scales of the others; that flagged 3.1 %. The rule has the scales of all.
    """
    rows = [None if one is None else one[fit] for one in (logits, calibrated)]
    rule = fit_rule(around, features[fit], rows[0], rows[1])
    scores = rule.scores(features, logits, calibrated)
    if 1 < len(fit) <= _MOST_CROSSED:
        crossed = _cross_scores(around, features[fit], rows[0], rows[1], scores=scores[fit])
        scores[fit] = np.maximum(scores[fit], crossed)  # never below: a picture just like it has to tie with it
    return rank_scores(scores, fit, notes, section=_describe(rule), arrays=_list_arrays(around), alpha=alpha)


def _cross_scores(
    around: Surroundings,
    features: FloatArray,
    logits: FloatArray | None,
    calibrated: FloatArray | None,
    *,
    scores: FloatArray,
) -> FloatArray:
    """(n,): each picture by a rule that the other folds scaled, told in units of scores (n,).

    In these units the other folds have the mean and spread that they have among `scores`. In the rule's own all would
    move apart, and too few be flagged: by 30, 2.4 %.
    """
    told, place = np.unique(scores.round(6), return_inverse=True)  # by place of score, so that copies share a fold
    if len(told) == 1:
        return scores
    fold = place % _FOLDS
    crossed = np.empty(len(features))
    for at in np.unique(fold):
        these, others = fold == at, fold != at
        given = [[None if one is None else one[rows] for one in (logits, calibrated)] for rows in (these, others)]
        rule = fit_rule(around, features[others], *given[1])
        crossed[these] = scores[others].mean() + scores[others].std() * rule.scores(features[these], *given[0])
    return crossed


def rank_scores(
    scores: FloatArray,
    fit: IntArray,
    notes: list[str],
    *,
    section: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    alpha: float,
) -> Known:
    """The rule of this section and these arrays, which gave the scores (n,); those of the rows `fit` make p-values."""
    reference = np.sort(scores[fit[:_MOST_REFERENCE]])
    if 1 / (len(reference) + 1) > alpha:
        notes.append(f"Only {len(reference)} pictures to tell the unknown by: nothing can be flagged as unknown yet.")
    return Known(
        section={**section, "flag_at": alpha, "n_calibration": len(reference)},
        arrays={**arrays, "ood_calibration": reference},
        is_known=p_values(reference, scores) > alpha,
    )


def fit_surroundings(features: FloatArray, strata: IntArray, *, known_logits: FloatArray | None = None) -> Surroundings:
    """The space, and the pictures kept, as many as fit into the bundle, rounded as it keeps them."""
    from threadpoolctl import threadpool_limits  # of drivetrain[train], as is all that trains

    fitted = _deal(strata, _MOST_FITTED)
    columns = features.shape[1]
    rank = max(1, min(_RANK, columns // _LEAST_OUTSIDE, len(fitted) - 1, _BASIS_BYTES // (4 * columns)))
    rows = normalise_roots(features[fitted])
    with threadpool_limits(1, user_api="blas"):  # sums come out the same however many cores there are
        space = fit_space(rows, rank=rank)
        if known_logits is not None:
            known = _round(known_logits)
            return Surroundings(space=space, known=known, k=choose_neighbours(len(known)))
        coordinates = space.project(rows)
        gaussian = fit_gaussian(coordinates, np.zeros(len(rows), dtype=np.int64))
    places = _round(coordinates[_deal(strata[fitted], _MOST_PLACES)])
    return Surroundings(space=space, known=places, k=choose_neighbours(len(places)), gaussian=gaussian)


def _round(rows: FloatArray) -> FloatArray:
    """As float16 holds them, and not beyond what it can hold."""
    return np.clip(rows, -_LARGEST, _LARGEST).astype(np.float16).astype(np.float32)


def _deal(strata: IntArray, room: int) -> IntArray:
    """Places of at most `room` pictures, in order, every class with its fair share."""
    rank = np.empty(len(strata), dtype=np.int64)  # a picture's place within its class
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        rank[members] = np.arange(len(members))
    return np.sort(np.argsort(rank, kind="stable")[:room])


def _describe(rule: OodRule) -> dict[str, Any]:
    """What `runtime.known` reads of it in the manifest."""
    return {
        "method": "combined",
        "k": rule.surroundings.k,
        "n_known": len(rule.surroundings.known),
        "parts": {name: {"weight": part.weight, **_tell(part.scale)} for name, part in rule.parts.items()},
        "near": _tell(rule.near),
        "far": {"weight": rule.far.weight, "begins": rule.far.begins, **_tell(rule.far.scale)},
        "total": _tell(rule.total),
    }


def _tell(scale: Scale) -> dict[str, float]:
    return {"centre": scale.centre, "spread": scale.spread}


def _list_arrays(around: Surroundings) -> dict[str, NDArray[Any]]:
    arrays = {
        "ood_centre": around.space.centre,
        "ood_basis": around.space.basis,
        "ood_known": around.known.astype(np.float16),
    }
    if around.gaussian is not None:
        arrays |= {"ood_whiten": around.gaussian.whiten, "ood_means": around.gaussian.means}
    return arrays
