import json

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import Rate, wilson_interval
from drivetrain.trust.robustness import measure_condition


def test_a_rate_has_wilsons_interval() -> None:
    rate = Rate.of(np.array([True, False, True, True]))
    assert (rate.hits, rate.n, rate.share) == (3, 4, 0.75)
    assert (rate.low, rate.high) == wilson_interval(3, 4)
    nothing = Rate.of(np.zeros(0, dtype=bool))
    assert (nothing.share, nothing.low, nothing.high) == (None, 0, 1)


def test_what_goes_wrong_silently_is_wrong_and_decided_by_itself() -> None:
    right = np.array([1, 1, 0, 0, 0, 0], dtype=bool)
    flagged = np.array([0, 1, 0, 1, 0, 1], dtype=bool)
    deferred = np.array([0, 1, 0, 1, 1, 1], dtype=bool)
    told = measure_condition("blur", 3, right=right, flagged=flagged, deferred=deferred)
    counts = {name: getattr(told, name).hits for name in ("accuracy", "flagged", "deferred", "silent", "unflagged")}
    assert counts == {"accuracy": 2, "flagged": 3, "deferred": 4, "silent": 1, "unflagged": 2}
    assert told.silent.n == told.n == 6  # shares of all pictures
    assert json.loads(json.dumps(told.as_json(), allow_nan=False))["silent"]["hits"] == 1


def test_shapes_are_checked() -> None:
    none, one = np.zeros(0, dtype=bool), np.zeros(1, dtype=bool)
    with pytest.raises(InvalidInput, match="right: got 0 marks"):
        measure_condition("blur", 1, right=none, flagged=none, deferred=none)
    with pytest.raises(InvalidInput, match="right: got 1 marks"):
        measure_condition("blur", 1, right=one, flagged=none, deferred=one)
