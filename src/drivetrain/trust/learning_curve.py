"""What more pictures would bring: the score at several training sizes, and a power law through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.power_law import PowerLaw, fit_power_laws, span_laws

__all__ = ["ClassGain", "CurvePoint", "LearningCurve", "Verdict", "fit_learning_curve"]

Verdict = Literal["help", "some", "little", "unclear"]

_CONFIDENCE = 0.95
_DRAWS = 2_000
_BLOCK_VALUES = 2_000_000  # random counts held at a time
_POINT, _SHARE_OF_ERROR = 0.01, 0.05  # a gain worth gathering for: of a share; of any other error, relative to it
_SURE = 0.8  # chance from which anything is said
_FEW_MISTAKES = 5  # pictures; below, there is no curve to see
_CURVE_STEPS = 33


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A score with its 95 % interval, learned from `n` pictures."""

    n: int
    score: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassGain:
    """One class: the share of its pictures found, and what the last doubling of all pictures brought it."""

    label: str
    n: int  # pictures of this class
    score: float
    gain: float
    low: float  # ends of an interval that holds for all classes at once (Bonferroni), 95 %
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """The score by number of pictures learned from; a gain is above 0 where more pictures make it better."""

    score: str  # "accuracy" say
    is_share: bool  # higher is better, told in %; otherwise an error, lower is better, in the labels' units
    n: int  # pictures to learn from, and each judged by models that had not seen it
    n_groups: int
    repeats: int
    points: tuple[CurvePoint, ...]  # measured; the last is of a part of n, since every picture must be left out once
    now: CurvePoint  # on the curve at n
    twice: CurvePoint  # on the curve at 2 n
    gain: float  # from n to 2 n
    gain_low: float
    gain_high: float
    chance: float  # of a gain worth gathering for: a point, or 5 % of the error
    verdict: Verdict
    curve: tuple[CurvePoint, ...]  # the fit, from the first point to 2 n
    classes: tuple[ClassGain, ...]

    @property
    def sentence(self) -> str:
        """The answer to "do I need more data?", without full stop."""
        if self.is_share:
            value, low, high, gain, gain_low, gain_high = (
                f"{100 * number:.1f}"
                for number in (
                    self.twice.score, self.twice.low, self.twice.high, self.gain, self.gain_low, self.gain_high
                )
            )  # fmt: skip
            told = f"about {value} % ({low} to {high}), +{gain} points ({gain_low} to {gain_high})"
        else:
            d = _decimals(self.twice.high - self.twice.low, self.gain_high)
            told = (
                f"a {self.score} of about {self.twice.score:.{d}f} "
                f"({self.twice.low:.{d}f} to {self.twice.high:.{d}f}), "
                f"{self.gain:.{d}f} lower ({self.gain_low:.{d}f} to {self.gain_high:.{d}f})"
            )
        end = {
            "help": "more pictures would help",
            "some": "more pictures would help a little",
            "little": f"probably less than {'a point' if self.is_share else f'{100 * _SHARE_OF_ERROR:.0f} % of it'}",
            "unclear": "too noisy to tell whether more pictures would help",
        }[self.verdict]
        return f"With twice the pictures, {told}: {end}"

    @property
    def class_sentence(self) -> str:
        """The classes that surely gained by the last doubling, at most three, most first; "" if there are none."""
        sure = sorted((row for row in self.classes if row.low > 0), key=lambda row: -row.gain)[:3]
        shown = (
            f"{row.label} (+{100 * row.gain:.1f} points, {100 * row.low:.1f} to {100 * row.high:.1f}; "
            f"{row.n:,} pictures)"
            for row in sure
        )
        return f"The last doubling surely helped {', '.join(shown)}" if sure else ""

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        plain = asdict(self)
        for name in ("points", "curve", "classes"):
            plain[name] = list(plain[name])
        return {**plain, "sentence": self.sentence, "class_sentence": self.class_sentence}


def fit_learning_curve(
    losses: FloatArray,
    sizes: Sequence[int],
    *,
    score: str,
    is_share: bool,
    groups: IntArray | None = None,
    class_losses: FloatArray | None = None,
    classes: Sequence[str] = (),
    seed: int = 0,
) -> LearningCurve:
    """Fit a - b n^-c and say what 2 n pictures would bring.

    losses is (r, s, n): of each of r repeats, at each of s training sizes (rising), each picture's loss by a model that
    had not seen it; of a share it is 1 - the score. class_losses is (s, n, k), mean over repeats, NaN where a picture
    is not of the class. Drawn anew are whole groups of pictures and, with them, repeats; through each draw go curves of
    `fit_power_laws`, and the interval is the widest of any exponent. Sources: Figueroa et al. 2012,
    doi:10.1186/1472-6947-12-8 (weighted fit); Viering and Loog 2021, arXiv:2103.10948 (shapes of such curves).
    Raises InvalidInput where shapes do not fit.
    """
    values = _check(losses, sizes, groups, class_losses, classes)
    repeats, _, n = values.shape
    pieces = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_groups = int(pieces.max()) + 1
    draws, means = _draw_means(values, pieces, seed=seed), values.mean(axis=(0, 2))
    grid = np.geomspace(sizes[0], 2 * n, _CURVE_STEPS)
    at_n = int(np.abs(grid - n).argmin())
    grid[at_n] = n
    laws = fit_power_laws(draws, means, sizes, at=grid)
    curve = [_on_curve(round(size), i, laws, is_share=is_share) for i, size in enumerate(grid)]
    gain_low, gain, gain_high = span_laws(laws, lambda e: e[:, at_n] - e[:, -1], confidence=_CONFIDENCE)
    worth = _POINT if is_share else _SHARE_OF_ERROR * curve[at_n].score
    chance = sum(law.likelihood * float((law.errors[:, at_n] - law.errors[:, -1] >= worth).mean()) for law in laws)
    if is_share and np.count_nonzero(values[:, -1].any(axis=0)) < _FEW_MISTAKES:
        # draws of hardly any mistakes show none: all that can be said is how many there may be
        most = _score_interval(float(means[-1]), 0.0, n_groups)[1]
        gain_low, gain_high, chance = 0.0, max(gain_high, most), 0.0 if most < worth else 0.5
        curve = [CurvePoint(n=p.n, score=p.score, low=min(p.low, 1 - most), high=1.0) for p in curve]
    return LearningCurve(
        score=score,
        is_share=is_share,
        n=n,
        n_groups=n_groups,
        repeats=repeats,
        points=tuple(
            _measured(size, mean, draws[:, i], is_share=is_share, n_groups=n_groups)
            for i, (size, mean) in enumerate(zip(sizes, means, strict=True))
        ),
        now=curve[at_n],
        twice=curve[-1],
        gain=gain,
        gain_low=gain_low,
        gain_high=gain_high,
        chance=chance,
        verdict=_judge(chance, gain_low, gain_high, worth),
        curve=tuple(curve),
        classes=() if class_losses is None else _class_gains(class_losses, sizes, pieces, classes),
    )


def _draw_means(values: FloatArray, pieces: IntArray, *, seed: int) -> FloatArray:
    """(draws, s) means of the losses (r, s, n), pieces of pictures and repeats drawn anew together."""
    repeats, n_sizes, n = values.shape
    n_pieces = int(pieces.max()) + 1
    sums = np.zeros((n_pieces, repeats * n_sizes + 1))
    np.add.at(sums, pieces, np.vstack([values.reshape(-1, n), np.ones(n)]).T)
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK_VALUES // n_pieces)
    blocks = []
    for start in range(0, _DRAWS, step):
        size = min(step, _DRAWS - start)
        counts = rng.multinomial(n_pieces, np.full(n_pieces, 1 / n_pieces), size=size)
        drawn = counts @ sums
        blocks.append((drawn[:, :-1] / drawn[:, -1:]).reshape(size, repeats, n_sizes))
    by_repeat = np.concatenate(blocks)
    if repeats == 1:
        return by_repeat[:, 0]
    picked = rng.integers(repeats, size=(_DRAWS, repeats))
    means = np.take_along_axis(by_repeat, picked[:, :, None], axis=1).mean(axis=1)
    level = by_repeat.mean(axis=1)
    # a mean of r values drawn from r varies by a factor (r - 1) / r too little
    out: FloatArray = level + (means - level) * np.sqrt(repeats / (repeats - 1))
    return out


def _class_gains(
    class_losses: FloatArray, sizes: Sequence[int], pieces: IntArray, classes: Sequence[str]
) -> tuple[ClassGain, ...]:
    """By the last doubling, or what comes nearest; paired, picture by picture, groups as one.

    One imagined picture that gained and one that lost are added to what varies, so that few pictures that all agree do
    not give an interval of no width. Source: Agresti and Min 2005, Stat. Med. 24:729.
    """
    half = int(np.abs(np.asarray(sizes[:-1]) - sizes[-1] / 2).argmin())
    gains = class_losses[half] - class_losses[-1]  # (n, k)
    rows = []
    for label, own, last in zip(classes, gains.T, class_losses[-1].T, strict=True):
        known = np.isfinite(own)
        n = int(known.sum())
        if not n:
            rows.append(ClassGain(label=label, n=0, score=0.0, gain=0.0, low=-1.0, high=1.0))
            continue
        _, place = np.unique(pieces[known], return_inverse=True)
        total, members = np.bincount(place, weights=own[known]), np.bincount(place)
        gain = float(total.sum()) / n
        error = np.sqrt(float(np.square(total - gain * members).sum()) + 1) / (n + 2)
        half_width = float(stdtrit(max(1, len(members) - 1), 1 - (1 - _CONFIDENCE) / 2 / len(classes))) * error
        rows.append(
            ClassGain(
                label=label,
                n=n,
                score=1 - float(last[known].mean()),
                gain=gain,
                low=max(-1.0, gain - half_width),
                high=min(1.0, gain + half_width),
            )
        )
    return tuple(rows)


def _judge(chance: float, low: float, high: float, worth: float) -> Verdict:
    if chance >= _SURE:
        return "help"
    if chance <= 1 - _SURE:
        return "little"
    return "some" if low >= worth / 10 and high - low <= 2 * worth else "unclear"


def _measured(size: int, mean: float, draws: FloatArray, *, is_share: bool, n_groups: int) -> CurvePoint:
    if not is_share:
        low, high = np.quantile(draws, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2]).tolist()
        return CurvePoint(n=int(size), score=float(mean), low=low, high=high)
    low, high = _score_interval(float(mean), float(draws.var()), n_groups)
    return CurvePoint(n=int(size), score=1 - float(mean), low=1 - high, high=1 - low)


def _score_interval(share: float, variance: float, n: int) -> tuple[float, float]:
    """Wilson's interval for as many pictures as the variance of the mean speaks of; n where nothing varies.

    Source: Korn and Graubard 1998, Survey Methodology 24:193 (effective sample size).
    """
    if variance > 0:
        n = max(1, int(share * (1 - share) / variance))
    z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
    middle = (share + z * z / n / 2) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (share * (1 - share) / n + z * z / n / n / 4) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def _on_curve(n: int, place: int, laws: Sequence[PowerLaw], *, is_share: bool) -> CurvePoint:
    low, middle, high = span_laws(laws, lambda errors: errors[:, place], confidence=_CONFIDENCE)
    if is_share:
        low, middle, high = 1 - min(1.0, high), 1 - min(1.0, middle), 1 - min(1.0, low)
    return CurvePoint(n=n, score=middle, low=low, high=high)


def _decimals(*widths: float) -> int:
    """Two figures of the widest."""
    widest = max(widths)
    return max(0, 1 - int(np.floor(np.log10(widest)))) if widest > 0 else 2


def _check(
    losses: FloatArray,
    sizes: Sequence[int],
    groups: IntArray | None,
    class_losses: FloatArray | None,
    classes: Sequence[str],
) -> FloatArray:
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 3 or not values.size or values.shape[1] != len(sizes) or not np.isfinite(values).all():
        raise InvalidInput("losses", got=f"shape {values.shape}", want=f"finite, (repeats, {len(sizes)}, pictures)")
    if len(sizes) < 2 or sizes[0] < 1 or any(b <= a for a, b in pairwise(sizes)):
        raise InvalidInput("sizes", got=list(sizes), want="two sizes or more, rising, from 1")
    n = values.shape[2]
    if groups is not None and len(groups) != n:
        raise InvalidInput("groups", got=f"{len(groups)} of {n} pictures", want="a group for each picture")
    if class_losses is not None and class_losses.shape != (len(sizes), n, len(classes)):
        want = f"({len(sizes)}, {n}, {len(classes)}): sizes, pictures, classes"
        raise InvalidInput("class_losses", got=f"shape {class_losses.shape}", want=want)
    return values
