"""From held-out pictures to a decision policy: temperature, label sets, the out-of-domain rule, the promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.learn.head import deal_folds
from drivetrain.trust.calibration import fit_temperature, softmax
from drivetrain.trust.conformal import label_set_threshold, p_value
from drivetrain.trust.deferral import Promise, certify_threshold, choose_start
from drivetrain.trust.ood import NearestNeighbours, choose_neighbours, normalise_rows

__all__ = ["Calibration", "calibrate"]

_REFERENCE_BYTES = 2_000_000  # of known features kept in the bundle, as float16
_MIN_FOR_TEMPERATURE = 30  # pictures; on fewer, a lucky draw would make the model sure of everything
_COVERAGE = 0.95
_FLAG_AT = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The manifest's decision section, the arrays it needs, and what a reader should know of them."""

    decision: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    promise: Promise
    notes: tuple[str, ...]


def calibrate(
    *,
    train_features: FloatArray,
    train_labels: IntArray,
    valid_features: FloatArray,
    valid_labels: IntArray,
    valid_logits: FloatArray,
    valid_groups: IntArray | None = None,
    max_error: float,
) -> Calibration:
    """Held-out pictures are dealt into two halves: one fits the scores, the other certifies the rule made of them.

    All arrays come in an order that says nothing (shuffled by seed). The first half gives the temperature, the
    out-of-domain reference and where to begin the search for a threshold; the second, used for nothing else, gives
    label sets and the deferral promise. Were one picture to do both, the promise would be measured on what shaped it;
    the same goes for pictures of one group (row-aligned `valid_groups`; None is a group each), so they stand in one
    half. Only a class that is all one group is dealt picture by picture: `find_tied` says which.
    """
    half = deal_folds(valid_labels, count=2, groups=valid_groups)
    fit, certify = np.flatnonzero(half == 0), np.flatnonzero(half == 1)
    notes: list[str] = []
    if len(fit) >= _MIN_FOR_TEMPERATURE:
        temperature = fit_temperature(valid_logits[fit], valid_labels[fit])
    else:
        temperature = 1.0
        notes.append(f"Only {len(fit)} pictures to calibrate on: probabilities are the head's own (temperature 1).")
    known = _choose_known(train_features, train_labels)
    neighbours = NearestNeighbours(known.astype(np.float32), k=choose_neighbours(len(known)))
    reference = np.sort(neighbours.scores(valid_features[fit]))
    if 1 / (len(reference) + 1) > _FLAG_AT:
        notes.append(f"Only {len(reference)} pictures to tell the unknown by: nothing can be flagged as unknown yet.")
    probs = softmax(valid_logits, temperature=temperature)
    is_known = _p_values(reference, neighbours.scores(valid_features)) > _FLAG_AT
    scores, is_wrong = probs.max(axis=1), probs.argmax(axis=1) != valid_labels
    start = choose_start(scores[fit], is_wrong[fit], is_known[fit], max_error=max_error)
    promise = certify_threshold(scores[certify], is_wrong[certify], is_known[certify], max_error=max_error, start=start)
    sets_at = label_set_threshold(probs[certify], valid_labels[certify], coverage=_COVERAGE)
    if sets_at == 0:
        notes.append(f"Only {len(certify)} pictures to shape label sets by: to be right, each holds every label.")
    decision = {
        "temperature": temperature,
        "threshold": promise.threshold,
        "label_set": {"coverage": _COVERAGE, "threshold": sets_at, "n_calibration": len(certify)},
        "ood": {
            "method": "nearest_neighbours",
            "k": neighbours.k,
            "flag_at": _FLAG_AT,
            "n_known": len(known),
            "n_calibration": len(reference),
        },
        "promise": asdict(promise),
        "statement": promise.statement,
    }
    arrays = {"ood_known": known, "ood_calibration": reference}
    return Calibration(decision=decision, arrays=arrays, promise=promise, notes=tuple(notes))


def _p_values(reference: FloatArray, scores: FloatArray) -> FloatArray:
    return np.array([p_value(reference, float(score)) for score in scores])


def _choose_known(features: FloatArray, labels: IntArray) -> NDArray[np.float16]:
    """Normalised features of as many training pictures as fit into the bundle, every class with its fair share."""
    room = max(1, _REFERENCE_BYTES // (2 * features.shape[1]))
    if len(features) > room:
        rank = np.empty(len(labels), dtype=np.int64)  # a picture's place within its class
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            rank[members] = np.arange(len(members))
        features = features[np.sort(np.argsort(rank, kind="stable")[:room])]
    return normalise_rows(features).astype(np.float16)
