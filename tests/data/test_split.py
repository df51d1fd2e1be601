from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pytest

from drivetrain.data.items import Item
from drivetrain.data.split import Split, check_classes, number_groups, order_by_seed, split_items
from drivetrain.errors import InvalidConfig, InvalidInput


def make(sizes: dict[str, int], *, split: str | None = None, group_size: int = 0) -> list[Item]:
    return [
        Item(
            path=f"{split}/{label}/{i}.jpg",
            label=label,
            split=split,
            group=f"{label}-{i // group_size}" if group_size else None,
        )
        for label, n in sizes.items()
        for i in range(n)
    ]


def halves(
    items: Sequence[Item], *, valid_share: float = 0.2, seed: int = 42, copies: Sequence[Sequence[str]] = ()
) -> Split:
    return split_items(items, valid_share=valid_share, seed=seed, copies=copies)


def paths(items: Sequence[Item]) -> set[str]:
    return {item.path for item in items}


def test_the_split_depends_on_seed_and_paths_alone() -> None:
    items = make({"cat": 50, "dog": 30})
    split = halves(items)
    shuffled = random.Random(0).sample(items, len(items))
    assert paths(halves(shuffled).valid) == paths(split.valid)
    assert halves(shuffled).digest == split.digest
    other = halves(items, seed=43)
    assert paths(other.valid) != paths(split.valid)
    assert other.digest != split.digest


def test_the_digest_knows_labels_and_sides() -> None:
    split = halves(make({"cat": 10, "dog": 10}))
    renamed = replace(split, train=(replace(split.train[0], label="owl"), *split.train[1:]))
    moved = replace(split, train=split.train[1:], valid=(*split.valid, split.train[0]))
    assert len({split.digest, renamed.digest, moved.digest}) == 3


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.99])
def test_each_class_has_its_share_and_one_on_each_side(share: float) -> None:
    sizes = {"a": 5, "b": 40, "c": 101}
    split = halves(make(sizes), valid_share=share)
    held = Counter(item.label for item in split.valid)
    for label, n in sizes.items():
        assert held[label] == min(n - 1, max(1, round(share * n)))
    assert paths(split.train) | paths(split.valid) == paths(make(sizes))
    assert not paths(split.train) & paths(split.valid)


def test_the_splits_of_two_seeds_are_unrelated() -> None:
    items = make({"cat": 1000, "dog": 1000})
    both = paths(halves(items, valid_share=0.5, seed=1).valid) & paths(halves(items, valid_share=0.5, seed=2).valid)
    assert 430 <= len(both) <= 570


def test_a_given_split_is_kept() -> None:
    train, valid, test = (make({"cat": 5, "dog": 5}, split=name) for name in ("train", "valid", "test"))
    undecided = [Item(path="cat/x.jpg", label="cat")]
    split = halves([*valid, *test, *train, *undecided], valid_share=0.9)
    assert paths(split.train) == paths(train) | {"cat/x.jpg"}
    assert paths(split.valid) == paths(valid)
    assert paths(split.left_out) == paths(test)


def test_without_a_valid_part_train_is_divided_and_test_left_alone() -> None:
    split = halves([*make({"cat": 10, "dog": 10}, split="train"), *make({"cat": 10, "dog": 10}, split="test")])
    assert (len(split.train), len(split.valid), len(split.left_out)) == (16, 4, 20)
    assert {item.split for item in split.valid} == {"train"}


@pytest.mark.parametrize("group_size", [2, 7])
def test_pictures_of_a_group_stay_together(group_size: int) -> None:
    items = make({"cat": 70, "dog": 42}, group_size=group_size)
    split = halves(items, valid_share=0.25)
    assert not {item.group for item in split.train} & {item.group for item in split.valid}
    held = Counter(item.label for item in split.valid)
    assert held["cat"] == pytest.approx(17.5, abs=group_size / 2 + 1)
    assert held["dog"] == pytest.approx(10.5, abs=group_size / 2 + 1)
    assert paths(halves(items[::-1], valid_share=0.25).valid) == paths(split.valid)


def test_a_group_of_several_classes_stays_together() -> None:
    items = [Item(path=f"{label}/{i}.jpg", label=label, group=f"site {i % 9}") for label in "ab" for i in range(45)]
    split = halves(items)
    sides = defaultdict(set)
    for name, side in (("train", split.train), ("valid", split.valid)):
        for item in side:
            sides[item.group].add(name)
    assert all(len(names) == 1 for names in sides.values())
    assert {item.label for item in split.valid} == {"a", "b"}


def test_of_groups_that_are_all_large_the_smallest_is_held_out() -> None:
    items = [*make({"cat": 50})] + [Item(path=f"dog/{i}.jpg", label="dog", group="xyy"[i % 3]) for i in range(30)]
    held = [item for item in halves(items, valid_share=0.05).valid if item.label == "dog"]
    assert {item.group for item in held} == {"x"}


def name_sides(split: Split) -> dict[str, str]:
    return {item.path: name for name, of in (("train", split.train), ("valid", split.valid)) for item in of}


def test_copies_stay_on_one_side() -> None:
    items = make({"cat": 60, "dog": 40})
    copies = [[f"None/cat/{i}.jpg", f"None/cat/{i + 30}.jpg", f"None/dog/{i}.jpg"] for i in range(20)]
    at = name_sides(halves(items, valid_share=0.3, copies=copies))
    assert all(len({at[path] for path in paths}) == 1 for paths in copies)
    assert len({at[paths[0]] for paths in copies}) == 2  # some here, some there
    alone = name_sides(halves(items, valid_share=0.3))
    assert not all(len({alone[path] for path in paths}) == 1 for paths in copies)  # or this shows nothing
    held = Counter(path.split("/")[1] for path, side in at.items() if side == "valid")
    assert held["cat"] == pytest.approx(18, abs=2)
    assert held["dog"] == pytest.approx(12, abs=2)
    again = halves(items[::-1], valid_share=0.3, copies=[paths[::-1] for paths in copies[::-1]])
    assert name_sides(again) == at


def test_a_group_and_the_copies_of_its_pictures_stay_together() -> None:
    """Group one is tied to two by a copy, two to a picture without a group by another."""
    items = [*make({"cat": 30, "dog": 30}, group_size=3), Item(path="cat/lone.jpg", label="cat")]
    copies = [["None/cat/0.jpg", "None/cat/28.jpg"], ["None/cat/29.jpg", "cat/lone.jpg", "gone.jpg"]]
    tied = {f"None/cat/{i}.jpg" for i in (0, 1, 2, 27, 28, 29)} | {"cat/lone.jpg"}
    seen = set()
    for seed in range(30):
        at = name_sides(halves(items, valid_share=0.4, seed=seed, copies=copies))
        assert len({at[path] for path in tied}) == 1
        seen |= {at[path] for path in tied}
    assert seen == {"train", "valid"}


def test_a_picture_without_copies_stands_where_it_stood() -> None:
    """Finding copies must not deal all the others anew."""
    items = make({"cat": 100, "dog": 100})
    alone = name_sides(halves(items))
    tied = name_sides(halves(items, copies=[["None/cat/0.jpg", "None/cat/1.jpg"]]))
    assert sum(alone[path] != tied[path] for path in alone) <= 2


def test_a_class_of_copies_alone_is_parted_and_named() -> None:
    items = make({"cat": 20, "dog": 10})
    copies = [[f"None/dog/{i}.jpg" for i in range(10)], ["None/cat/0.jpg", "None/cat/1.jpg"]]
    split = halves(items, copies=copies)
    assert split.parted == ("dog",)
    assert Counter(item.label for item in split.valid) == {"cat": 4, "dog": 2}
    for seed in range(20):
        at = name_sides(halves(items, seed=seed, copies=copies))
        assert at["None/cat/0.jpg"] == at["None/cat/1.jpg"]  # the other class keeps its copies together
    assert halves(items).parted == ()


def test_a_given_split_is_kept_whatever_is_a_copy() -> None:
    train, valid = (make({"cat": 5, "dog": 5}, split=name) for name in ("train", "valid"))
    split = halves([*train, *valid], copies=[["train/cat/0.jpg", "valid/cat/0.jpg"]])
    assert (paths(split.train), paths(split.valid)) == (paths(train), paths(valid))
    assert split.is_given
    assert not halves(train).is_given


def test_a_class_of_one_group_cannot_be_split() -> None:
    items = [*make({"cat": 10}), *make({"dog": 10}, group_size=10)]
    with pytest.raises(InvalidInput) as caught:
        halves(items)
    assert caught.value.message == (
        "split: got no picture of 'dog' in valid; want every class on both sides. "
        "Pictures of one group stay together, so a class needs two groups at least."
    )


@pytest.mark.parametrize(
    ("sides", "where"), [(("train", "valid"), "train and valid"), (("train", "test"), "test and train")]
)
def test_a_group_on_both_sides_of_a_given_split_is_an_error(sides: tuple[str, str], where: str) -> None:
    items = [*make({"cat": 5, "dog": 5}, split="train"), *make({"cat": 5, "dog": 5}, split="valid")]
    items += [Item(path=f"{side}/{i}", label="cat", group=f"g{i}", split=side) for side in sides for i in range(2)]
    with pytest.raises(InvalidInput) as caught:
        halves(items)
    assert caught.value.message == (
        f"split: got pictures of group 'g0' in {where}, and 1 more groups like it; want each group on one side. "
        "Give all pictures of a group the same split, or drop the column `split`."
    )


@pytest.mark.parametrize(("lacking", "other"), [("valid", "train"), ("train", "valid")])
def test_a_class_missing_on_one_side_is_an_error(lacking: str, other: str) -> None:
    items = [*make({"cat": 5, "dog": 5}, split=other), *make({"dog": 5}, split=lacking)]
    with pytest.raises(InvalidInput) as caught:
        halves(items)
    assert caught.value.message == (
        f"split: got no picture of 'cat' in {lacking}; want every class on both sides. "
        "Move some pictures over, or drop the split and let drivetrain make one."
    )


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, float("nan")])
def test_share_outside_its_range(share: float) -> None:
    with pytest.raises(InvalidConfig, match=r"--valid: got .*; want a share between 0 and 1, such as 0\.2"):
        halves(make({"cat": 5, "dog": 5}), valid_share=share)


def test_order_by_seed_is_a_shuffle_that_does_not_know_the_order_given() -> None:
    items = make({"cat": 30})
    ordered = order_by_seed(items, 1)
    assert ordered == order_by_seed(items[::-1], 1)
    assert ordered not in (items, order_by_seed(items, 2))
    assert sorted(ordered, key=lambda item: item.path) == sorted(items, key=lambda item: item.path)


@pytest.mark.parametrize(
    ("sizes", "broken", "want"),
    [
        ({}, {}, "got no readable picture (0 could not be read); want pictures of two classes or more."),
        ({}, {"cat": 3}, "got no readable picture (3 could not be read); want pictures of two classes or more."),
        ({"cat": 9}, {}, "got one class, 'cat' (9 pictures); want two classes or more. Add a folder with"),
        ({"cat": 9, "dog": 4}, {}, "got too few readable pictures: 'dog' has 4; want at least 5 in each class, and"),
        (
            {"cat": 9, "dog": 4, "owl": 1},
            {"dog": 7},
            "got too few readable pictures: 'dog' has 4 (7 more could not be read); 'owl' has 1; want at least 5 in",
        ),
        ({"cat": 9}, {"dog": 9}, "got too few readable pictures: 'dog' has 0 (9 more could not be read); want"),
    ],
)
def test_classes_too_poor_to_learn(sizes: dict[str, int], broken: dict[str, int], want: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_classes(make(sizes), unreadable=make(broken))
    assert caught.value.message.startswith(f"DATA: {want}")


def test_pictures_marked_test_do_not_count() -> None:
    check_classes(make({"cat": 5, "dog": 5}), unreadable=make({"dog": 1}))
    with pytest.raises(InvalidInput, match="'dog' has 4"):
        check_classes([*make({"cat": 5, "dog": 4}), *make({"dog": 5}, split="test")], unreadable=[])


def test_a_number_for_those_that_stay_together() -> None:
    rows = [("a", None), ("b", "bear 1"), ("c", "bear 1"), ("d", "bear 2"), ("e", None), ("f", None)]
    items = [Item(path=path, label="bear", group=group) for path, group in rows]
    assert number_groups(items) == [0, 1, 1, 2, 3, 4]
    numbers = number_groups(items, copies=[["c", "d"], ["f", "a"]])
    assert [numbers.index(number) for number in numbers] == [0, 1, 1, 1, 4, 0]
