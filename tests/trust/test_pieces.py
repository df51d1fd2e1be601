"""Pictures that come in groups: for how many of them they count, and whether intervals then hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from drivetrain.errors import InvalidInput
from drivetrain.trust.calibration_interval import calibration_error_interval
from drivetrain.trust.detection import measure_detection
from drivetrain.trust.estimate import Rate, draw_counts, mean_with_interval, wilson_interval
from drivetrain.trust.evaluation import evaluate_predictions, measure_deferral
from drivetrain.trust.groups import compare_groups
from drivetrain.trust.label_evaluation import evaluate_labels
from drivetrain.trust.pieces import count_independent, count_pieces
from drivetrain.trust.promise_check import check_promise
from drivetrain.trust.reliability import reliability_bins
from drivetrain.trust.value_evaluation import evaluate_values


def draw(rng: np.random.Generator, sizes: np.ndarray, share: float, likeness: float) -> np.ndarray:
    """Marks of groups of these sizes; `likeness` is the correlation of two marks of one group."""
    if likeness == 0:
        return rng.random(sizes.sum()) < share
    spread = (1 - likeness) / likeness
    return rng.random(sizes.sum()) < np.repeat(rng.beta(share * spread, (1 - share) * spread, len(sizes)), sizes)


@pytest.mark.parametrize("likeness", [0, 0.2, 0.6, 0.95])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("count", [8, 30, 100])
def test_intervals_of_shares_hold_the_truth(count: int, share: float, likeness: float) -> None:
    rng, repeats, held = np.random.default_rng(0), 400, 0
    for _ in range(repeats):
        sizes = rng.geometric(1 / 8, count)
        rate = Rate.of(draw(rng, sizes, share, likeness), np.repeat(np.arange(count), sizes))
        held += rate.low <= share <= rate.high
    assert held / repeats >= 0.92 - 3 * (0.05 * 0.95 / repeats) ** 0.5


def test_alone_or_in_groups_of_one_it_is_wilsons_interval() -> None:
    marks = np.arange(40) < 7
    alone = Rate.of(marks)
    assert (alone.low, alone.high) == wilson_interval(7, 40)
    assert Rate.of(marks, np.arange(40)[::-1]) == alone
    assert count_independent(marks, None) == count_independent(marks, np.arange(40)) == 40
    assert count_independent(marks[:0], np.arange(0)) == 0


def test_groups_all_alike_count_as_one_picture_each() -> None:
    alone = np.arange(50) % 5 == 0
    groups = np.repeat(np.arange(50), 4)
    counted = count_independent(np.repeat(alone, 4), groups)
    assert counted == pytest.approx(50 * (1 - 0.75 * (1 - (1.96 / t.ppf(0.975, 49)) ** 2)), rel=0.02)
    wide, narrow = Rate.of(np.repeat(alone, 4), groups), Rate.of(alone)
    assert wide.share == narrow.share == 0.2
    assert wide.high - wide.low > narrow.high - narrow.low
    assert count_independent(np.zeros(200, dtype=np.bool_), groups) == pytest.approx(counted, rel=0.02)  # nothing seen


def test_one_pair_of_copies_changes_next_to_nothing() -> None:
    right, groups = np.ones(65, dtype=np.bool_), np.arange(65).clip(max=63)
    assert 62.5 < count_independent(right, groups) < 64
    kept = check_promise(measure_deferral(right, ~right, groups), max_error=0.05)
    assert kept.verdict == "consistent"
    assert "0 of 65, which count as 62, as pictures of a group are alike" in kept.sentence


def test_more_of_one_group_tells_no_more() -> None:
    rate = Rate.of(np.ones(500, dtype=np.bool_), np.zeros(500, dtype=np.int64))
    assert (rate.hits, rate.n, rate.share, rate.low, rate.high) == (500, 500, 1.0, 0.0, 1.0)
    assert count_pieces(500, np.zeros(500)) == 1
    assert count_pieces(500, None) == 500


def test_fewer_are_marked_by_one_group_than_by_many() -> None:
    groups = np.repeat(np.arange(40), 10)
    in_one, in_many = np.arange(400) < 10, np.arange(400) % 40 == 0
    assert Rate.of(in_one, groups).high > Rate.of(in_many, groups).high > Rate.of(in_many).high


def test_whole_groups_are_drawn() -> None:
    groups = np.repeat([3, 8, 8, 1], [1, 4, 2, 3])
    counts = draw_counts(10, repeats=50, groups=groups)
    for name in np.unique(groups):
        assert (counts[:, groups == name] == counts[:, groups == name][:, :1]).all()
    assert (counts[:, [0, 1, 7]].sum(axis=1) == 3).all()  # as many groups as there are


@pytest.mark.parametrize("likeness", [0.3, 0.9])
def test_intervals_of_means_hold_the_truth(likeness: float) -> None:
    rng, repeats, held = np.random.default_rng(1), 150, 0
    groups = np.repeat(np.arange(60), 8)
    for _ in range(repeats):
        values = likeness**0.5 * rng.normal(size=60)[groups] + (1 - likeness) ** 0.5 * rng.normal(size=480)
        told = mean_with_interval("loss", values, groups)
        held += told["loss_low"] <= 0 <= told["loss_high"]
    assert held / repeats >= 0.93 - 3 * (0.05 * 0.95 / repeats) ** 0.5
    few = mean_with_interval("loss", values[:160], groups[:160])  # 20 groups
    assert (few["loss_low"], few["loss_high"]) == (None, None)


def test_copies_do_not_make_a_calibration_error() -> None:
    """Thirty pictures of which each is there ten times: what they show of calibration is what thirty show."""
    rng = np.random.default_rng(0)
    raised = {"alone": 0, "grouped": 0}
    for _ in range(40):
        confidence = np.repeat(rng.uniform(0.6, 0.95, 40), 10)
        is_right = np.repeat(rng.random(40) < confidence[::10], 10)
        groups = np.repeat(np.arange(40), 10)
        probs = np.stack([confidence, 1 - confidence], axis=1)
        bins = reliability_bins(probs, np.where(is_right, 0, 1))
        raised["alone"] += calibration_error_interval(confidence, is_right, bins)[0] > 0
        raised["grouped"] += calibration_error_interval(confidence, is_right, bins, groups=groups)[0] > 0
    assert raised["alone"] >= 35
    assert raised["grouped"] <= 6  # 5 % and three standard errors


def test_every_interval_of_an_evaluation_is_wider() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 10)
    probs = np.repeat(rng.dirichlet(np.ones(3), 40), 10, axis=0)
    labels = np.repeat(rng.integers(3, size=40), 10)
    given = {
        "classes": ["a", "b", "c"],
        "accepted": probs.max(axis=1) > 0.6,
        "flagged": probs.max(axis=1) < 0.4,
        "shifted": probs[:, 0] > 0.7,
    }
    alone = evaluate_predictions(probs, labels, **given)  # type: ignore[arg-type]
    by_group = evaluate_predictions(probs, labels, groups=groups, **given)  # type: ignore[arg-type]
    once = evaluate_predictions(
        probs[::10], labels[::10], **{k: v if k == "classes" else v[::10] for k, v in given.items()}
    )  # type: ignore[arg-type]
    pairs = [(alone, by_group, once)]
    pairs += list(zip(alone.per_class, by_group.per_class, once.per_class, strict=True))
    pairs += [(getattr(alone, of), getattr(by_group, of), getattr(once, of)) for of in ("deferral", "ood", "shifted")]
    n_compared = 0
    for narrow, wide, same in pairs:
        for name in [name[:-4] for name in dir(narrow) if name.endswith("_low")]:
            widths = [getattr(one, f"{name}_high") - getattr(one, f"{name}_low") for one in (narrow, wide, same)]
            n_compared += 1
            assert getattr(wide, name) == pytest.approx(getattr(narrow, name))
            if name != "ece":
                assert widths[1] > 1.5 * widths[0], name
                assert widths[1] == pytest.approx(widths[2], rel=0.25), name  # as if each had been there once
    assert n_compared == 14
    assert by_group.deferral.n_counted < alone.deferral.n_accepted / 5


def test_labels_and_values_are_counted_by_group_too() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    probs, targets = (np.repeat(of, 5, axis=0) for of in (rng.random((40, 2)), rng.integers(0, 2, (40, 2))))
    marks = np.repeat(rng.random(40) < 0.2, 5)
    labels, alone_labels = (
        evaluate_labels(
            probs, targets.astype(float), classes=["a", "b"], guessed=probs > 0.5, decided=probs > 0.2, flagged=marks,
            groups=of,
        )
        for of in (groups, None)
    )  # fmt: skip
    for name in ("exact", "macro_f1", "macro_average_precision", "brier"):
        wide, narrow = (getattr(of, f"{name}_high") - getattr(of, f"{name}_low") for of in (labels, alone_labels))
        assert wide > 1.5 * narrow, name
    for name in ("precision", "recall", "f1", "average_precision", "error"):
        wide, narrow = (
            getattr(of.per_label[0], f"{name}_high") - getattr(of.per_label[0], f"{name}_low")
            for of in (labels, alone_labels)
        )
        assert wide > 1.3 * narrow, name
    truth = np.repeat(rng.normal(size=(40, 1)), 5, axis=0)
    said = truth + np.repeat(rng.normal(size=(40, 1)), 5, axis=0)
    bounds = np.stack([said - 1, said + 1], axis=2)
    values, alone_values = (
        evaluate_values(said, truth, classes=["x"], intervals=bounds, accepted=~marks, flagged=marks, groups=of)
        for of in (groups, None)
    )
    for name in ("mae", "rmse", "r2", "bias", "covered"):
        wide, narrow = (
            getattr(of.per_value[0], f"{name}_high") - getattr(of.per_value[0], f"{name}_low")
            for of in (values, alone_values)
        )
        assert wide > 1.5 * narrow, name
    assert values.deferral.coverage_high > alone_values.deferral.coverage_high


def test_strangers_are_told_from_known_groups() -> None:
    rng = np.random.default_rng(0)
    known, foreign = np.repeat(rng.normal(size=40), 10), rng.normal(1.5, size=200)
    groups = np.repeat(np.arange(40), 10)
    wide, narrow = (measure_detection(known, foreign, known_groups=of) for of in (groups, None))
    assert (wide.auroc, wide.fpr95, wide.aupr_known) == (narrow.auroc, narrow.fpr95, narrow.aupr_known)
    for name in ("auroc", "fpr95", "aupr_known"):
        widths = [getattr(of, f"{name}_high") - getattr(of, f"{name}_low") for of in (wide, narrow)]
        assert widths[0] > 1.3 * widths[1], name
    few = measure_detection(known[:200], foreign, known_groups=groups[:200])  # 20 groups
    assert few.aupr_known_low is None
    assert few.auroc_low < few.auroc < few.auroc_high


def test_who_is_served_worse_is_not_told_of_one_bad_burst() -> None:
    """Twelve cameras in each of two places; of the second place one camera is wrong every time."""
    place, camera = np.repeat([0, 1], 240), np.repeat(np.arange(24), 20)
    groups = {"north": place == 0, "south": place == 1}
    right = camera != 23
    assert [group.name for group, _ in compare_groups(groups, {"accuracy": right}, by="place").worse] == ["south"]
    assert compare_groups(groups, {"accuracy": right}, by="place", alike=camera).worse == []
    worse = compare_groups(groups, {"accuracy": (camera < 12) | (camera % 2 == 0)}, by="place", alike=camera)
    assert [group.name for group, _ in worse.worse] == ["south"]
    errors = np.where(right, 1.0, 4.0) + np.random.default_rng(0).normal(0, 0.1, 480)
    assert [group.name for group, _ in compare_groups(groups, {"error": errors}, by="place").worse] == ["south"]
    assert compare_groups(groups, {"error": errors}, by="place", alike=camera).worse == []
    one = compare_groups(
        {f"{at}": camera == at for at in range(24)}, {"accuracy": right}, by="camera", alike=camera
    )  # asked about itself, each picture of a camera counts
    assert [group.name for group, _ in one.worse] == ["23"]


def test_kept_promises_are_rarely_called_broken_and_bursts_do_not_break_them() -> None:
    rng = np.random.default_rng(0)
    groups, repeats = np.repeat(np.arange(40), 10), 400
    broken = {"alone": 0, "by group": 0}
    for _ in range(repeats):
        wrong = draw(rng, np.full(40, 10), 0.05, 0.6)
        for name, of in (("alone", None), ("by group", groups)):
            told = check_promise(measure_deferral(np.ones(400, dtype=np.bool_), wrong, of), max_error=0.05)
            broken[name] += told.verdict == "broken"
    assert broken["alone"] > 0.2 * repeats
    assert broken["by group"] <= (0.025 + 3 * (0.025 * 0.975 / repeats) ** 0.5) * repeats


def test_a_promise_says_for_how_many_they_count() -> None:
    accepted, groups = np.ones(300, dtype=np.bool_), np.repeat(np.arange(30), 10)
    told = check_promise(measure_deferral(accepted, np.zeros(300, dtype=np.bool_), groups), max_error=0.05)
    assert told.verdict == "untested"
    assert "0 of 300, which count as 27, as pictures of a group are alike" in told.sentence
    assert told.sentence.endswith(": too few decisions to tell (it takes 59 without an error to speak for it).")
    assert told.n_counted == pytest.approx(27.8, abs=0.1)


def test_a_group_for_each_picture_is_asked_for() -> None:
    probs = np.full((4, 2), 0.5)
    marks = np.ones(4, dtype=np.bool_)
    with pytest.raises(InvalidInput, match=r"groups: got shape \(3,\); want a group for each of 4 pictures"):
        evaluate_predictions(
            probs, np.zeros(4, dtype=np.int64), classes=["a", "b"], accepted=marks, flagged=marks, groups=np.arange(3)
        )
    with pytest.raises(InvalidInput, match="a group for each of 4 pictures"):
        Rate.of(marks, np.arange(3))
