"""Findings from made-up facts: what needs no picture to be tried."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from drivetrain.data.items import Item
from drivetrain.imaging.exif import Origin
from drivetrain.imaging.style import Style
from drivetrain.inspect.copy_findings import find_copy_faults
from drivetrain.inspect.findings import Finding, Picture
from drivetrain.inspect.measured import describe_pictures
from drivetrain.inspect.mirror_findings import find_mirror_faults
from drivetrain.inspect.style_findings import find_style_faults
from drivetrain.runtime.survey import PictureFacts

PLAIN: dict[str, Any] = {
    "width": 400, "height": 300, "brightness": 0.5, "highlights": 0.9, "ink_brightness": 0.5, "contrast": 0.6,
    "sharpness": 1.0, "smear": 0.3, "colour": 0.5, "paper": 0.0, "even": 0.0, "lines": 0.0, "white": 0.0,
}  # fmt: skip


def picture(
    path: str, *, split: str | None = None, group: str | None = None, kind: str = "JPEG", day: str = "", **style: Any
) -> Picture:
    """One of the class that its folder names."""
    return Picture(
        item=Item(path=path, label=path.split("/")[-2], group=group, split=split),
        facts=PictureFacts(format=kind, style=Style(**{**PLAIN, **style}), origin=Origin(taken=day)),
        digest=hashlib.sha256(path.encode()).digest(),
    )


def test_a_group_on_both_sides_of_the_split() -> None:
    pictures = [
        picture("cup/1.jpg", split="train", group="ann"),
        picture("cup/2.jpg", split="train", group="ann"),
        picture("cup/3.jpg", split="test", group="ann"),
        picture("cup/4.jpg", split="train", group="bo"),
        picture("cup/5.jpg", split="valid", group="cy"),
        picture("cup/6.jpg", split="test"),
    ]
    (found,) = find_copy_faults(pictures, None, None).findings
    assert (found.code, found.severity, found.count) == ("group_leak", "error", 1)
    assert found.what == "1 group stands on both sides of the split: 'ann'."
    assert found.groups == (("cup/1.jpg", "cup/3.jpg"),)
    assert found.details == ("ann: 1 in test, 2 in train",)
    assert found.quarantine == ()


def test_what_a_class_has_is_told_before_what_it_lacks() -> None:
    pictures = [
        picture(f"{label}/{number}.x", kind="PNG" if label == "hat" else "JPEG")
        for label in ("dress", "hat", "shirt", "shoe", "skirt")
        for number in range(20)
    ]
    (found,) = find_style_faults(pictures)
    assert found.what == "In class 'hat' all are PNG files, in 'dress' none."


def test_random_looks_and_days_raise_an_alarm_in_one_run_of_a_hundred() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        rates = rng.uniform(0, 0.6, 4)
        pictures = []
        for number in range(60):
            dark, grey, small, soft = rng.random(4) < rates
            style = {"highlights": 0.2 if dark else 0.9, "colour": 0.0 if grey else 0.5, "width": 90 if small else 400}
            day = f"2024-05-{rng.integers(1, 8):02}"
            pictures.append(
                picture(f"{'abc'[number % 3]}/{number}.jpg", day=day, sharpness=0.2 if soft else 1, **style)
            )
        alarms += any(one.severity == "warning" for one in find_style_faults(pictures))
    assert alarms <= 6  # 2 are expected at the most; 7 have a chance of 0.005


def names(*labels: str) -> list[Finding]:
    return find_mirror_faults(labels, None, pairs=[])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("left", "right"), ("LEFT", "RIGHT"), ("TURN_LEFT", "TURN_RIGHT"), ("turnLeft", "turnRight"),
        ("TLLeft2", "TLRight2"), ("links", "rechts"), ("tourner à gauche", "tourner à droite"),
        ("mano izquierda", "mano derecha"), ("поворот налево", "поворот направо"), ("左", "右"),
    ],
)  # fmt: skip
def test_sides_are_known_in_any_case_and_in_other_languages(one: str, other: str) -> None:
    found = names(one, other, "stop")
    assert found[0].what == f"Classes named after sides: {one!r} and {other!r}."
    assert found[0].severity == "warning"


@pytest.mark.parametrize(
    ("labels", "severity"),
    [
        (("0", "1", "2", "3"), "warning"),
        (("6", "9"), "warning"),
        (("0", "1"), "note"),  # no and yes as likely as digits
        (tuple(map(str, range(1, 103))), None),  # numbers of classes
        (("00", "01", "02"), None),
        (("copyright", "leftover"), None),
    ],
)
def test_digits_are_not_any_numbers(labels: tuple[str, ...], severity: str | None) -> None:
    assert [one.severity for one in names(*labels)] == ([severity] if severity else [])


def test_the_datasheet_counts_what_remains() -> None:
    kept = [picture("cup/1.jpg"), picture("plate/2.jpg")]
    found = Finding(code="copies", severity="warning", what="3 files repeat.", why="", next_step="", count=3)
    text = describe_pictures(kept, [found], n_quarantined=1, n_relabelled=0, n_left_out_now=3)
    assert "2 readable pictures in 2 classes." in text
    assert "left out by the edit journal: 4;" in text
    assert "Before it left out 3 pictures because of it:\n\n- warning: 3 files repeat." in text
