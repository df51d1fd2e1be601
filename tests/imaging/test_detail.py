"""How much there is in a picture: few waves, few strokes, or plenty of both."""

from __future__ import annotations

import numpy as np
import pytest

from drivetrain.arrays import FloatArray
from drivetrain.imaging.detail import count_strokes, count_waves
from drivetrain.imaging.fingerprint import fingerprint

SIDE = 224


def describe(grey: FloatArray) -> tuple[float, float]:
    """(waves, strokes) of a picture (SIDE, SIDE)."""
    coefficients = fingerprint(np.stack([grey] * 3).astype(np.float32)).reshape(1, 32, 32)
    return float(count_waves(coefficients)[0]), float(count_strokes(coefficients)[0])


def test_stripes_are_few_waves() -> None:
    x = np.arange(SIDE) / SIDE
    waves, _ = describe(np.tile(np.cos(np.pi * 6 * x), (SIDE, 1)))
    assert waves == pytest.approx(1, abs=0.1)


def test_a_line_is_few_strokes_and_many_waves() -> None:
    line = np.zeros((SIDE, SIDE))
    line[60:160, 100:107] = 1
    waves, strokes = describe(line)
    assert waves > 30
    assert strokes < 80


def test_noise_is_plenty_of_both() -> None:
    waves, strokes = describe(np.random.default_rng(0).normal(size=(SIDE, SIDE)))
    assert waves > 200
    assert strokes > 500


def test_neither_contrast_nor_mirroring_matters() -> None:
    grey = np.random.default_rng(0).normal(size=(SIDE, SIDE)).cumsum(axis=1)
    assert describe(0.1 * grey + 3) == pytest.approx(describe(grey), rel=1e-3)
    assert describe(grey[:, ::-1]) == pytest.approx(describe(grey), rel=1e-3)


def test_nothing_has_nothing() -> None:
    assert count_waves(np.zeros((2, 32, 32), dtype=np.float32)).tolist() == [0, 0]
    assert count_strokes(np.zeros((2, 32, 32), dtype=np.float32)).tolist() == [0, 0]
    assert count_waves(np.empty((0, 32, 32), dtype=np.float32)).shape == (0,)
    assert count_strokes(np.empty((0, 32, 32), dtype=np.float32)).shape == (0,)
