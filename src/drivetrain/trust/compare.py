"""Two models on the same pictures: the difference with its interval, never a bare claim of better."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.special import bdtr

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.task import Task
from drivetrain.trust.paired import bca_interval, flip_signs, mcnemar_mid_p, tango_interval
from drivetrain.trust.pieces import CONFIDENCE, Pieces

__all__ = ["SCORE_NAMES", "Comparison", "compare_predictions", "compare_right", "compare_scores", "score_pictures"]

SCORE_NAMES: dict[Task, str] = {
    "classification": "accuracy",
    "multilabel": "label accuracy",
    "regression": "mean absolute error",
}
_MID_P = "McNemar, mid-p"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A model against a reference, both judged on the same pictures. `gain` above 0: the model is better."""

    score: str  # what was compared, "accuracy" say
    is_share: bool  # told in points; otherwise in the labels' own units
    reference: str  # the name of what the model is compared with
    n: int
    n_groups: int  # n where every picture stands by itself
    value: float  # mean score of the model
    reference_value: float
    gain: float
    low: float  # ends of the 95 % interval of the gain
    high: float
    p_value: float  # two-sided, of no difference
    n_better: int  # pictures that the model does better than the reference
    n_worse: int
    interval: str  # how the interval was made
    test: str  # how the p-value was made
    counted: float = 1.0  # for how many pictures each counts: below 1 where those of a group are alike

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high

    @property
    def sentence(self) -> str:
        """Plain words, without capital and full stop, with the interval always."""
        digits = self._choose_digits()
        unit = " points" if self.is_share else f" of {self.score}"
        paired = "paired" if self.n_groups == self.n else "paired by group"
        if self.is_told_apart:
            is_gain = self.gain > 0
            low, high = (self.low, self.high) if is_gain else (-self.high, -self.low)
            what = f"the gain over {self.reference} is +" if is_gain else f"the loss against {self.reference} is "
            shown = f"{self._show(abs(self.gain), digits)}{unit}"
            return f"{what}{shown} ({paired}, 95 % {self._show(low, digits)} to {self._show(high, digits)})"
        pictures = "picture" if self.n == 1 else "pictures"
        return (
            f"no difference from {self.reference} can be told apart on {self.n:,} {pictures}: "
            f"{self._show(self.gain, digits, sign='+')}{unit} "
            f"({paired}, 95 % {self._show(self.low, digits)} to {self._show(self.high, digits)})"
        )

    @property
    def p_value_words(self) -> str:
        """What the p-value is, and what it is not, for whoever has to act on it."""
        fewer, tosses = min(self.n_better, self.n_worse), self.n_better + self.n_worse
        is_mid = self.test == _MID_P
        how = " (mid-p: the chance of just this outcome counts half)" if is_mid else ""
        chance = min(1.0, 2 * float(bdtr(fewer, tosses, 0.5))) if is_mid else self.p_value
        return (
            f"p = {self.p_value:.2g}{how}: if the two were equally good, luck alone would part them at least this far "
            f"in {_tell_chance(chance)}. It is not the chance that they are equally good, nor does it give the "
            "chance that one is better. A large p does not show that they are equal, only that these pictures do not "
            "tell them apart; a small p does not show that the difference matters: the interval says how large it is."
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        words = {"sentence": self.sentence, "p_value_words": self.p_value_words}
        return {**asdict(self), "is_told_apart": self.is_told_apart, **words}

    def _show(self, value: float, digits: int, *, sign: str = "-") -> str:
        shown = f"{100 * value if self.is_share else value:{sign}.{digits}f}"
        return shown.lstrip("+-") if float(shown) == 0 else shown

    def _choose_digits(self) -> int:
        """Decimals enough that neither the gain nor an end that is off 0 is shown as 0."""
        if self.is_share:
            first = 1
        else:  # two figures of the interval's width
            width = max(self.high - self.low, abs(self.gain))
            first = 1 if width == 0 else max(0, 1 - int(np.floor(np.log10(width))))
        told = (self.gain, self.low, self.high) if self.is_told_apart else (self.gain,)
        enough = (d for d in range(first, first + 5) if all(float(self._show(v, d)) for v in told if v))
        return next(enough, first)


def score_pictures(outputs: FloatArray, targets: FloatArray | IntArray, *, task: Task) -> FloatArray:
    """One number a picture (n,), higher is better, from logits or values (n, k) and the targets.

    Classification: 1 right, 0 wrong. Multilabel: the share of labels that are right where a logit above 0 says yes.
    Regression: minus the absolute error; with several numbers, the mean of each over that number's standard deviation,
    so that units are not mixed. Raises InvalidInput where the shapes do not fit.
    """
    out, truth = np.asarray(outputs), np.asarray(targets)
    if out.ndim != 2 or not len(out) or truth.shape != ((len(out),) if task == "classification" else out.shape):
        raise InvalidInput("targets", got=f"shape {truth.shape} for outputs {out.shape}", want="one row a picture")
    if task == "classification":
        return np.asarray(out.argmax(axis=1) == truth, dtype=np.float64)
    if task == "multilabel":
        return np.asarray(((out > 0) == (truth > 0.5)).mean(axis=1), dtype=np.float64)
    gap = np.abs(out.astype(np.float64) - truth)
    if out.shape[1] > 1:
        spread = truth.std(axis=0, dtype=np.float64)
        gap /= np.where(spread > 0, spread, 1.0)
    return np.asarray(-gap.mean(axis=1), dtype=np.float64)


def compare_predictions(
    outputs: FloatArray,
    reference_outputs: FloatArray,
    targets: FloatArray | IntArray,
    *,
    task: Task,
    reference: str,
    groups: IntArray | None = None,
) -> Comparison:
    """Compare logits or values (n, k) of two models on the same pictures, by `score_pictures`."""
    scores = score_pictures(outputs, targets, task=task)
    than = score_pictures(reference_outputs, targets, task=task)
    if task == "classification":
        return compare_right(scores > 0, than > 0, reference=reference, groups=groups)
    is_share = task == "multilabel"
    return compare_scores(
        scores,
        than,
        reference=reference,
        groups=groups,
        score=SCORE_NAMES[task],
        is_share=is_share,
        is_loss=not is_share,
    )


def compare_right(
    right: BoolArray, reference_right: BoolArray, *, reference: str, groups: IntArray | None = None
) -> Comparison:
    """Compare accuracies from right and wrong, both (n,) bool, picture by picture.

    Interval: Tango's score interval for paired shares. With `groups` (n,) pictures count for as many as their likeness
    leaves, never for more than they are, and Student's t takes the groups' number: over 48 simulated cases 93 to 100 %
    of such intervals held the truth, of bootstrapped ones 33 to 99 %. P-value: McNemar's mid-p, which kept its level in
    all 9,595 cases of Fagerland et al. 2013, where the exact test wasted power; with groups, sign flips.
    Sources: those of `trust.paired` and `trust.pieces`. Raises InvalidInput where lengths differ or are 0.
    """
    if right.dtype != np.bool_ or reference_right.dtype != np.bool_:
        raise InvalidInput("right", got=f"{right.dtype} and {reference_right.dtype}", want="bool, one a picture")
    gains = _subtract(right, reference_right)
    pieces = Pieces.of(gains, groups)
    n, n_better, n_worse = len(gains), int((gains > 0).sum()), int((gains < 0).sum())
    if pieces.is_single:
        quantile, counted = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), 1.0
        p_value, test = mcnemar_mid_p(n_better, n_worse), _MID_P
    else:
        quantile, counted = pieces.t_quantile(), 1 / pieces.design_effect(gains)
        p_value, test = flip_signs(pieces), "sign flips by group"
    low, high = tango_interval(n_better * counted, n_worse * counted, n * counted, quantile=quantile)
    return Comparison(
        score="accuracy",
        is_share=True,
        reference=reference,
        n=n,
        n_groups=len(pieces.sums),
        value=float(right.mean()),
        reference_value=float(reference_right.mean()),
        gain=(n_better - n_worse) / n,
        low=low,
        high=high,
        p_value=p_value,
        n_better=n_better,
        n_worse=n_worse,
        interval="Tango's score interval" + ("" if pieces.is_single else ", pictures counted by group"),
        test=test,
        counted=counted,
    )


def compare_scores(
    scores: FloatArray,
    reference_scores: FloatArray,
    *,
    reference: str,
    score: str,
    is_share: bool,
    is_loss: bool = False,
    groups: IntArray | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare any score, both (n,) and higher when better: `value` of a loss is given with its sign turned back.

    Interval of the mean difference: what the BCa bootstrap that draws whole `groups` (n,) and Student's t over the
    groups span together. The first heeds lopsided differences, the second few groups.
    P-value: how often random signs of the groups' sums give as much. Sources: Efron 1987, JASA 82:171; Efron and
    Tibshirani 1993, chapters 14 and 15. Raises InvalidInput where lengths differ, or on one picture or group alone.
    """
    gains = _subtract(scores, reference_scores)
    pieces = Pieces.of(gains, groups)
    if len(pieces.sums) == 1:
        raise InvalidInput("scores", got="one picture or one group", want="two or more: one alone has no spread")
    low, high = bca_interval(pieces, seed=seed)
    half = pieces.t_quantile() * pieces.standard_error()
    sign = -1 if is_loss else 1
    return Comparison(
        score=score,
        is_share=is_share,
        reference=reference,
        n=len(gains),
        n_groups=len(pieces.sums),
        value=sign * float(np.mean(scores)),
        reference_value=sign * float(np.mean(reference_scores)),
        gain=float(gains.mean()),
        low=min(low, float(gains.mean()) - half),
        high=max(high, float(gains.mean()) + half),
        p_value=flip_signs(pieces, seed=seed),
        n_better=int((gains > 0).sum()),
        n_worse=int((gains < 0).sum()),
        interval=f"BCa bootstrap of {'pictures' if pieces.is_single else 'groups'}, at least Student's t",
        test="sign flips" if pieces.is_single else "sign flips by group",
    )


def _tell_chance(p_value: float) -> str:
    """0.031 -> "about 3 of 100 such comparisons", 0.013 -> "about 13 of 1,000 such comparisons"."""
    for per in (100, 1_000, 10_000):
        if p_value * per >= 1.95:  # 1 of 100 would tell 0.013 a quarter too low
            return f"about {p_value * per:.0f} of {per:,} such comparisons"
    return "fewer than 2 of 10,000 such comparisons"


def _subtract(scores: FloatArray | BoolArray, reference_scores: FloatArray | BoolArray) -> FloatArray:
    if scores.shape != reference_scores.shape or scores.ndim != 1 or not scores.size:
        got = f"shapes {scores.shape} and {reference_scores.shape}"
        raise InvalidInput("scores", got=got, want="one a picture, of the same pictures")
    gains: FloatArray = scores.astype(np.float64) - reference_scores.astype(np.float64)
    if not np.isfinite(gains).all():
        raise InvalidInput("scores", got="a number that is missing or infinite", want="finite numbers")
    return gains
