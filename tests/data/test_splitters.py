"""Splitters: exact counts, the same split for any order and any place, and what cannot be split is told."""

from __future__ import annotations

import pickle
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.data.getters import parent_label
from drivetrain.data.splitters import (
    ColSplitter,
    FuncSplitter,
    GrandparentSplitter,
    IndexSplitter,
    RandomSplitter,
    TrainTestSplitter,
)
from drivetrain.errors import InvalidInput, NotFound

calm = settings(deadline=None)  # a busy machine is no failure
file_names = st.lists(st.text("abcä/", min_size=1, max_size=6), min_size=5, max_size=40, unique=True)


def paths(n: int, *, root: str = "/data", classes: str = "ab") -> list[Path]:
    return [Path(root, classes[at % len(classes)], f"{at}.jpg") for at in range(n)]


def held_out(splitter: Callable[[Any], tuple[list[int], list[int]]], items: Any) -> list[Any]:
    """The items held out; that the sides are two, whole and in order is checked on the way."""
    train, valid = splitter(items)
    assert train == sorted(train)
    assert valid == sorted(valid)
    assert sorted(train + valid) == list(range(len(items)))
    return [items[at] for at in valid]


def shuffled(items: list[Any], seed: int = 1) -> list[Any]:
    items = list(items)
    random.Random(seed).shuffle(items)
    return items


# --- RandomSplitter


@calm
@given(n=st.integers(2, 300), pct=st.floats(0.01, 0.99), seed=st.integers(0, 2**40))
def test_exactly_so_many_are_held_out(n: int, pct: float, seed: int) -> None:
    if 0 < int(pct * n) < n:
        assert len(held_out(RandomSplitter(pct, seed), paths(n))) == int(pct * n)


@calm
@given(stems=file_names, seed=st.integers(0, 9), order=st.integers(0, 9))
def test_the_order_of_the_files_and_where_they_lie_change_nothing(stems: list[str], seed: int, order: int) -> None:
    here = [Path(f"/here/bears/{at}{stem}.jpg") for at, stem in enumerate(stems)]
    there = [Path("/another/place") / path.relative_to("/here/bears") for path in here]
    split = RandomSplitter(0.4, seed)
    chosen = {path.relative_to("/here/bears") for path in held_out(split, here)}
    assert {path.relative_to("/here/bears") for path in held_out(split, shuffled(here, order))} == chosen
    assert {path.relative_to("/another/place") for path in held_out(split, shuffled(there, order))} == chosen
    assert {Path(path).relative_to("/here/bears") for path in held_out(split, list(map(str, here)))} == chosen


def test_paths_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    relative = [path.relative_to("/data") for path in paths(40)]
    absolute = [tmp_path / path for path in relative]
    split = RandomSplitter(seed=3)
    assert [tmp_path / path for path in held_out(split, relative)] == held_out(split, absolute)
    assert split([Path("x/..") / path for path in relative]) == split(relative)


def test_a_split_is_kept_for_ever() -> None:
    """Written down: another Python, another machine or another version must hold out the same."""
    assert RandomSplitter(0.2, seed=42)(paths(20))[1] == [2, 7, 16, 19]


def test_the_seed_matters_and_none_draws_anew() -> None:
    items = paths(60)
    assert RandomSplitter(seed=1)(items) == RandomSplitter(seed=1)(items) != RandomSplitter(seed=2)(items)
    assert len({tuple(RandomSplitter()(items)[1]) for _ in range(5)}) == 5
    counts = Counter(at for seed in range(1_000) for at in RandomSplitter(0.2, seed)(items)[1])
    assert min(counts.values()) > 140  # each item is held out in a fifth of the draws: 200, deviation 13
    assert max(counts.values()) < 260


TABLE = [{"path": f"{at}.jpg", "label": "ab"[at % 2], "age": at % 7} for at in range(30)]


def test_rows_are_known_by_what_they_hold() -> None:
    split = RandomSplitter(seed=5)
    chosen = [row["path"] for row in held_out(split, TABLE)]
    assert sorted(row["path"] for row in held_out(split, shuffled(TABLE))) == sorted(chosen)
    assert split(pd.DataFrame(TABLE)) == split(TABLE)
    assert split([row for _, row in pd.DataFrame(TABLE).iterrows()]) == split(TABLE)
    assert split([dict(reversed(row.items())) for row in TABLE]) == split(TABLE)


def test_copies_of_a_row_are_split_as_any() -> None:
    rows = [{"x": at // 4} for at in range(40)]
    chosen = Counter(row["x"] for row in held_out(RandomSplitter(0.25, 1), rows))
    assert chosen.total() == 10
    assert Counter(row["x"] for row in held_out(RandomSplitter(0.25, 1), shuffled(rows))) == chosen


@pytest.mark.parametrize(
    "items",
    [
        [np.full((4, 4, 3), at, np.uint8) for at in range(20)],
        [(f"{at}.jpg", at) for at in range(20)],
        list(range(20)),
        list(np.arange(20)),
        [{f"{at}", "x", "y"} for at in range(20)],
        [Path(f"{at}.jpg") if at % 2 else at for at in range(20)],
    ],
    ids=["arrays", "tuples", "numbers", "numpy numbers", "sets", "mixed"],
)
def test_items_of_any_kind(items: list[Any]) -> None:
    first = [str(item) for item in held_out(RandomSplitter(seed=1), items)]
    again = [str(item) for item in held_out(RandomSplitter(seed=1), shuffled(items))]
    assert (len(first), sorted(first)) == (4, sorted(again))


def test_items_that_are_other_ones_in_each_run_are_refused() -> None:
    with pytest.raises(InvalidInput, match="items: got a object; want paths, rows of a table, numbers or arrays"):
        RandomSplitter(seed=1)([object() for _ in range(9)])


# --- TrainTestSplitter


@calm
@given(
    counts=st.lists(st.integers(5, 60), min_size=1, max_size=5),
    share=st.floats(0.1, 0.9),
    seed=st.integers(0, 99),
)
def test_each_class_gets_its_share(counts: list[int], share: float, seed: int) -> None:
    items = [Path(f"/data/{label}/{at}.jpg") for label, count in enumerate(counts) for at in range(count)]
    n_valid = int(np.ceil(share * len(items)))
    if min(n_valid, len(items) - n_valid) < len(counts):
        return
    labels = [parent_label(item) for item in items]
    chosen = held_out(TrainTestSplitter(share, seed, stratify=labels), items)
    assert len(chosen) == n_valid
    for label, count in enumerate(counts):
        assert abs(sum(parent_label(item) == str(label) for item in chosen) - count * n_valid / len(items)) < 1
    mixed = shuffled(items, seed)
    again = held_out(TrainTestSplitter(share, seed, stratify=parent_label), mixed)
    assert sorted(again) == sorted(chosen)


def test_stratify_may_be_a_column_and_is_optional() -> None:
    rare = [{"path": str(at), "label": "rare" if at < 10 else "common"} for at in range(100)]
    for seed in range(20):
        chosen = held_out(TrainTestSplitter(0.1, seed, stratify="label"), rare)
        assert Counter(row["label"] for row in chosen) == {"rare": 1, "common": 9}
    free = [Counter(row["label"] for row in held_out(TrainTestSplitter(0.1, seed), rare))["rare"] for seed in range(20)]
    assert len(set(free)) > 1


@pytest.mark.parametrize(("size", "expected"), [(0.2, 3), (0.21, 3), (5, 5), (1, 1), (0.5, 6)])
def test_size_is_a_share_rounded_up_or_a_number(size: float, expected: int) -> None:
    assert len(TrainTestSplitter(size, 0)(paths(11))[1]) == expected


def test_random_state_matters_and_none_draws_anew() -> None:
    items = paths(60)
    one, same, other = (TrainTestSplitter(random_state=seed)(items) for seed in (1, 1, 2))
    assert one == same != other
    assert len({tuple(TrainTestSplitter()(items)[1]) for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (TrainTestSplitter(0.2, 0, stratify=["a"]), r"stratify\): got 1 labels for 10 items; want a label for each"),
        (TrainTestSplitter(0.2, 0, stratify=["x"] + ["y"] * 9), r"got one item of 'x'; want two items of each class"),
        (TrainTestSplitter(0.1, 0, stratify=parent_label), r"got 1 of 10 items held out, of 2 classes; want as many"),
        (TrainTestSplitter(9, 0, stratify=parent_label), r"got 9 of 10 items held out, of 2 classes; want as many"),
        (TrainTestSplitter(10, 0), r"TrainTestSplitter: got 10 of 10 items held out; want at least one item on each"),
    ],
)
def test_what_cannot_be_stratified_is_told(splitter: TrainTestSplitter, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        splitter(paths(10))


# --- the others


def test_grandparents() -> None:
    items = [f"/x/{part}/{label}/1.jpg" for part in ("train", "valid", "test") for label in "ab"]
    assert GrandparentSplitter()(items) == ([0, 1], [2, 3])
    assert GrandparentSplitter(valid_name="test")([Path(item) for item in items]) == ([0, 1], [4, 5])
    assert GrandparentSplitter(["train", "valid"], ("test",))(items) == ([0, 1, 2, 3], [4, 5])
    with pytest.raises(
        InvalidInput, match=r"valid_name\): got val; .* two folders below one of these: 'test', 'train', 'valid'"
    ):
        GrandparentSplitter(valid_name="val")(items)
    with pytest.raises(InvalidInput, match=r"train_name\): got training"):
        GrandparentSplitter("training")(items)
    with pytest.raises(InvalidInput, match="got 'a' on both sides"):
        GrandparentSplitter(["a", "b"], "a")


@pytest.mark.parametrize(
    "cells",
    [
        [False, True, False],
        [0, 1, 0],
        ["False", "True", "False"],
        ["no", " YES ", "0"],
        [0.0, 1.0, 0.0],
        list(np.array([False, True, False])),
    ],
    ids=str,
)
def test_a_column_says_who_is_held_out(cells: list[Any]) -> None:
    rows = [{"path": "a", "is_valid": cell} for cell in cells]
    assert ColSplitter()(rows) == ColSplitter(1)(rows) == ([0, 2], [1])
    assert ColSplitter()(pd.DataFrame(rows)) == ([0, 2], [1])
    assert ColSplitter("part")([{"part": cell} for cell in cells]) == ([0, 2], [1])


def test_a_column_may_hold_names() -> None:
    frame = pd.DataFrame({"split": ["train", "valid", "test", "train"]})
    assert ColSplitter("split", on="valid")(frame) == ([0, 2, 3], [1])
    assert ColSplitter("split", on=["valid", "test"])(frame) == ([0, 3], [1, 2])
    with pytest.raises(InvalidInput, match=r"ColSplitter\('split'\), row 0: got train; want true .* on='valid'"):
        ColSplitter("split")(frame)
    with pytest.raises(InvalidInput, match="got 0 of 4 items held out"):
        ColSplitter("split", on="vaild")(frame)
    with pytest.raises(NotFound, match=r"got spilt; want one of split\. Did you mean 'split'\?"):
        ColSplitter("spilt")(frame)
    for empty in (None, float("nan"), ""):
        with pytest.raises(InvalidInput, match=r"row 1: got .*; want true or false"):
            ColSplitter("x")([{"x": True}, {"x": empty}])


def test_indices() -> None:
    assert IndexSplitter([3, 1, 3])(paths(5)) == ([0, 2, 4], [1, 3])
    assert IndexSplitter(np.array([0]))(pd.DataFrame(TABLE[:2])) == ([1], [0])
    assert IndexSplitter(iter([1]))(paths(3)) == ([0, 2], [1])
    for wrong in (5, -1):
        with pytest.raises(InvalidInput, match=rf"valid_idx\): got {wrong}; want 0 to 4, for 5 items"):
            IndexSplitter([wrong])(paths(5))


def test_a_function() -> None:
    assert FuncSplitter(lambda path: path.stem in {"1", "2"})(paths(4)) == ([0, 3], [1, 2])
    assert FuncSplitter(lambda row: row["age"] == 0)(TABLE[:8]) == ([1, 2, 3, 4, 5, 6], [0, 7])


@pytest.mark.parametrize(
    "splitter", [RandomSplitter(seed=1), TrainTestSplitter(), IndexSplitter([]), FuncSplitter(bool)]
)
def test_no_items_are_told(splitter: Any) -> None:
    with pytest.raises(InvalidInput, match=r"got 0 of 0 items held out; .* There are no items: look at what get_items"):
        splitter([])


def test_a_side_without_items_is_told() -> None:
    with pytest.raises(InvalidInput, match="RandomSplitter: got 0 of 4 items held out; want at least one item on each"):
        RandomSplitter(0.2, 1)(paths(4))
    with pytest.raises(InvalidInput, match="FuncSplitter: got 4 of 4 items held out"):
        FuncSplitter(lambda path: True)(paths(4))


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, True, "0.2", None, float("nan")])
def test_a_share_is_between_0_and_1(share: Any) -> None:
    with pytest.raises(InvalidInput, match=r"RandomSplitter\(valid_pct\): got .*; want a share between 0 and 1"):
        RandomSplitter(share)
    if share != 1 or share is True:
        with pytest.raises(InvalidInput, match=r"test_size\): got .*; want a share between 0 and 1, .* or a number"):
            TrainTestSplitter(share)


def test_splitters_are_values() -> None:
    for splitter in (RandomSplitter(0.3, 1), TrainTestSplitter(0.3, 1), ColSplitter("a"), IndexSplitter([1, 2])):
        assert pickle.loads(pickle.dumps(splitter)) == splitter


def test_a_share_of_too_few_items_says_what_to_do() -> None:
    with pytest.raises(InvalidInput, match=r"0\.2 of 4 is less than one: take a larger valid_pct, or more items"):
        RandomSplitter(0.2, seed=1)(["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
