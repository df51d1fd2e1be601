import json

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_ind

from drivetrain.errors import InvalidInput
from drivetrain.trust.groups import LEAST_IN_GROUP, GroupComparison, compare_groups


def split(*sizes: int) -> dict[str, np.ndarray]:
    place = np.repeat(np.arange(len(sizes)), sizes)
    return {f"g{at}": place == at for at in range(len(sizes))}


def right(shares: list[float], sizes: list[int]) -> np.ndarray:
    return np.concatenate([np.arange(n) < round(share * n) for share, n in zip(shares, sizes, strict=True)])


def test_a_group_served_worse_is_named() -> None:
    sizes = [200, 100, 60]
    told = compare_groups(split(*sizes), {"accuracy": right([0.95, 0.92, 0.5], sizes)}, by="site")
    assert [(group.name, group.n) for group in told.groups] == [("g0", 200), ("g1", 100), ("g2", 60)]
    [(group, row)] = told.worse
    assert (group.name, row.name, row.value, row.verdict) == ("g2", "accuracy", 0.5, "worse")
    assert row.rest == pytest.approx((190 + 92) / 300)
    assert row.difference == pytest.approx(0.5 - 282 / 300)
    assert row.difference_low < row.difference < row.difference_high < 0
    assert [row.verdict for group in told.groups for row in group.measures] == ["better", "open", "worse"]


@pytest.mark.parametrize(("measure", "verdict"), [("accuracy", "better"), ("deferred", "worse"), ("flagged", "worse")])
def test_more_is_better_or_worse_by_measure(measure: str, verdict: str) -> None:
    told = compare_groups(split(100, 100), {measure: right([0.9, 0.2], [100, 100])}, by="site")
    assert told.groups[0].measures[0].verdict == verdict


def test_errors_are_compared_by_welch() -> None:
    rng = np.random.default_rng(0)
    errors = np.concatenate([rng.gamma(2, 1, 80), rng.gamma(2, 1.2, 30)])
    told = compare_groups(split(80, 30), {"error": errors}, by="site")
    interval = ttest_ind(errors[:80], errors[80:], equal_var=False).confidence_interval(0.95)
    row = told.groups[0].measures[0]
    assert (row.difference_low, row.difference_high) == pytest.approx((interval.low, interval.high))
    worse = compare_groups(split(80, 30), {"error": errors + 9 * (np.arange(110) >= 80)}, by="site")
    assert [group.name for group, _ in worse.worse] == ["g1"]
    same = compare_groups(split(80, 30), {"error": np.ones(110)}, by="site").groups[0].measures[0]
    assert (same.difference_low, same.difference_high, same.verdict) == (0, 0, "open")


def test_the_allowed_miss_is_shared_out_and_mirrors_count_once() -> None:
    marks = {"accuracy": right([0.9, 0.8], [50, 50]), "deferred": right([0.1, 0.2], [50, 50])}
    two = compare_groups(split(50, 50), marks, by="site")
    assert two.n_comparisons == 2
    row = two.groups[0].measures[0]
    exact = binomtest(45, 50).proportion_ci(1 - 0.05 / 4, method="exact")
    assert (row.low, row.high) == pytest.approx((exact.low, exact.high))
    many = compare_groups(split(*[20] * 5), marks, by="site")
    assert many.n_comparisons == 10
    gap = compare_groups(split(50, 50), {"accuracy": marks["accuracy"]}, by="site").groups[0].measures[0]
    assert gap.difference_high - gap.difference_low < row.difference_high - row.difference_low


def test_small_groups_are_named_and_not_compared() -> None:
    least = LEAST_IN_GROUP
    told = compare_groups(
        split(40, least, least - 1), {"accuracy": right([0.9, 0.5, 0.0], [40, least, least - 1])}, by="a"
    )
    assert [(group.n, len(group.measures)) for group in told.groups] == [(40, 1), (least, 1), (least - 1, 0)]
    assert told.n_comparisons == 2
    alone = compare_groups(split(40, least - 1), {"accuracy": right([0.9, 0.5], [40, least - 1])}, by="a")
    row = alone.groups[0].measures[0]
    assert alone.n_comparisons == 0
    assert (row.rest, row.difference, row.difference_low, row.verdict) == (None, None, None, "")


def test_groups_may_overlap() -> None:
    dark, small = np.arange(60) < 30, np.arange(60) % 2 == 0
    told = compare_groups({"dark": dark, "small": small, "day": ~dark}, {"accuracy": ~dark | small}, by="style")
    assert told.n_comparisons == 2  # dark and day mirror one another
    by_name = {group.name: group.measures[0] for group in told.groups}
    assert by_name["dark"].difference == -by_name["day"].difference == pytest.approx(-0.5)
    assert by_name["small"].difference == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("sizes", "shares"),
    [
        ([10] * 8, [0.9] * 8),
        ([10, 300], [0.95, 0.95]),
        ([15] * 12 + [600], [0.97] * 13),
        ([12, 400, 30], [0.7, 0.95, 0.99]),
    ],
)
def test_all_intervals_together_hold_the_truth(sizes: list[int], shares: list[float]) -> None:
    rng = np.random.default_rng(0)
    groups, repeats, n = split(*sizes), 400, np.array(sizes)
    rest = (np.sum(n * shares) - n * np.array(shares)) / (n.sum() - n)
    truth = dict(zip(groups, np.array(shares) - rest, strict=True))
    chance = np.repeat(shares, sizes)
    held = 0
    for _ in range(repeats):
        marks = {name: rng.random(n.sum()) < chance for name in ("accuracy", "deferred", "flagged")}
        told = compare_groups(groups, marks, by="x")
        held += all(
            row.difference_low <= truth[group.name] <= row.difference_high
            for group in told.groups
            for row in group.measures
        )
    assert held / repeats >= 0.95 - 3 * (0.05 * 0.95 / repeats) ** 0.5


def test_as_json_is_plain() -> None:
    told: GroupComparison = compare_groups(split(20, 30, 2), {"accuracy": np.ones(52, dtype=bool)}, by="site")
    plain = told.as_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["by"], plain["least"], len(plain["groups"])) == ("site", LEAST_IN_GROUP, 3)


@pytest.mark.parametrize(("groups", "marks"), [({}, {}), (split(2, 2), {"accuracy": np.ones(3, dtype=bool)})])
def test_shapes_are_checked(groups: dict[str, np.ndarray], marks: dict[str, np.ndarray]) -> None:
    with pytest.raises(InvalidInput, match="groups: got arrays of different lengths, or none"):
        compare_groups(groups, marks, by="x")
