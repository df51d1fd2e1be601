"""Metrics against scikit-learn, against numbers worked out by hand, and against what people give by mistake."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as skm
import torch
from scipy import stats

from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra
from drivetrain.learn import metrics
from drivetrain.learn.metrics import (
    ECE,
    APScoreBinary,
    APScoreMulti,
    BalancedAccuracy,
    BrierScore,
    BrierScoreMulti,
    CohenKappa,
    ExplainedVariance,
    F1Score,
    F1ScoreMulti,
    FBeta,
    FBetaMulti,
    HammingLossMulti,
    Jaccard,
    JaccardMulti,
    MatthewsCorrCoef,
    MatthewsCorrCoefMulti,
    Metric,
    PearsonCorrCoef,
    Perplexity,
    Precision,
    PrecisionMulti,
    R2Score,
    Recall,
    RecallMulti,
    RocAuc,
    RocAucBinary,
    RocAucMulti,
    SpearmanCorrCoef,
    accuracy,
    accuracy_multi,
    check_metrics,
    error_rate,
    exp_rmspe,
    mae,
    metric_name,
    mse,
    msle,
    rmse,
    skm_to_metric,
    top_k_accuracy,
)
from drivetrain.trust.evaluation import evaluate_predictions

RNG = np.random.default_rng(5)
TARGS = RNG.permutation(np.repeat(np.arange(4), [40, 30, 20, 10]))
PREDS = RNG.dirichlet(np.ones(4), 100) * 0.6 + 0.4 * np.eye(4)[TARGS] * RNG.uniform(0, 1, (100, 1))
PREDS /= PREDS.sum(axis=1, keepdims=True)
CALLED = PREDS.argmax(axis=1)
TWO_TARGS = (TARGS == 3).astype(np.int64)
TWO_PREDS = np.stack([1 - PREDS[:, 3], PREDS[:, 3]], axis=1)
MARKS = (RNG.random((80, 3)) < [0.2, 0.5, 0.7]).astype(np.float32)
PROBS = np.clip(0.5 * RNG.random((80, 3)) + 0.4 * MARKS * RNG.random((80, 3)) + 0.05, 0, 1)
GIVEN = PROBS > 0.5
VALUES = RNG.normal(10, 3, (60, 2))
GUESSES = VALUES + RNG.normal(0.5, [1, 4], (60, 2))

Case = tuple[Callable[[Any, Any], float], float]

ONE_LABEL: dict[str, Case] = {
    "accuracy": (accuracy, skm.accuracy_score(TARGS, CALLED)),
    "error_rate": (error_rate, 1 - skm.accuracy_score(TARGS, CALLED)),
    "top_k": (partial(top_k_accuracy, k=2), skm.top_k_accuracy_score(TARGS, PREDS, k=2)),
    "precision": (Precision(average="macro"), skm.precision_score(TARGS, CALLED, average="macro")),
    "recall": (Recall(average="weighted"), skm.recall_score(TARGS, CALLED, average="weighted")),
    "f1_micro": (F1Score(average="micro"), skm.f1_score(TARGS, CALLED, average="micro")),
    "f1_macro": (F1Score(average="macro"), skm.f1_score(TARGS, CALLED, average="macro")),
    "f1_of_one": (F1Score(average="macro", labels=[2]), skm.f1_score(TARGS == 2, CALLED == 2)),
    "fbeta": (FBeta(2, average="macro"), skm.fbeta_score(TARGS, CALLED, beta=2, average="macro")),
    "jaccard": (Jaccard(average="macro"), skm.jaccard_score(TARGS, CALLED, average="macro")),
    "balanced": (BalancedAccuracy(), skm.balanced_accuracy_score(TARGS, CALLED)),
    "adjusted": (BalancedAccuracy(adjusted=True), skm.balanced_accuracy_score(TARGS, CALLED, adjusted=True)),
    "kappa": (CohenKappa(), skm.cohen_kappa_score(TARGS, CALLED)),
    "kappa_steps": (CohenKappa(weights="quadratic"), skm.cohen_kappa_score(TARGS, CALLED, weights="quadratic")),
    "matthews": (MatthewsCorrCoef(), skm.matthews_corrcoef(TARGS, CALLED)),
    "auc": (RocAuc(), skm.roc_auc_score(TARGS, PREDS, multi_class="ovr")),
    "auc_weighted": (
        RocAuc(average="weighted"),
        skm.roc_auc_score(TARGS, PREDS, multi_class="ovr", average="weighted"),
    ),
    "auc_micro": (RocAuc(average="micro"), skm.roc_auc_score(TARGS, PREDS, multi_class="ovr", average="micro")),
    "auc_ovo": (RocAuc(multi_class="ovo"), skm.roc_auc_score(TARGS, PREDS, multi_class="ovo")),
    "brier": (BrierScore(), skm.brier_score_loss(TARGS, PREDS, scale_by_half=False)),
    "perplexity": (Perplexity(), math.exp(skm.log_loss(TARGS, PREDS))),
}
TWO_CLASSES: dict[str, Case] = {
    "precision": (Precision(), skm.precision_score(TWO_TARGS, TWO_PREDS.argmax(1))),
    "recall_of_0": (Recall(pos_label=0), skm.recall_score(TWO_TARGS, TWO_PREDS.argmax(1), pos_label=0)),
    "f1": (F1Score(), skm.f1_score(TWO_TARGS, TWO_PREDS.argmax(1))),
    "auc": (RocAuc(), skm.roc_auc_score(TWO_TARGS, TWO_PREDS[:, 1])),
    "auc_binary": (RocAucBinary(), skm.roc_auc_score(TWO_TARGS, TWO_PREDS[:, 1])),
    "auc_start": (RocAucBinary(max_fpr=0.2), skm.roc_auc_score(TWO_TARGS, TWO_PREDS[:, 1], max_fpr=0.2)),
    "ap": (APScoreBinary(), skm.average_precision_score(TWO_TARGS, TWO_PREDS[:, 1])),
    "ap_of_0": (APScoreBinary(pos_label=0), skm.average_precision_score(1 - TWO_TARGS, TWO_PREDS[:, 0])),
    "brier": (BrierScore(), 2 * skm.brier_score_loss(TWO_TARGS, TWO_PREDS[:, 1])),
}
SEVERAL_LABELS: dict[str, Case] = {
    "accuracy": (accuracy_multi, (GIVEN == MARKS).mean()),
    "accuracy_low": (partial(accuracy_multi, thresh=0.3), ((PROBS > 0.3) == MARKS).mean()),
    "precision": (PrecisionMulti(), skm.precision_score(MARKS, GIVEN, average="macro")),
    "recall": (RecallMulti(0.3), skm.recall_score(MARKS, PROBS > 0.3, average="macro")),
    "f1": (F1ScoreMulti(average="micro"), skm.f1_score(MARKS, GIVEN, average="micro")),
    "f1_pictures": (
        F1ScoreMulti(average="samples"),
        skm.f1_score(MARKS, GIVEN, average="samples", zero_division=0),
    ),
    "f1_own_thresholds": (
        F1ScoreMulti([0.2, 0.5, 0.6]),
        skm.f1_score(MARKS, np.greater(PROBS, [0.2, 0.5, 0.6]), average="macro"),
    ),
    "f1_of_two": (F1ScoreMulti(labels=[0, 2]), skm.f1_score(MARKS[:, [0, 2]], GIVEN[:, [0, 2]], average="macro")),
    "f1_of_one": (F1ScoreMulti(labels=[1], average="micro"), skm.f1_score(MARKS[:, 1], GIVEN[:, 1])),
    "fbeta": (FBetaMulti(0.5), skm.fbeta_score(MARKS, GIVEN, beta=0.5, average="macro")),
    "jaccard": (JaccardMulti(average="weighted"), skm.jaccard_score(MARKS, GIVEN, average="weighted")),
    "hamming": (HammingLossMulti(), skm.hamming_loss(MARKS, GIVEN)),
    "matthews": (MatthewsCorrCoefMulti(), skm.matthews_corrcoef(MARKS.ravel(), GIVEN.ravel())),
    "brier": (BrierScoreMulti(), np.mean([skm.brier_score_loss(MARKS[:, i], PROBS[:, i]) for i in range(3)])),
    "auc": (RocAucMulti(), skm.roc_auc_score(MARKS, PROBS)),
    "auc_weighted": (RocAucMulti(average="weighted"), skm.roc_auc_score(MARKS, PROBS, average="weighted")),
    "ap": (APScoreMulti(), skm.average_precision_score(MARKS, PROBS)),
    "ap_micro": (APScoreMulti(average="micro"), skm.average_precision_score(MARKS, PROBS, average="micro")),
}
NUMBERS: dict[str, Case] = {
    "mse": (mse, skm.mean_squared_error(VALUES, GUESSES)),
    "rmse": (rmse, math.sqrt(skm.mean_squared_error(VALUES, GUESSES))),
    "mae": (mae, skm.mean_absolute_error(VALUES, GUESSES)),
    "r2": (R2Score(), skm.r2_score(VALUES, GUESSES)),
    "explained": (ExplainedVariance(), skm.explained_variance_score(VALUES, GUESSES)),
    "pearson": (PearsonCorrCoef(), np.mean([stats.pearsonr(VALUES[:, i], GUESSES[:, i])[0] for i in range(2)])),
    "spearman": (SpearmanCorrCoef(), np.mean([stats.spearmanr(VALUES[:, i], GUESSES[:, i])[0] for i in range(2)])),
}
GROUPS = [
    (ONE_LABEL, PREDS, TARGS),
    (TWO_CLASSES, TWO_PREDS, TWO_TARGS),
    (SEVERAL_LABELS, PROBS, MARKS),
    (NUMBERS, GUESSES, VALUES),
]


@pytest.mark.parametrize(("cases", "preds", "targs"), GROUPS, ids=["one label", "two classes", "several", "numbers"])
def test_scikit_learn_says_the_same(cases: dict[str, Case], preds: np.ndarray, targs: np.ndarray) -> None:
    for name, (metric, want) in cases.items():
        got = metric(preds, targs)
        assert type(got) is float, name
        assert got == pytest.approx(want, abs=1e-12), name
        assert metric(torch.from_numpy(preds), torch.from_numpy(targs)) == got, name
        assert metric(torch.from_numpy(preds).float().requires_grad_(), targs) == pytest.approx(got, abs=1e-5), name


def test_every_metric_was_compared_or_has_a_test_of_its_own() -> None:
    compared = {metric_name(metric) for cases, _, _ in GROUPS for metric, _ in cases.values()}
    made = {"check_metrics", "metric_name", "skm_to_metric", "Metric", "MetricLike", "ECE"}
    by_hand = {"ExpectedCalibrationError", "msle", "exp_rmspe"}
    for name in set(metrics.__all__) - made - by_hand:
        one = getattr(metrics, name)
        assert (one.name if isinstance(one, type) else one.__name__) in compared


def test_numbers_worked_out_by_hand() -> None:
    preds = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.2, 0.6]])
    targs = np.array([0, 1, 1, 2])  # called 0 1 0 2
    assert accuracy(preds, targs) == 0.75
    assert error_rate(preds, targs) == 0.25
    assert top_k_accuracy(preds, targs, k=2) == 1.0
    # precision 1/2, 1, 1; recall 1, 1/2, 1
    assert Precision(average="macro")(preds, targs) == pytest.approx(5 / 6)
    assert Recall(average="macro")(preds, targs) == pytest.approx(5 / 6)
    assert F1Score(average="macro")(preds, targs) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    # distances: .09+.04+.01, .01+.16+.09, .25+.36+.01, .04+.04+.16
    assert BrierScore()(preds, targs) == pytest.approx((0.14 + 0.26 + 0.62 + 0.24) / 4)
    assert Perplexity()(preds, targs) == pytest.approx((0.7 * 0.6 * 0.4 * 0.6) ** (-1 / 4))
    # one bin: sure by 0.6 on average, right 3 times of 4
    assert ECE(bins=1)(preds, targs) == pytest.approx(0.15)
    # two bins: (0.6, 0.5) right once... by confidence: 0.5 wrong, 0.6 right twice, 0.7 right
    assert ECE(bins=4)(preds, targs) == pytest.approx((0.5 + 2 * 0.4 + 0.3) / 4)


def test_numbers_of_values_worked_out_by_hand() -> None:
    preds, targs = np.array([1.0, 3.0]), np.array([[2.0], [1.0]])
    assert mse(preds, targs) == 2.5
    assert rmse(preds, targs) == pytest.approx(math.sqrt(2.5))
    assert mae(preds, targs) == 1.5
    assert R2Score()(preds, targs) == pytest.approx(1 - 5 / 0.5)
    assert msle(preds, targs) == pytest.approx((math.log(2 / 3) ** 2 + math.log(4 / 2) ** 2) / 2)
    # e**1 for e**2, e**3 for e**1: shares of the truth e**-1 - 1 and e**2 - 1
    assert exp_rmspe(preds, targs) == pytest.approx(math.sqrt(((math.e**-1 - 1) ** 2 + (math.e**2 - 1) ** 2) / 2))


def test_numbers_agree_with_the_evaluation_s() -> None:
    all_true, none = np.ones(100, dtype=bool), np.zeros(100, dtype=bool)
    told = evaluate_predictions(PREDS, TARGS, classes=list("abcd"), accepted=all_true, flagged=none)
    assert accuracy(PREDS, TARGS) == told.accuracy
    assert BalancedAccuracy()(PREDS, TARGS) == pytest.approx(told.balanced_accuracy)
    assert F1Score(average="macro")(PREDS, TARGS) == pytest.approx(told.macro_f1)
    assert BrierScore()(PREDS, TARGS) == told.brier
    assert ECE()(PREDS, TARGS) == told.ece
    assert Perplexity()(PREDS, TARGS) == pytest.approx(math.exp(told.log_loss))


def test_of_equal_probabilities_the_first_label_counts() -> None:
    preds, targs = np.full((2, 3), 1 / 3), np.array([0, 1])
    assert accuracy(preds, targs) == 0.5
    assert top_k_accuracy(preds, targs, k=1) == 0.5
    assert top_k_accuracy(preds, targs, k=2) == 1.0
    with pytest.raises(InvalidConfig, match=r"top_k_accuracy\(k\): got 5; want 1 to 3.*partial\(top_k_accuracy, k=2\)"):
        top_k_accuracy(preds, targs)


def test_shares_of_nothing_are_0_and_warn_of_nothing() -> None:
    preds, targs = np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0])
    for metric in (Precision(), Recall(), F1Score(), Jaccard(), FBeta(1)):
        assert metric(preds, targs) == 0.0
    nothing = np.zeros((2, 2))
    for multi in (PrecisionMulti(), RecallMulti(), F1ScoreMulti(), JaccardMulti(average="samples"), FBetaMulti(2)):
        assert multi(nothing, nothing) == 0.0


def test_classes_without_pictures_are_left_out_of_rankings() -> None:
    preds, targs = PREDS[TARGS != 3], TARGS[TARGS != 3]
    three = [skm.roc_auc_score(targs == label, preds[:, label]) for label in range(3)]
    assert RocAuc()(preds, targs) == pytest.approx(np.mean(three))
    assert math.isnan(RocAuc(multi_class="ovo")(preds, targs))
    marks = MARKS.copy()
    marks[:, 1] = 0
    two = [skm.average_precision_score(marks[:, label], PROBS[:, label]) for label in (0, 2)]
    assert APScoreMulti()(PROBS, marks) == pytest.approx(np.mean(two))
    marks[:, 0] = 1  # always so: its precision is 1, its ROC curve is none
    assert RocAucMulti()(PROBS, marks) == pytest.approx(skm.roc_auc_score(marks[:, 2], PROBS[:, 2]))
    for metric in (RocAucMulti(), APScoreMulti()):
        assert math.isnan(metric(PROBS, np.zeros_like(marks)))
    assert math.isnan(RocAucBinary()(TWO_PREDS, np.ones_like(TWO_TARGS)))
    assert math.isnan(APScoreBinary()(TWO_PREDS, np.zeros_like(TWO_TARGS)))


def test_what_one_class_or_one_value_cannot_tell_is_nan() -> None:
    one = np.zeros(100, dtype=np.int64)
    sure = np.eye(4)[one]
    assert math.isnan(CohenKappa()(sure, one))
    assert math.isnan(BalancedAccuracy(adjusted=True)(sure, one))
    assert MatthewsCorrCoef()(sure, one) == 0.0
    assert MatthewsCorrCoefMulti()(np.zeros((3, 2)), np.zeros((3, 2))) == 0.0
    for metric in (R2Score(), ExplainedVariance()):
        assert math.isnan(metric(np.array([1.0]), np.array([1.0])))
    for metric in (PearsonCorrCoef(), SpearmanCorrCoef()):
        assert math.isnan(metric(np.ones(5), np.arange(5.0)))
        assert metric(np.stack([np.ones(5), np.arange(5)], 1), np.stack([np.arange(5.0)] * 2, 1)) == pytest.approx(1)


def test_steps_without_a_picture_count_as_steps() -> None:
    preds, targs = np.eye(5)[[0, 4, 4, 2]], np.array([0, 4, 2, 2])  # of 5 steps, 1 and 3 are empty
    want = skm.cohen_kappa_score(targs, preds.argmax(1), weights="quadratic", labels=range(5))
    assert CohenKappa(weights="quadratic")(preds, targs) == pytest.approx(want)


def test_a_model_that_diverged_is_nan_everywhere() -> None:
    for cases, preds, targs in GROUPS:
        broken = preds.copy()
        broken[3, 0] = np.nan
        assert all(math.isnan(metric(broken, targs)) for metric, _ in cases.values())


def test_sigmoid_is_for_logits() -> None:
    logits = np.log(PROBS / (1 - PROBS))
    for metric, own in (
        (F1ScoreMulti(0.3, True), F1ScoreMulti(0.3)),
        (RocAucMulti(True, average="micro"), RocAucMulti(average="micro")),
        (BrierScoreMulti(sigmoid=True), BrierScoreMulti()),
        (HammingLossMulti(0.7, sigmoid=True), HammingLossMulti(0.7)),
        (partial(accuracy_multi, sigmoid=True), accuracy_multi),
    ):
        assert metric(logits, MARKS) == pytest.approx(own(PROBS, MARKS))
    assert accuracy_multi(np.array([[-800.0, 800.0]]), np.array([[0, 1]]), sigmoid=True) == 1.0  # and no overflow


def test_tensors_of_any_float_type_are_read() -> None:
    halves = torch.tensor(PREDS).to(torch.bfloat16)
    assert accuracy(halves, torch.tensor(TARGS, dtype=torch.int32)) == accuracy(halves.float(), TARGS)
    assert accuracy(PREDS, TARGS[:, None]) == accuracy(PREDS, TARGS)


def test_a_metric_of_two_classes_says_which_average_to_give_for_ten() -> None:
    preds, targs = np.eye(10)[[1, 2]], np.array([1, 2])
    with pytest.raises(InvalidConfig, match=r"F1Score\(average='binary'\): got 10 classes.*average='macro' weighs"):
        F1Score()(preds, targs)
    for metric in (RocAucBinary(), APScoreBinary()):
        with pytest.raises(InvalidConfig, match=r"got 10 classes; want 2 classes. For more there is RocAuc\(\)"):
            metric(preds, targs)
    with pytest.raises(InvalidConfig, match=r"Recall\(labels\): got \[12\]; want numbers of classes, 0 to 9"):
        Recall(average="macro", labels=[12])(preds, targs)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: F1Score(average="mean"), r"F1Score\(average\): got mean; want one of binary, macro, micro, weighted"),  # type: ignore[arg-type]
        (lambda: Recall(average=None), r"Recall\(average\): got None"),  # type: ignore[arg-type]
        (lambda: Precision(pos_label=2), r"Precision\(pos_label\): got 2; want 0 or 1"),
        (lambda: RocAucBinary(pos_label=5), r"RocAucBinary\(pos_label\): got 5"),
        (lambda: F1ScoreMulti(average="binary"), r"F1ScoreMulti\(average\): got binary; want one of macro"),  # type: ignore[arg-type]
        (lambda: RocAuc(average="micro", multi_class="ovo"), r"RocAuc\(average\): got micro; want one of macro, weigh"),
        (lambda: RocAuc(multi_class="all"), r"RocAuc\(multi_class\): got all; want ovr or ovo"),  # type: ignore[arg-type]
        (lambda: APScoreMulti(average="samples"), r"APScoreMulti\(average\): got samples"),  # type: ignore[arg-type]
        (lambda: ECE(bins=0), r"ExpectedCalibrationError\(bins\): got 0"),
        (
            lambda: F1ScoreMulti([0.1, 0.2])(PROBS, MARKS),
            r"F1ScoreMulti\(thresh\): got 2 numbers; want one number, or one",
        ),
        (lambda: accuracy_multi(PROBS, MARKS, thresh=[1, 2]), r"thresh.*got 2 numbers"),
        (lambda: F1ScoreMulti(labels=[3])(PROBS, MARKS), r"F1ScoreMulti\(labels\): got \[3\]; want numbers of labels"),
    ],
)
def test_options_that_cannot_be_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        make()


@pytest.mark.parametrize(
    ("metric", "preds", "targs", "said"),
    [
        (accuracy, PROBS, MARKS, r"accuracy: got predictions \(80, 3\) and targets \(80, 3\).*accuracy_multi"),
        (accuracy, GUESSES, VALUES[:, 0], r"accuracy: got targets from .* want whole ones from 0 to 1"),
        (F1ScoreMulti(), PREDS, TARGS, r"f1_score: got predictions \(100, 4\) and targets \(100,\).* F1Score,"),
        (mae, PREDS, TARGS, r"mae: got predictions \(100, 4\) and targets \(100, 1\); want values"),
        (accuracy, PREDS, TARGS + 2, r"accuracy: got targets from 2 to 5; want whole ones from 0 to 3"),
        (F1ScoreMulti(), PROBS, MARKS * 2, r"targets from 0.0 to 2.0; want whole ones from 0 to 1"),
        (accuracy, PREDS[:0], TARGS[:0], r"predictions \(0, 4\)"),
        (accuracy, PREDS[:, 0], TARGS, r"predictions \(100,\)"),
        (mae, np.float64(1), np.float64(1), r"predictions \(\) and targets \(\)"),
        (msle, -VALUES, VALUES, r"msle: got predictions down to -.*values above -1.*mae or rmse"),
    ],
)
def test_what_does_not_match_is_refused_with_a_metric_that_fits(
    metric: Callable[[Any, Any], float], preds: Any, targs: Any, said: str
) -> None:
    with pytest.raises(InvalidInput, match=said):
        metric(preds, targs)


def test_names_are_fastai_s_and_can_be_set() -> None:
    assert [metric_name(m) for m in (accuracy, partial(top_k_accuracy, k=3), F1Score(), ECE(), mae, R2Score())] == [
        "accuracy",
        "top_k_accuracy",
        "f1_score",
        "ece",
        "mae",
        "r2_score",
    ]
    assert metric_name(F1Score(average="micro", name="micro_f1")) == "micro_f1"
    assert repr(RocAuc(name="auc")) == "<RocAuc 'auc'>"

    class Strict(F1Score):
        pass

    class Odd:
        def __call__(self, preds: Any, targs: Any) -> float:
            return 0.0

    assert metric_name(Strict()) == "f1_score"
    assert metric_name(Odd()) == "Odd"


def test_a_metric_of_one_s_own() -> None:
    class Surest(Metric):
        name = "surest"

        def measure(self, preds: np.ndarray, targs: np.ndarray) -> float:
            return float(preds.max())

    assert Surest()(torch.tensor(PREDS), TARGS) == PREDS.max()
    assert metric_name(Surest()) == "surest"
    with pytest.raises(NotImplementedError):
        Metric()(PREDS, TARGS)


def test_metrics_are_checked_before_an_epoch_is_spent() -> None:
    check_metrics([accuracy, F1Score(average="macro"), lambda preds, targs: 0.0], task="classification", count=10)
    check_metrics([accuracy_multi, partial(F1ScoreMulti(0.2))], task="multilabel", count=3)
    for metrics_, task, count, said in (
        ([F1Score()], "classification", 10, "got 10 classes"),
        ([partial(top_k_accuracy, k=2)], "regression", 1, "top_k_accuracy: got a model for regression; want .*classif"),
        ([accuracy], "multilabel", 3, "For multilabel there are accuracy_multi, F1ScoreMulti"),
        ([mae, R2Score(), R2Score()], "regression", 1, "two named 'r2_score'"),
        ([F1ScoreMulti([0.1, 0.2])], "multilabel", 3, "got 2 numbers"),
    ):
        with pytest.raises(InvalidConfig, match=said):
            check_metrics(metrics_, task=task, count=count)  # type: ignore[arg-type]


def test_any_function_of_scikit_learn_can_be_used() -> None:
    zero_one = skm_to_metric(skm.zero_one_loss)
    assert zero_one(PREDS, TARGS) == pytest.approx(error_rate(PREDS, TARGS))
    assert (zero_one.name, zero_one.task) == ("zero_one_loss", "classification")
    counts = skm_to_metric(skm.zero_one_loss, normalize=False, name="n_wrong")
    assert counts(PREDS, TARGS) == (CALLED != TARGS).sum()
    assert counts.name == "n_wrong"
    sets = skm_to_metric(skm.zero_one_loss, thresh=0.4)
    assert sets.task == "multilabel"
    assert sets(PROBS, MARKS) == skm.zero_one_loss(MARKS, PROBS > 0.4)
    largest = skm_to_metric(skm.max_error, is_class=False)
    assert largest.task == "regression"
    assert largest(GUESSES[:, :1], VALUES[:, :1]) == skm.max_error(VALUES[:, 0], GUESSES[:, 0])
    loss = skm_to_metric(skm.log_loss, is_class=False, task="classification")
    assert loss(PREDS, TARGS) == pytest.approx(skm.log_loss(TARGS, PREDS))
    with pytest.raises(InvalidConfig, match="f1_score: got 4 numbers; want one number: give it an average"):
        skm_to_metric(skm.f1_score, average=None)(PREDS, TARGS)


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtra, match=r"drivetrain\[train\]"):
        MatthewsCorrCoef()(PREDS, TARGS)
    assert accuracy(PREDS, TARGS) > 0
