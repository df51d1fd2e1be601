from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from drivetrain.errors import InvalidInput
from drivetrain.rollout.share import gets_candidate, place_of

KEYS = [f"camera-{number}" for number in range(100_000)]


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_shares_are_kept(share: float) -> None:
    hits = sum(gets_candidate(key, salt="a", share=share) for key in KEYS)
    assert abs(hits - share * len(KEYS)) < 4 * np.sqrt(len(KEYS) * share * (1 - share))


def test_nobody_loses_the_candidate_while_the_share_grows() -> None:
    before: set[str] = set()
    for share in (0.0, 0.05, 0.25, 0.5, 1.0):
        now = {key for key in KEYS[:20_000] if gets_candidate(key, salt="a", share=share)}
        assert before <= now
        before = now
    assert len(before) == 20_000


def test_places_are_even_and_those_of_two_salts_unrelated() -> None:
    places = np.array([[place_of(key, salt=salt) for salt in ("a", "b")] for key in KEYS[:20_000]])
    counts, _ = np.histogram(places[:, 0], bins=50, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 90  # chi-squared with 49 degrees of freedom: 1 in 3,000
    assert abs(np.corrcoef(places.T)[0, 1]) < 4 / np.sqrt(20_000)
    assert place_of("b", salt="a") != place_of("", salt="ab")  # where salt ends and key begins is told


def test_places_are_the_same_in_another_process() -> None:
    code = "from drivetrain.rollout.share import place_of; print(repr(place_of('köder\\udc80', salt='s')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(told) == place_of("köder\udc80", salt="s")


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(InvalidInput, match="share"):
        gets_candidate("a", salt="s", share=1.5)
