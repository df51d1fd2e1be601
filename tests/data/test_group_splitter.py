"""Groups stay whole: those of a column, of a callable, and copies of one picture."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from drivetrain.data.getters import parent_label
from drivetrain.data.group_splitter import GroupSplitter
from drivetrain.errors import InvalidInput, NotFound

calm = settings(deadline=None)  # a busy machine is no failure


def rows_of(groups: list[str]) -> list[dict[str, str]]:
    return [{"path": f"{at}.jpg", "animal": group} for at, group in enumerate(groups)]


def sides(splitter: GroupSplitter, items: Any) -> tuple[list[Any], list[Any]]:
    train, valid = splitter(items)
    assert sorted(train + valid) == list(range(len(items)))
    return [items[at] for at in train], [items[at] for at in valid]


@calm
@given(
    groups=st.lists(st.sampled_from(["", "ann", "ben", "cid", "dot", "eve", "fay"]), min_size=8, max_size=80),
    share=st.floats(0.1, 0.6),
    seed=st.integers(0, 99),
)
def test_no_group_is_torn_in_any_order(groups: list[str], share: float, seed: int) -> None:
    if len(set(groups)) < 2:
        return
    rows, splitter = rows_of(groups), GroupSplitter("animal", share, seed)
    train, valid = sides(splitter, rows)
    named = [{row["animal"] for row in side} - {""} for side in (train, valid)]
    assert not named[0] & named[1]
    mixed = random.Random(seed).sample(rows, len(rows))
    again = sides(splitter, mixed)[1]
    assert sorted(row["path"] for row in again) == sorted(row["path"] for row in valid)


def test_the_share_holds_as_nearly_as_groups_allow() -> None:
    rows = rows_of([f"{at // 4}" for at in range(400)])
    for seed in range(20):
        assert len(GroupSplitter("animal", 0.2, seed)(rows)[1]) == 80
    assert len(GroupSplitter("animal", 0.5, 1)(rows)[1]) == 200
    seen = {tuple(GroupSplitter("animal", 0.2, seed)(rows)[1]) for seed in range(20)}
    assert len(seen) == 20
    assert GroupSplitter("animal")(rows) == GroupSplitter("animal", 0.2, 42)(rows)


def test_groups_that_are_all_too_large() -> None:
    """Of a 9 and a 7, none comes near to 3 of 16: the smaller is held out."""
    assert len(GroupSplitter("animal", 0.2)(rows_of(["a"] * 9 + ["b"] * 7))[1]) == 7


def test_group_may_be_a_callable_a_position_or_a_column_of_a_frame() -> None:
    rows = rows_of(["a", "b", "c", "d"] * 5)
    expected = GroupSplitter("animal")(rows)
    assert GroupSplitter(lambda row: row["animal"])(rows) == expected
    assert GroupSplitter(1)(rows) == expected
    assert GroupSplitter("animal")(pd.DataFrame(rows)) == expected
    with pytest.raises(NotFound, match=r"column: got anmial; want one of path, animal\. Did you mean 'animal'\?"):
        GroupSplitter("anmial")(rows)


def test_label_keeps_the_share_class_by_class() -> None:
    rows = [{"path": f"{at}", "animal": str(at // 2), "label": "rare" if at < 20 else "common"} for at in range(200)]
    for seed in range(10):
        for label in ("label", lambda row: row["label"]):
            valid = sides(GroupSplitter("animal", 0.2, seed, label=label), rows)[1]
            assert sum(row["label"] == "rare" for row in valid) == 4
            assert len(valid) == 40
    free = {sum(row["label"] == "rare" for row in sides(GroupSplitter("animal", 0.2, s), rows)[1]) for s in range(10)}
    assert len(free) > 1


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(InvalidInput, match=r"GroupSplitter\(group\): got one group of all 5 items; want two groups"):
        GroupSplitter("animal")(rows_of(["a"] * 5))
    with pytest.raises(InvalidInput, match=r"GroupSplitter: got 0 of 0 items held out"):
        GroupSplitter("animal")([])
    with pytest.raises(InvalidInput, match=r"GroupSplitter\(valid_pct\): got 2; want a share between 0 and 1"):
        GroupSplitter(valid_pct=2)


# --- copies of one picture


@pytest.fixture
def copies(tmp_path: Path) -> list[Path]:
    """Twelve pictures, each three times: as it is, smaller, and a little brighter as a JPEG; and two damaged files."""
    files = []
    for at in range(12):
        picture = noise_picture(at)
        folder = tmp_path / f"class {at % 2}"
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"{at} one.png")
        picture.resize((160, 120)).save(folder / f"{at} two.png")
        ImageEnhance.Brightness(picture).enhance(1.1).save(folder / f"{at} three.jpg", quality=80)
        files += [folder / f"{at} {name}" for name in ("one.png", "two.png", "three.jpg")]
    for name in ("bad 1.jpg", "bad 2.jpg"):
        (tmp_path / name).write_bytes(b"\xff\xd8\xff not a picture")
        files.append(tmp_path / name)
    return files


def noise_picture(seed: int) -> Image.Image:
    """Blobs that differ from seed to seed and survive a change of size."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    return coarse.resize((320, 240), Image.Resampling.BICUBIC)


def test_copies_of_a_picture_stand_on_one_side(copies: list[Path]) -> None:
    train, valid = sides(GroupSplitter(valid_pct=0.3), copies)
    number = [{path.name.split()[0] for path in side} - {"bad"} for side in (train, valid)]
    assert not number[0] & number[1]
    assert len(number[0] | number[1]) == 12
    assert 8 <= len(valid) <= 12
    mixed = random.Random(1).sample(copies, len(copies))
    assert sorted(sides(GroupSplitter(valid_pct=0.3), mixed)[1]) == sorted(valid)


def test_unreadable_pictures_stand_alone(copies: list[Path]) -> None:
    bad = [path for path in copies if path.name.startswith("bad")]
    assert [len(side) for side in GroupSplitter(valid_pct=0.5)(bad)] == [1, 1]


def test_copies_are_looked_for_where_the_item_says(copies: list[Path]) -> None:
    rows = [{"file": str(path)} for path in copies]
    splitter = GroupSplitter(
        valid_pct=0.3, get_path=lambda row: row["file"], label=lambda row: parent_label(row["file"])
    )
    train, valid = sides(splitter, rows)
    number = [{Path(row["file"]).name.split()[0] for row in side} - {"bad"} for side in (train, valid)]
    assert not number[0] & number[1]
    with pytest.raises(InvalidInput, match=r"got an item that is no path: dict; .* or give get_path"):
        GroupSplitter()(rows)
