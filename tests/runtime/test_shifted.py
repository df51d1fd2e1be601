"""The style rule as a bundle holds it: what it says, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from drivetrain.errors import BundleRefused
from drivetrain.imaging.style_measures import (
    STYLE_DIRECTIONS,
    STYLE_MEASURES,
    STYLE_MEASURES_VERSION,
    follow_directions,
)
from drivetrain.runtime.shifted import ShiftRule

USUAL = np.array([0.5, 0.8, 0.6, 0.3, 1.2, 0.2, 0.01, 1.0], dtype=np.float32)
CALIBRATION = np.linspace(0, 1, 199)  # scores of 199 pictures: above all of them, p is 0.005


def section(*, flag_at: float = 0.01) -> dict[str, Any]:
    """A rule around USUAL, a spread of 1 in each direction."""
    centres = follow_directions(USUAL)
    return {
        "version": STYLE_MEASURES_VERSION,
        "flag_at": flag_at,
        "directions": [
            {"name": one.name, "centre": float(centre), "spread": 1.0}
            for one, centre in zip(STYLE_DIRECTIONS, centres, strict=True)
        ],
    }


def rule(*, flag_at: float = 0.01, calibration: np.ndarray = CALIBRATION) -> ShiftRule:
    return ShiftRule({"style": section(flag_at=flag_at)}, {"style_calibration": calibration})


def but(**changes: float) -> np.ndarray:
    style = USUAL.copy()
    for name, value in changes.items():
        style[STYLE_MEASURES.index(name)] = value
    return style


def test_the_usual_is_not_shifted() -> None:
    assert rule().judge(USUAL) == (1.0, False, ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"brightness": 0.1}, ("darker",)),
        ({"highlights": 0.2}, ("darker",)),
        ({"brightness": 0.07, "highlights": 0.12, "contrast": 0.05, "colour": 0.02, "even": 0.9}, ("darker",)),
        ({"brightness": 0.95}, ("brighter",)),
        ({"contrast": 0.05, "colour": 0.02, "even": 0.95}, ("lower in contrast",)),
        ({"colour": 0.0}, ("greyer",)),
        ({"colour": 0.9}, ("more colourful",)),
        ({"sharpness": 0.1}, ("blurrier",)),
        ({"sharpness": 3.9}, ("sharper",)),
        ({"side": 0.2}, ("lower in resolution",)),
        ({"side": 0.2, "sharpness": 0.0}, ("blurrier", "lower in resolution")),
        ({"even": 0.95}, ("more like a drawing",)),
        ({"grain": 0.3}, ("noisier",)),
        ({"grain": 0.3, "sharpness": 3.9}, ("noisier",)),
        ({"even": 0.95, "colour": 0.0, "sharpness": 3.9}, ("greyer", "more like a drawing")),
    ],
)
def test_it_names_what_is_new(changes: dict[str, float], words: tuple[str, ...]) -> None:
    p_value, is_shifted, told = rule().judge(but(**changes))
    assert (p_value, is_shifted, told) == (0.005, True, words)


def test_the_p_value_is_the_share_of_known_pictures_as_strange() -> None:
    half = but(brightness=float(0.51 * 2**-0.5 - 0.01))  # half a spread darker
    p_value, is_shifted, words = rule().judge(half)
    assert p_value == pytest.approx(0.5, abs=0.01)
    assert (is_shifted, words) == (False, ())
    assert rule(flag_at=0.6).judge(half)[1:] == (True, ("darker",))


def test_few_pictures_can_flag_nothing() -> None:
    assert rule(calibration=CALIBRATION[:98]).judge(but(brightness=0.0)) == (1 / 99, False, ())
    assert rule(calibration=CALIBRATION[:0]).judge(but(brightness=0.0)) == (1.0, False, ())
    assert rule(calibration=CALIBRATION[:99]).judge(but(brightness=0.0))[:2] == (0.01, True)


def test_a_style_of_another_length_is_our_own_fault() -> None:
    with pytest.raises(ValueError, match=r"style of shape \(3,\), not \(8,\)"):
        rule().judge(np.zeros(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ((), None, "manifest.decision.style: got None; want a section"),
        ((), [], "want a section"),
        (("version",), 1, f"want {STYLE_MEASURES_VERSION}, which this program measures"),
        (("version",), True, "style.version"),
        (("flag_at",), 1.5, "a number from 0 to 1"),
        (("flag_at",), float("nan"), "a number from 0 to 1"),
        (("flag_at",), None, "a number from 0 to 1"),
        (("directions",), {}, "a list of 11"),
        (("directions",), [], "a list of 11"),
        (("directions", 3), None, "dark, dim"),
        (("directions", 0, "name"), "night", "want dark, dim"),
        (("directions", 2, "centre"), "0", "directions.centre"),
        (("directions", 2, "centre"), 1e9, "a number from -100 to 100"),
        (("directions", 10, "spread"), 0, "a number from 0.001 to 100"),
        (("directions", 10, "spread"), float("inf"), "a number from 0.001 to 100"),
    ],
)
def test_a_section_that_is_off_is_refused(path: tuple[Any, ...], value: Any, told: str) -> None:
    decision = {"style": copy.deepcopy(section())}
    at: Any = decision
    for key in ("style", *path)[:-1]:
        at = at[key]
    at[path[-1] if path else "style"] = value
    with pytest.raises(BundleRefused) as caught:
        ShiftRule(decision, {"style_calibration": CALIBRATION})
    assert caught.value.code == "bundle_manifest"
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "array",
    [
        None,
        np.array([0.0, np.nan]),
        np.array([0.0, np.inf]),
        np.array([1.0, 0.0]),
        np.zeros((2, 2)),
        np.array(0.0),
        np.array([0, 1]),
        np.array(["a"]),
    ],
)
def test_an_array_that_is_off_is_refused(array: np.ndarray | None) -> None:
    arrays = {} if array is None else {"style_calibration": array}
    with pytest.raises(BundleRefused, match=r"reference\.npz/style_calibration"):
        ShiftRule({"style": section()}, arrays)
