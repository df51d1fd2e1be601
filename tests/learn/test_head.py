from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.learn.head import PENALTIES, Head, deal_folds, embed_features, find_tied, fit_head
from drivetrain.progress import SilentProgress
from drivetrain.trust.calibration import softmax


def blobs(k: int, *, n: int = 200, d: int = 20, apart: float = 1.0, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Features as a trunk gives them (not negative, many near zero), in an order that says nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % k).astype(np.int64)
    centres = apart * rng.normal(size=(k, d))
    return np.maximum(0, centres[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


def fit(features: FloatArray, labels: IntArray, *, k: int, threads: int = 1, **options: object) -> Head:
    return fit_head(features, labels, class_count=k, threads=threads, progress=SilentProgress(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [2, 3, 10])
@pytest.mark.parametrize("penalty", [1.0, 0.03, 0.001])
def test_the_optimum_is_that_of_scikit_learn(k: int, penalty: float) -> None:
    features, labels = blobs(k)
    head = fit(features, labels, k=k, penalties=[penalty])
    assert head.penalty == penalty
    scaled = embed_features(features).astype(np.float64)
    scaled -= scaled.mean(axis=0)
    scaled /= np.sqrt(np.square(scaled).mean())
    # two classes are one set of weights there and two opposite ones here: half the penalty each, so C is twice as large
    strength = (2 if k == 2 else 1) / (penalty * len(labels))
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(scaled, labels)
    np.testing.assert_allclose(softmax(head.logits(features)), theirs.predict_proba(scaled), atol=1e-3)


def test_the_penalty_is_the_best_of_those_tried() -> None:
    features, labels = blobs(4, apart=0.6)
    head = fit(features, labels, k=4)
    assert head.penalty == min(head.cv_path, key=lambda step: step[1])[0]
    assert head.cv_log_loss == min(loss for _, loss in head.cv_path)
    assert [penalty for penalty, _ in head.cv_path] == list(PENALTIES[: len(head.cv_path)])
    assert PENALTIES[0] > head.penalty > PENALTIES[-1]  # the optimum lies inside: both ends were worth trying
    assert len(head.cv_path) < len(PENALTIES)  # and the walk ended once it had turned


def test_cross_validation_scores_pictures_it_did_not_see() -> None:
    """Labels that mean nothing cannot be told: whoever sees its own answers says more than chance."""
    rng = np.random.default_rng(0)
    features, labels = np.abs(rng.normal(size=(300, 50))).astype(np.float32), rng.permutation(np.arange(300) % 3)
    head = fit(features, labels, k=3, penalties=[0.001])
    assert head.cv_accuracy == pytest.approx(1 / 3, abs=0.1)
    assert head.cv_log_loss > np.log(3)
    assert (head.logits(features).argmax(axis=1) == labels).mean() > 0.5


def test_penalties_given_are_the_ones_tried() -> None:
    head = fit(*blobs(3), k=3, penalties=[0.5, 0.05])
    assert [penalty for penalty, _ in head.cv_path] == [0.5, 0.05]


def test_the_same_pictures_give_the_same_bits_on_any_number_of_threads() -> None:
    features, labels = blobs(5, n=300, d=200)
    first, again, other = (fit(features, labels, k=5, threads=threads) for threads in (1, 1, 2))
    for head in (again, other):
        assert (head.weight.tobytes(), head.bias.tobytes()) == (first.weight.tobytes(), first.bias.tobytes())
        assert head.cv_path == first.cv_path


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_scale_of_the_features_does_not_matter(scale: float) -> None:
    features, labels = blobs(3)
    want = softmax(fit(features, labels, k=3).logits(features))
    head = fit(features * np.float32(scale), labels, k=3)
    np.testing.assert_allclose(softmax(head.logits(features * np.float32(scale))), want, atol=2e-3)


@pytest.mark.parametrize("fill", [0.0, 3.0])
def test_constant_features_say_nothing(fill: float) -> None:
    features = np.full((40, 6), fill, dtype=np.float32)
    labels = np.repeat([0, 1], [30, 10]).astype(np.int64)[np.random.default_rng(0).permutation(40)]
    head = fit(features, labels, k=2)
    assert np.isfinite(head.weight).all()
    np.testing.assert_allclose(softmax(head.logits(features)), np.tile([0.75, 0.25], (40, 1)), atol=5e-3)


def test_a_class_that_a_fold_never_sees() -> None:
    """One picture of the last class: the fold that holds it out is fitted without it, and must not break."""
    features, labels = blobs(3, n=60)
    labels[labels == 2] = 0
    labels[7] = 2
    head = fit(features, labels, k=3)
    assert head.weight.shape == (3, 20)
    assert np.isfinite([head.cv_log_loss, *(loss for _, loss in head.cv_path)]).all()
    assert np.isfinite(head.logits(features)).all()


def test_a_class_without_a_picture_keeps_its_column() -> None:
    features, labels = blobs(2, n=40)
    assert softmax(fit(features, labels, k=3).logits(features))[:, 2].max() < 0.05


def test_sixty_classes() -> None:
    features, labels = blobs(60, n=600, d=100, apart=2.0)
    head = fit(features, labels, k=60)
    assert head.weight.shape == (60, 100)
    assert (head.logits(features).argmax(axis=1) == labels).mean() > 0.95


@pytest.mark.parametrize(("n", "folds"), [(1_999, 5), (2_000, 3)])
def test_large_sets_take_fewer_folds(n: int, folds: int) -> None:
    assert fit(*blobs(2, n=n, d=4), k=2, penalties=[1.0]).cv_folds == folds


def test_the_root_keeps_the_sign() -> None:
    embedded = embed_features(np.array([[4.0, -9.0, 0.0]]))
    assert embedded.dtype == np.float32
    np.testing.assert_array_equal(embedded, [[2.0, -3.0, 0.0]])


@pytest.mark.parametrize(
    ("sizes", "count"), [((10, 10), 5), ((7, 3, 1), 5), ((1,) * 12, 5), ((4, 4), 2), ((101, 2), 3)]
)
def test_folds_are_balanced(sizes: tuple[int, ...], count: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    folds = deal_folds(labels, count=count)
    assert set(folds) <= set(range(count))
    assert np.ptp(np.bincount(folds, minlength=count)) <= 1
    for label in range(len(sizes)):
        assert np.ptp(np.bincount(folds[labels == label], minlength=count)) <= 1


def deal_cards(labels: IntArray, count: int) -> IntArray:
    """Folds as they were dealt before there were groups: in turn, each class going on where the last one ended."""
    folds, dealt = np.empty(len(labels), dtype=np.int64), 0
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        folds[members] = (np.arange(len(members)) + dealt) % count
        dealt += len(members)
    return folds


@pytest.mark.parametrize("seed", range(20))
def test_pictures_without_company_are_dealt_in_turn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, count = rng.integers(0, rng.integers(1, 9), rng.integers(1, 150)), int(rng.integers(2, 6))
    np.testing.assert_array_equal(deal_folds(labels, count=count), deal_cards(labels, count))
    alone = rng.permutation(len(labels))
    np.testing.assert_array_equal(deal_folds(labels, count=count, groups=alone), deal_cards(labels, count))


def test_groups_of_one_give_the_same_bits_as_none() -> None:
    features, labels = blobs(4, n=150)
    one, other = fit(features, labels, k=4), fit(features, labels, k=4, groups=np.arange(150)[::-1])
    assert (one.weight.tobytes(), one.bias.tobytes(), one.cv_path) == (
        other.weight.tobytes(),
        other.bias.tobytes(),
        other.cv_path,
    )


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("largest", [2, 8])
def test_a_group_is_dealt_as_one_and_folds_stay_alike(count: int, largest: int) -> None:
    rng = np.random.default_rng(count)
    labels = rng.permutation(np.repeat([0, 1, 2], [120, 60, 200]))
    groups = np.empty(380, dtype=np.int64)
    for label in range(3):
        members = np.flatnonzero(labels == label)
        groups[members] = (
            1000 * label
            + np.repeat(np.arange(len(members)), rng.integers(1, largest + 1, len(members)))[: len(members)]
        )
    folds = deal_folds(labels, count=count, groups=groups)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    for label in range(3):
        assert np.ptp(np.bincount(folds[labels == label], minlength=count)) <= 1  # the small ones fill up
    assert np.ptp(np.bincount(folds, minlength=count)) <= 2
    shuffled = deal_folds(labels, count=count, groups=rng.permutation(4000)[groups])
    np.testing.assert_array_equal(folds, shuffled)  # the numbers of the groups say nothing


def test_a_group_of_two_classes_is_dealt_as_one() -> None:
    labels = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    folds = deal_folds(labels, count=2, groups=np.array([5, 5, 6, 6, 7, 7, 8, 8]))
    assert (folds[::2] == folds[1::2]).all()
    assert np.bincount(folds).tolist() == [4, 4]


def test_a_class_of_one_group_is_dealt_picture_by_picture() -> None:
    """Kept together, no fold could be fitted to the class and another judge it."""
    labels = np.array([0] * 6 + [1] * 6 + [2])
    groups = np.array([0] * 6 + [1, 1, 1, 2, 2, 2] + [9])
    assert find_tied(labels, groups) == (0,)
    assert find_tied(labels, None) == find_tied(labels, np.arange(13)) == ()
    folds = deal_folds(labels, count=2, groups=groups)
    assert np.bincount(folds[:6]).tolist() == [3, 3]
    assert sorted({tuple(folds[6:9]), tuple(folds[9:12])}) == [(0, 0, 0), (1, 1, 1)]
    assert find_tied(labels, np.zeros(13, dtype=np.int64)) == (0, 1)  # a class of one picture is parted nowhere anyway
    fit(np.eye(13, dtype=np.float32), labels, k=3, groups=groups)


def test_the_penalty_is_not_chosen_on_pictures_that_were_seen() -> None:
    """Labels by chance, but each picture stands there five times: whoever deals the copies apart finds them easy."""
    rng = np.random.default_rng(0)
    features = np.repeat(np.abs(rng.normal(size=(60, 40))), 5, axis=0).astype(np.float32)
    labels, groups = np.repeat(rng.permutation(np.arange(60) % 3), 5), np.repeat(np.arange(60), 5)
    order = rng.permutation(300)
    features, labels, groups = features[order], labels[order], groups[order]
    fooled, sober = fit(features, labels, k=3), fit(features, labels, k=3, groups=groups)
    assert fooled.cv_accuracy > 0.9
    assert sober.cv_accuracy < 0.5
    assert sober.penalty > 10 * fooled.penalty


def test_a_group_for_each_item() -> None:
    with pytest.raises(InvalidInput, match="groups: got 2 of 3 items; want a group for each item"):
        deal_folds(np.array([0, 1, 1]), count=2, groups=np.array([0, 1]))


@pytest.mark.parametrize(
    ("n_features", "labels", "got"),
    [
        (3, [0, 0, 0], "3 features, 3 labels of 1 classes"),
        (2, [0, 1, 1], "2 features, 3 labels of 2 classes"),
        (0, [], "0 features, 0 labels of 0 classes"),
    ],
)
def test_a_head_needs_two_classes_and_a_label_each(n_features: int, labels: list[int], got: str) -> None:
    with pytest.raises(InvalidInput, match=f"training set: got {got}; want a label each, of two classes or more"):
        fit(np.ones((n_features, 2), dtype=np.float32), np.array(labels, dtype=np.int64), k=2)
