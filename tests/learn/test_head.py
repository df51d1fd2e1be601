from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score, log_loss, r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.learn.head import PENALTIES, Head, deal_folds, embed_features, fit_head
from drivetrain.learn.head_targets import average_precision
from drivetrain.learn.ridge import RIDGE_PENALTIES
from drivetrain.progress import SilentProgress
from drivetrain.trust.calibration import log_softmax, softmax


def blobs(k: int, *, n: int = 200, d: int = 20, apart: float = 1.0, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Features as a trunk gives them (not negative, many near zero), in an order that says nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % k).astype(np.int64)
    centres = apart * rng.normal(size=(k, d))
    return np.maximum(0, centres[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


def fit(features: FloatArray, targets: IntArray | FloatArray, *, k: int, threads: int = 1, **options: object) -> Head:
    return fit_head(features, targets, class_count=k, threads=threads, progress=SilentProgress(), **options)  # type: ignore[arg-type]


def sigmoid(logits: FloatArray) -> FloatArray:
    return 1 / (1 + np.exp(-logits))


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
    tried = [penalty for penalty, _ in head.cv_path]
    assert tried == [penalty for penalty in PENALTIES if tried[0] >= penalty >= tried[-1]]
    assert tried[0] > head.penalty > tried[-1]  # the optimum lies inside: both ends were worth trying
    assert len(tried) < len(PENALTIES)  # and the walk ended once it had turned


@pytest.mark.parametrize(("apart", "side"), [(0.05, "stronger"), (2.0, "weaker")])
def test_the_walk_finds_the_best_of_all_penalties(apart: float, side: str) -> None:
    """It begins in the middle of the list, and turns round where the weaker ones are no better."""
    features, labels = blobs(4, apart=apart)
    walked, whole = fit(features, labels, k=4), fit(features, labels, k=4, penalties=PENALTIES)
    assert walked.penalty == whole.penalty
    assert (walked.penalty > 0.06) == (side == "stronger")
    assert walked.cv_loss == pytest.approx(whole.cv_loss, abs=1e-3)


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


def test_blocks_are_heeded() -> None:
    """Features of two kinds, one a hundred times as large: by blocks, the head is that of kinds of one size."""
    features, labels = blobs(3, apart=0.6)
    mixed = features * np.where(np.arange(20) < 12, 1, 1e4).astype(np.float32)
    parted, again = (fit(of, labels, k=3, blocks=(12, 8)) for of in (features, mixed))
    assert again.penalty == parted.penalty
    np.testing.assert_allclose(again.logits(mixed), parted.logits(features), atol=2e-3)
    whole = fit(mixed, labels, k=3)
    assert np.abs(whole.logits(mixed) - again.logits(mixed)).max() > 0.1
    assert again.cv_log_loss < whole.cv_log_loss
    with pytest.raises(InvalidInput, match="blocks: got widths that sum to 19; want to 20"):
        fit(features, labels, k=3, blocks=(12, 7))


def test_blocks_scale_views_too() -> None:
    features, labels = blobs(3, apart=0.6)
    size = np.where(np.arange(20) < 12, 1, 1e4).astype(np.float32)
    views = np.stack([features + 0.1])
    first = fit(features, labels, k=3, blocks=(12, 8), views=views)
    second = fit(features * size, labels, k=3, blocks=(12, 8), views=views * size)
    np.testing.assert_allclose(second.logits(features * size), first.logits(features), atol=2e-3)


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


def test_groups_of_one_give_the_same_bits_as_none() -> None:
    features, labels = blobs(4, n=150)
    one, other = fit(features, labels, k=4), fit(features, labels, k=4, groups=np.arange(150)[::-1])
    assert (one.weight.tobytes(), one.bias.tobytes(), one.cv_path) == (
        other.weight.tobytes(),
        other.bias.tobytes(),
        other.cv_path,
    )


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


# --- weights of classes, views, and what cross-validation leaves behind


def test_what_cross_validation_says_is_of_pictures_left_out() -> None:
    features, labels = blobs(4, apart=0.6)
    head = fit(features, labels, k=4)
    assert (head.task, head.score_name, head.cv_logits.shape) == ("classification", "accuracy", (200, 4))
    rows = np.arange(200)
    assert head.cv_loss == pytest.approx(-log_softmax(head.cv_logits)[rows, labels].mean(), rel=1e-5)
    assert head.cv_score == (head.cv_logits.argmax(axis=1) == labels).mean()
    assert (head.cv_log_loss, head.cv_accuracy) == (head.cv_loss, head.cv_score)
    folds = deal_folds(labels, count=5)
    for fold in range(5):  # each fold's answers are those of a fit to the others
        side = folds != fold
        other = LogisticRegression(C=1 / (head.penalty * side.sum()), tol=1e-6, max_iter=10_000)
        centre = embed_features(features).mean(axis=0)
        spread = np.sqrt(np.square(embed_features(features) - centre).mean())
        scaled = (embed_features(features) - centre) / spread
        theirs = other.fit(scaled[side], labels[side]).predict_proba(scaled[~side])
        np.testing.assert_allclose(softmax(head.cv_logits[~side]), theirs, atol=0.02)


def test_class_weights_are_those_of_scikit_learn() -> None:
    features, labels = blobs(3)
    scaled = embed_features(features).astype(np.float64)
    scaled -= scaled.mean(axis=0)
    scaled /= np.sqrt(np.square(scaled).mean())
    weights = np.array([1.0, 5.0, 0.2])
    head = fit(features, labels, k=3, penalties=[0.03], class_weights=weights)
    strength = 1 / (0.03 * weights[labels].sum())  # theirs is a sum of weighted losses, ours their mean
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000, class_weight=dict(enumerate(weights)))
    np.testing.assert_allclose(
        softmax(head.logits(features)), theirs.fit(scaled, labels).predict_proba(scaled), atol=1e-3
    )


def test_balanced_is_one_over_the_share() -> None:
    features, labels = blobs(3, n=300)
    keep = (labels != 2) | (np.arange(300) % 10 == 0)
    features, labels = features[keep], labels[keep]
    n_of = np.bincount(labels)
    plain = fit(features, labels, k=3, penalties=[0.1])
    balanced = fit(features, labels, k=3, penalties=[0.1], class_weights="balanced")
    by_hand = fit(features, labels, k=3, penalties=[0.1], class_weights=len(labels) / (3 * n_of))
    assert balanced.weight.tobytes() == by_hand.weight.tobytes()
    rare = labels == 2
    assert (balanced.cv_logits[rare].argmax(axis=1) == 2).mean() > (plain.cv_logits[rare].argmax(axis=1) == 2).mean()
    expected = -log_softmax(balanced.cv_logits)[np.arange(len(labels)), labels] / n_of[labels]
    assert balanced.cv_loss == pytest.approx(expected.sum() / 3, rel=1e-5)  # all classes count alike there too


def test_weights_of_one_change_nothing() -> None:
    features, labels = blobs(4)
    plain, ones = fit(features, labels, k=4), fit(features, labels, k=4, class_weights=[1, 1, 1, 1])
    np.testing.assert_allclose(ones.weight, plain.weight, atol=1e-4)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("equal", "class_weights: got equal; want 'balanced', or a number for each class"),
        ([1.0, 2.0], r"class_weights: got \[1.0, 2.0\]; want 3 finite numbers above 0, one for each class"),
        ([1.0, 2.0, 0.0], "want 3 finite numbers above 0"),
        ([1.0, 2.0, np.nan], "want 3 finite numbers above 0"),
    ],
)
def test_class_weights_that_cannot_be(weights: object, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        fit(*blobs(3), k=3, class_weights=weights)


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_views_are_fitted_to_and_not_judged_on(task: str) -> None:
    """Views that are the pictures themselves change nothing but the sums; others are fitted to, by their own folds."""
    features, targets, k = SETS[task]()
    plain = fit(features, targets, k=k, task=task, penalties=[0.1], groups=np.arange(len(features)))
    twins = fit(features, targets, k=k, task=task, penalties=[0.1], views=np.stack([features, features]))
    np.testing.assert_allclose(twins.weight, plain.weight, atol=2e-3)
    np.testing.assert_allclose(twins.cv_logits, plain.cv_logits, atol=0.02)
    assert twins.cv_folds == plain.cv_folds == 5
    assert twins.cv_loss == pytest.approx(plain.cv_loss, rel=1e-2)
    rng = np.random.default_rng(3)
    noisy = np.maximum(0, features + rng.normal(size=(1, *features.shape)).astype(np.float32))
    varied = fit(features, targets, k=k, task=task, penalties=[0.1], views=noisy)
    assert np.abs(varied.weight - plain.weight).max() > 0.01


def test_a_view_of_another_fold_is_no_peek() -> None:
    """Labels by chance: a fold that is fitted to views of the pictures that judge it finds them easy."""
    rng = np.random.default_rng(0)
    features = np.abs(rng.normal(size=(300, 60))).astype(np.float32)
    labels = rng.permutation(np.arange(300) % 3)
    views = features + rng.normal(size=(4, 300, 60)).astype(np.float32) * 0.05
    head = fit(features, labels, k=3, penalties=[0.001], views=views)
    assert head.cv_score == pytest.approx(1 / 3, abs=0.1)


def test_views_are_of_the_same_pictures() -> None:
    features, labels = blobs(3)
    with pytest.raises(InvalidInput, match=r"views: got shape \(2, 100, 20\); want \(any number, 200, 20\)"):
        fit(features, labels, k=3, views=np.zeros((2, 100, 20), dtype=np.float32))


# --- labels that may stand together


def tagged(
    *, n: int = 300, d: int = 20, k: int = 4, seed: int = 0, share: float = 0.4
) -> tuple[FloatArray, FloatArray, int]:
    rng = np.random.default_rng(seed)
    features = np.abs(rng.normal(size=(n, d))).astype(np.float32)
    scores = (features - features.mean(axis=0)) @ rng.normal(size=(d, k)) + rng.normal(size=(n, k))
    return features, (scores > np.quantile(scores, 1 - share, axis=0)).astype(np.float32), k


def measured(*, n: int = 300, d: int = 20, m: int = 2, seed: int = 0) -> tuple[FloatArray, FloatArray, int]:
    """Numbers of quite different sizes, linear in the root of the features."""
    rng = np.random.default_rng(seed)
    features = np.abs(rng.normal(size=(n, d))).astype(np.float32)
    values = np.sqrt(features) @ rng.normal(size=(d, m)) + 0.3 * rng.normal(size=(n, m))
    return features, (values * [1.0, 1000.0][:m] + [5.0, -2e4][:m]).astype(np.float32), m


SETS = {"classification": lambda: (*blobs(3), 3), "multilabel": tagged, "regression": measured}


def test_each_label_is_a_logistic_regression_of_its_own() -> None:
    features, targets, k = tagged()
    head = fit(features, targets, k=k, task="multilabel", penalties=[0.02])
    scaled = embed_features(features).astype(np.float64)
    scaled -= scaled.mean(axis=0)
    scaled /= np.sqrt(np.square(scaled).mean())
    for label in range(k):
        theirs = LogisticRegression(C=1 / (0.02 * len(features)), tol=1e-8, max_iter=10_000)
        probs = theirs.fit(scaled, targets[:, label]).predict_proba(scaled)[:, 1]
        np.testing.assert_allclose(sigmoid(head.logits(features)[:, label]), probs, atol=1e-3)


def test_the_penalty_of_labels_is_the_best_of_those_tried() -> None:
    features, targets, k = tagged(d=60)
    head = fit(features, targets, k=k, task="multilabel")
    assert head.penalty == min(head.cv_path, key=lambda step: step[1])[0]
    assert PENALTIES[0] > head.penalty > PENALTIES[-1]
    probs = sigmoid(head.cv_logits)
    assert head.cv_loss == pytest.approx(log_loss(targets.ravel(), probs.ravel().astype(np.float64)), rel=1e-4)
    assert head.score_name == "average_precision"
    assert head.cv_score == pytest.approx(average_precision_score(targets, head.cv_logits, average="macro"), rel=1e-6)


def test_weights_count_the_pictures_that_have_a_label() -> None:
    features, targets, k = tagged(share=0.1)
    weights = np.array([3.0, 1.0, 0.5, 9.0])
    head = fit(features, targets, k=k, task="multilabel", penalties=[0.02], class_weights=weights)
    scaled = embed_features(features).astype(np.float64)
    scaled -= scaled.mean(axis=0)
    scaled /= np.sqrt(np.square(scaled).mean())
    for label in range(k):
        theirs = LogisticRegression(
            C=1 / (0.02 * len(features)), tol=1e-8, max_iter=10_000, class_weight={0: 1.0, 1: weights[label]}
        )
        probs = theirs.fit(scaled, targets[:, label]).predict_proba(scaled)[:, 1]
        np.testing.assert_allclose(sigmoid(head.logits(features)[:, label]), probs, atol=1e-3)
    n_with = targets.sum(axis=0)
    balanced = fit(features, targets, k=k, task="multilabel", penalties=[0.02], class_weights="balanced")
    by_hand = fit(features, targets, k=k, task="multilabel", penalties=[0.02], class_weights=300 / n_with - 1)
    np.testing.assert_allclose(balanced.weight, by_hand.weight, atol=1e-5)
    plain = fit(features, targets, k=k, task="multilabel", penalties=[0.02])
    found = [(head.cv_logits[targets > 0] > 0).mean() for head in (plain, balanced)]
    assert found[1] > found[0] + 0.1


def test_labels_that_few_pictures_have() -> None:
    """One that none has, one that all have, and one of a single picture, which the fold that holds it out never saw."""
    features, targets, _ = tagged(n=60)
    targets[:, 1], targets[:, 2], targets[:, 3] = 0, 1, 0
    targets[7, 3] = 1
    for options in ({}, {"class_weights": "balanced"}):
        head = fit(features, targets, k=4, task="multilabel", **options)
        assert np.isfinite([head.cv_loss, head.cv_score]).all()
        assert np.isfinite(head.cv_logits).all()
        probs = sigmoid(head.logits(features))
        assert probs[:, 1].max() < 0.05
        assert probs[:, 2].min() > 0.95
    told = [average_precision_score(targets[:, at], head.cv_logits[:, at]) for at in (0, 3)]
    assert head.cv_score == pytest.approx(np.mean(told))  # labels that all have, or none, say nothing


def test_equal_scores_are_one_step() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        has = rng.random(30) < 0.3
        has[3] = True
        scores = rng.integers(0, 6, 30).astype(np.float64)
        assert average_precision(scores, has) == pytest.approx(average_precision_score(has, scores))


# --- numbers


@pytest.mark.parametrize(("n", "d"), [(300, 20), (60, 200)])
@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_numbers_are_those_of_ridge_regression(n: int, d: int, penalty: float) -> None:
    features, values, m = measured(n=n, d=d)
    head = fit(features, values, k=m, task="regression", penalties=[penalty])
    scaled = embed_features(features).astype(np.float64)
    scaled -= scaled.mean(axis=0)
    scaled /= np.sqrt(np.square(scaled).mean())
    theirs = Ridge(alpha=penalty * n).fit(scaled, values.astype(np.float64))
    gap = np.abs(head.logits(features) - theirs.predict(scaled)).max(axis=0)
    assert (gap < 1e-3 * values.std(axis=0)).all()


@pytest.mark.parametrize(("n", "d"), [(80, 20), (40, 100)])
def test_leaving_each_one_out_is_exact(n: int, d: int) -> None:
    features, values, m = measured(n=n, d=d)
    head = fit(features, values, k=m, task="regression", penalties=[0.05])
    scaled = embed_features(features).astype(np.float64)
    scaled -= scaled.mean(axis=0)
    scaled /= np.sqrt(np.square(scaled).mean())
    theirs = cross_val_predict(Ridge(alpha=0.05 * n), scaled, values.astype(np.float64), cv=LeaveOneOut())
    assert (np.abs(head.cv_logits - theirs) < 1e-3 * values.std(axis=0)).all()
    assert (head.cv_folds, head.score_name) == (n, "r2")
    assert head.cv_score == pytest.approx(r2_score(values, theirs), abs=1e-3)
    assert head.cv_loss == pytest.approx(1 - head.cv_score, abs=1e-3)


def test_the_penalty_of_numbers_is_the_best_of_those_tried() -> None:
    features, values, m = measured(n=100, d=80)
    head = fit(features, values, k=m, task="regression")
    assert head.penalty == min(head.cv_path, key=lambda step: step[1])[0]
    assert [penalty for penalty, _ in head.cv_path] == list(RIDGE_PENALTIES)
    assert RIDGE_PENALTIES[0] > head.penalty > RIDGE_PENALTIES[-1]


def test_numbers_of_one_group_are_left_out_together() -> None:
    """Each picture stands there five times, its value by chance: left out one by one, its copies would tell it."""
    rng = np.random.default_rng(0)
    features = np.repeat(np.abs(rng.normal(size=(60, 40))), 5, axis=0).astype(np.float32)
    values, groups = np.repeat(rng.normal(size=(60, 1)), 5, axis=0).astype(np.float32), np.repeat(np.arange(60), 5)
    fooled = fit(features, values, k=1, task="regression")
    sober = fit(features, values, k=1, task="regression", groups=groups)
    assert fooled.cv_score > 0.4
    assert sober.cv_score < 0.1
    assert sober.cv_folds == 5
    assert sober.penalty > 10 * fooled.penalty


def test_numbers_that_are_all_of_one_group() -> None:
    features, values, m = measured(n=50)
    head = fit(features, values, k=m, task="regression", groups=np.zeros(50, dtype=np.int64))
    assert head.cv_folds == 5
    assert np.isfinite(head.cv_loss)


def test_one_of_two_numbers_is_constant() -> None:
    features, values, m = measured()
    values[:, 0] = 7
    head = fit(features, values, k=m, task="regression")
    np.testing.assert_allclose(head.logits(features)[:, 0], 7, atol=1e-4)
    assert head.cv_score > 0.8  # told of the other one


def test_constant_features_give_the_mean() -> None:
    values = np.array([[1.0], [2.0], [6.0]], dtype=np.float32)
    for d in (2, 9):
        head = fit(np.full((3, d), 2.0, dtype=np.float32), values, k=1, task="regression")
        np.testing.assert_allclose(head.logits(np.full((1, d), 2.0)), [[3.0]], atol=1e-5)
        np.testing.assert_allclose(head.cv_logits, [[4.0], [3.5], [1.5]], atol=1e-5)


def test_numbers_of_more_pictures_than_are_taken_at_a_time() -> None:
    features, values, m = measured(n=5_000, d=6)
    head = fit(features, values, k=m, task="regression", penalties=[0.1])
    scaled = embed_features(features).astype(np.float64)
    scaled -= scaled.mean(axis=0)
    scaled /= np.sqrt(np.square(scaled).mean())
    theirs = Ridge(alpha=500).fit(scaled, values.astype(np.float64)).predict(scaled)
    assert (np.abs(head.logits(features) - theirs) < 1e-3 * values.std(axis=0)).all()
    assert (np.abs(head.cv_logits - theirs) < 0.02 * values.std(axis=0)).all()


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_other_tasks_give_the_same_bits_on_any_number_of_threads(task: str) -> None:
    features, targets, k = SETS[task]()
    groups = np.arange(len(features)) // 2
    one, two = (fit(features, targets, k=k, task=task, threads=threads, groups=groups) for threads in (1, 2))
    assert one.weight.tobytes() == two.weight.tobytes()
    assert one.cv_logits.tobytes() == two.cv_logits.tobytes()


def test_numbers_have_no_class_weights() -> None:
    features, values, m = measured()
    with pytest.raises(InvalidConfig, match="class_weights: got balanced; want nothing: the labels are numbers"):
        fit(features, values, k=m, task="regression", class_weights="balanced")


@pytest.mark.parametrize(
    ("task", "targets", "message"),
    [
        ("multilabel", np.zeros((3, 2)), "want at least one label that some pictures have and others have not"),
        ("multilabel", np.ones((3, 2)), "want at least one label that some pictures have and others have not"),
        ("multilabel", np.full((3, 2), 0.5), "got targets other than 0 and 1; want 0 or 1 for each label"),
        ("multilabel", np.eye(3), r"got 3 features, targets of shape \(3, 3\); want targets of shape \(3, 2\)"),
        ("regression", np.zeros(3), r"got 3 features, targets of shape \(3,\); want targets of shape \(3, 2\)"),
        ("regression", np.ones((3, 2)), "got 3 features, numbers all alike; want two different ones or more"),
        ("regression", np.full((3, 2), np.nan), "got a number that is missing or infinite; want finite numbers"),
    ],
)
def test_targets_that_say_nothing(task: str, targets: FloatArray, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fit(np.ones((3, 4), dtype=np.float32), targets.astype(np.float32), k=2, task=task)
