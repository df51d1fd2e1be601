"""Whether labelled pictures speak against what a model promises of the decisions it takes by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from scipy.special import betainc, betaincinv

from drivetrain.errors import InvalidInput
from drivetrain.trust.deferral import labels_needed
from drivetrain.trust.evaluation import DeferralEvaluation

__all__ = [
    "Part",
    "PartPromises",
    "PromiseCheck",
    "PromiseKind",
    "Verdict",
    "allow_for_calibration",
    "check_parts",
    "check_promise",
    "read_promise",
]

Verdict = Literal["broken", "consistent", "untested"]
PromiseKind = Literal["classes", "labels", "intervals", "short lists"]

_CHANCE = 0.025  # of so many errors at least, were the promise kept: the lower end of a 95 % interval
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseCheck:
    """A promise beside what became of it on some labelled pictures."""

    of: str  # what it is promised of; "" for all decisions
    max_error: float  # promised: at most this share of the decisions is wrong
    n_decided: int
    n_wrong: int
    error: float | None  # None where nothing was decided
    error_low: float
    error_high: float
    n_counted: float  # for how many independent ones the decisions count: fewer where pictures of a group are alike
    verdict: Verdict  # "consistent" is no proof: nothing here speaks against it
    sentence: str

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartPromises:
    """Promises of one kind, each of a part of what the model says, beside what became of them."""

    kind: PromiseKind
    checks: tuple[PromiseCheck, ...]
    sentence: str

    @property
    def is_broken(self) -> bool:
        """Whether one of them is."""
        return any(one.verdict == "broken" for one in self.checks)

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        return {"kind": self.kind, "sentence": self.sentence, "checks": [one.as_json() for one in self.checks]}


class Part(NamedTuple):
    """What one promise of several is of, and what became of it; an interval that misses the truth is an error."""

    of: str
    told: DeferralEvaluation


def read_promise(decision: Mapping[str, Any]) -> tuple[float, float] | None:
    """(max_error, confidence) of a manifest's decision; None where it makes no one promise of all its decisions."""
    promise = decision.get("promise")
    if not isinstance(promise, Mapping) or promise.get("is_certified") is not True:
        return None
    shares = promise.get("max_error"), promise.get("confidence")
    if not all(isinstance(share, float) and 0 < share < 1 for share in shares):
        return None
    return shares  # type: ignore[return-value]


def check_promise(
    told: DeferralEvaluation, *, max_error: float, confidence: float = 0.95, tainted: str = ""
) -> PromiseCheck:
    """Hold what was decided alone against the promise that at most `max_error` of it is wrong.

    Broken where so many errors would come in 2.5 % of draws at most, were the promise kept (exact binomial: Wilson's
    interval alone would call it broken in 10 % of draws of two pictures). Untested where fewer were decided than a
    promise takes without an error, or where `tainted` says in words why these pictures cannot speak for the model; they
    can still speak against it. Pictures of a group count for as many as their likeness leaves (Korn and Graubard 1998).
    """
    n, wrong = told.n_accepted, told.n_wrong
    needed = labels_needed(max_error, confidence=confidence)
    begin = f"Promised: at most {100 * max_error:g} % of its decisions wrong"
    if not n:
        sentence = f"{begin}; here it decides nothing by itself."
        return _conclude("", told, max_error, "untested", sentence)
    alike = f", which count as {told.n_counted:,.0f}, as pictures of a group are alike" if told.n_counted < n else ""
    begin = f"{begin}; here {100 * wrong / n:.1f} % ({_tell_interval(told)}; {wrong:,} of {n:,}{alike})"
    verdict = _judge(told, max_error, allowed=max_error, needed=needed, chance=_CHANCE, is_tainted=bool(tainted))
    if verdict == "broken":
        renewed = "`drivetrain certify` renews it on labelled ones."
        words = f"{begin}: the promise does not hold for pictures like these. {renewed}"
    elif tainted:
        words = f"{begin}, which says nothing for the promise: {tainted}."
    elif verdict == "untested":
        takes = f" (it takes {needed} without an error to speak for it)" if told.n_counted < needed else ""
        words = f"{begin}: too few decisions to tell{takes}."
    else:
        words = f"{begin}: nothing here speaks against it, which is no proof."
    return _conclude("", told, max_error, verdict, words)


def allow_for_calibration(max_error: float, n_calibration: int, *, chance: float) -> float:
    """The share of misses that a conformal interval or set of `n_calibration` pictures exceeds with `chance` alone.

    It misses max_error of pictures on average over calibrations; one calibration is drawn better or worse, by a beta
    distribution. Source: Vovk 2012, "Conditional validity of inductive conformal predictors".
    """
    missed = n_calibration + 1 - math.ceil((n_calibration + 1) * (1 - max_error))
    return float(betaincinv(missed, n_calibration + 1 - missed, 1 - chance)) if missed else 0.0


def check_parts(
    kind: PromiseKind,
    parts: Sequence[Part],
    *,
    max_error: float,
    confidence: float = 0.95,
    n_calibration: int | None = None,
    tainted: str = "",
) -> PartPromises:
    """Hold each part against the promise that at most `max_error` of it is wrong, as `check_promise` does.

    All that hold are called unbroken together in 97.5 % of draws (Bonferroni). `n_calibration`: the promise is kept on
    average over calibrations of so many pictures, as that of an interval is; half of the chance is then left to the
    calibration. Raises InvalidInput where there are no parts.
    """
    if not parts:
        raise InvalidInput("parts", got="none", want="one promise at least")
    chance, needed = _CHANCE / len(parts), labels_needed(max_error, confidence=confidence)
    allowed = max_error
    if n_calibration is not None:
        chance /= 2
        allowed = max(max_error, allow_for_calibration(max_error, n_calibration, chance=chance))
    checks = []
    for of, told in parts:
        verdict: Verdict = "untested"
        words = f"{of}: nothing to tell it by"
        if told.n_accepted:
            verdict = _judge(told, max_error, allowed=allowed, needed=needed, chance=chance, is_tainted=bool(tainted))
            words = f"{of}: {_tell_error(told, 'missed' if kind in ('intervals', 'short lists') else 'wrong')}"
        checks.append(_conclude(of, told, max_error, verdict, words))
    return PartPromises(kind=kind, checks=tuple(checks), sentence=_tell_parts(kind, checks, max_error, tainted))


_PROMISED: dict[PromiseKind, str] = {
    "classes": "in each class by itself at most {wrong} of its decisions wrong",
    "labels": "of each label and answer by itself at most {wrong} wrong",
    "intervals": "an interval that holds the true value for {right} of pictures",
    "short lists": "a list of labels that holds the true one for {right} of pictures",
}


def _tell_parts(kind: PromiseKind, checks: Sequence[PromiseCheck], max_error: float, tainted: str) -> str:
    shares = {"wrong": f"{100 * max_error:g} %", "right": f"{100 * (1 - max_error):g} %"}
    promised = f"Promised: {_PROMISED[kind].format(**shares)}"
    broken = [one.sentence for one in checks if one.verdict == "broken"]
    if len(checks) == 1 and not broken:
        [one] = checks
        told = one.sentence.partition(": ")[2]
        if tainted:
            return f"{promised}; here {told}, which says nothing for the promise: {tainted}."
        speaks = "nothing here speaks against it" if one.verdict == "consistent" else "too few to tell"
        return f"{promised}; here {told}: {speaks}."
    counts = {verdict: sum(one.verdict == verdict for one in checks) for verdict in ("consistent", "untested")}
    told = f"{promised}, for {len(checks):,} of them"
    if broken:
        more = f" and {len(broken) - _MOST_NAMED:,} more" if len(broken) > _MOST_NAMED else ""
        told = f"{told}. Not kept for pictures like these: {'; '.join(broken[:_MOST_NAMED])}{more}"
    if tainted:
        return f"{told}. The others say nothing for the promise: {tainted}."
    return f"{told}. Nothing here speaks against {counts['consistent']:,}; too few to tell of {counts['untested']:,}."


def _judge(
    told: DeferralEvaluation, max_error: float, *, allowed: float, needed: int, chance: float, is_tainted: bool
) -> Verdict:
    """Broken where so many errors come with `chance` at most were `allowed` of all wrong; of one decision at least."""
    counted = told.n_counted
    hits = counted * told.n_wrong / told.n_accepted
    if hits and betainc(hits, counted - hits + 1, allowed) <= chance:  # of so many at least; whole numbers: binomial
        return "broken"
    return "untested" if is_tainted or counted < needed or told.error_low > max_error else "consistent"


def _tell_error(told: DeferralEvaluation, verb: str) -> str:
    n, wrong = told.n_accepted, told.n_wrong
    alike = f", which count as {told.n_counted:,.0f}" if told.n_counted < n else ""
    return f"{100 * wrong / n:.1f} % {verb} ({_tell_interval(told)}; {wrong:,} of {n:,}{alike})"


def _tell_interval(told: DeferralEvaluation) -> str:
    return f"95 % interval {100 * told.error_low:.1f} to {100 * told.error_high:.1f}"


def _conclude(of: str, told: DeferralEvaluation, max_error: float, verdict: Verdict, sentence: str) -> PromiseCheck:
    return PromiseCheck(
        of=of,
        max_error=max_error,
        n_decided=told.n_accepted,
        n_wrong=told.n_wrong,
        error=told.error,
        error_low=told.error_low,
        error_high=told.error_high,
        n_counted=told.n_counted,
        verdict=verdict,
        sentence=sentence,
    )
