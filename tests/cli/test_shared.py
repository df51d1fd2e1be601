from __future__ import annotations

import pytest

from drivetrain.cli.shared import percent


@pytest.mark.parametrize(
    ("share", "digits", "shown"),
    [
        (0.903, 1, "90.3 %"),
        (1.0, 1, "100.0 %"),
        (0.99951, 1, "> 99.9 %"),
        (0.9994, 1, "99.9 %"),
        (0.996, 0, "> 99 %"),
        (0.0, 1, "0.0 %"),
        (0.0004, 1, "< 0.1 %"),
        (0.0006, 1, "0.1 %"),
    ],
)
def test_percent_claims_neither_all_nor_nothing(share: float, digits: int, shown: str) -> None:
    assert percent(share, digits=digits) == shown
