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

    of: str  # "" where it is of all pictures
    told: DeferralEvaluation
    n_calibration: int | None = None  # where it is kept on average over calibrations of so many pictures


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
    alike = ", as pictures of a group are alike" if told.n_counted < n else ""
    begin = f"{begin}; here {100 * wrong / n:.1f} % ({_tell_counts(told)}{alike})"
    outcome = _judge(told, max_error, allowed=max_error, needed=needed, chance=_CHANCE, is_tainted=bool(tainted))
    takes = f" (it takes {needed} without an error to speak for it)" if told.n_counted < needed else ""
    words = {
        "broken": ": the promise does not hold for pictures like these. "
        "`drivetrain certify` renews it on labelled ones.",
        "tainted": f", which says nothing for the promise: {tainted}.",
        "consistent": ": nothing here speaks against it, which is no proof.",
    }.get(outcome, f": too few decisions to tell{takes}.")
    return _conclude("", told, max_error, _VERDICTS[outcome], begin + words)


def allow_for_calibration(max_error: float, n_calibration: int, *, chance: float) -> float:
    """The share of misses that a conformal interval or set of `n_calibration` pictures exceeds with `chance` alone.

    It misses max_error of pictures on average over calibrations; one calibration is drawn better or worse, by a beta
    distribution. Source: Vovk 2012, "Conditional validity of inductive conformal predictors".
    """
    missed = n_calibration + 1 - math.ceil((n_calibration + 1) * (1 - max_error))
    return float(betaincinv(missed, n_calibration + 1 - missed, 1 - chance)) if missed else 0.0


def check_parts(kind: PromiseKind, parts: Sequence[Part], *, max_error: float, tainted: str = "") -> PartPromises:
    """Hold each part against the promise that at most `max_error` of it is wrong, as `check_promise` does.

    All that hold are called unbroken together in 97.5 % of draws (Bonferroni). Of a part with `n_calibration`, such as
    an interval, half of the chance is left to its calibration. Raises InvalidInput where there are no parts.
    """
    if not parts:
        raise InvalidInput("parts", got="none", want="one promise at least")
    needed = labels_needed(max_error)
    found = []
    for part in parts:
        chance, allowed = _CHANCE / len(parts), max_error
        if part.n_calibration is not None:
            chance /= 2
            allowed = max(max_error, allow_for_calibration(max_error, part.n_calibration, chance=chance))
        outcome = _judge(part.told, max_error, allowed=allowed, needed=needed, chance=chance, is_tainted=bool(tainted))
        found.append((outcome, part))
    checks = tuple(
        _conclude(part.of, part.told, max_error, _VERDICTS[outcome], _tell_part(kind, part)) for outcome, part in found
    )
    shares = {"wrong": f"{100 * max_error:g} %", "right": f"{100 * (1 - max_error):g} %"}
    promised = f"Promised: {_PROMISED[kind].format(**shares)}"
    return PartPromises(kind=kind, checks=checks, sentence=promised + _tell_parts(kind, found, tainted))


_Outcome = Literal["broken", "consistent", "few", "slack", "tainted"]
_VERDICTS: dict[_Outcome, Verdict] = {
    "broken": "broken",
    "consistent": "consistent",
    "few": "untested",
    "slack": "untested",
    "tainted": "untested",
}
_PROMISED: dict[PromiseKind, str] = {
    "classes": "in each class by itself at most {wrong} of its decisions wrong",
    "labels": "of each label and answer by itself at most {wrong} wrong",
    "intervals": "an interval that holds the true value for {right} of pictures",
    "short lists": "a list of labels that holds the true one for {right} of pictures",
}


def _judge(
    told: DeferralEvaluation, max_error: float, *, allowed: float, needed: int, chance: float, is_tainted: bool
) -> _Outcome:
    """Broken where so many errors come with `chance` at most were `allowed` of all wrong.

    Slack: more than promised, and no more than its calibration may be off by chance; more pictures do not settle it.
    """
    counted = told.n_counted
    hits = counted * told.n_wrong / max(1, told.n_accepted)
    if hits and betainc(hits, counted - hits + 1, allowed) <= chance:  # of so many at least; whole numbers: binomial
        return "broken"
    if is_tainted:
        return "tainted"
    if counted >= needed and told.error_low > max_error and allowed > max_error:
        return "slack"
    return "few" if counted < needed or told.error_low > max_error else "consistent"


def _tell_parts(kind: PromiseKind, found: Sequence[tuple[_Outcome, Part]], tainted: str) -> str:
    """What follows the promise itself."""
    if len(found) == 1:
        [(outcome, part)] = found
        if not part.told.n_accepted:
            return f"; here {_tell_part(kind, part)}."
        ends = {
            "broken": ": not kept for pictures like these.",
            "consistent": ": nothing here speaks against it.",
            "few": ": too few to tell.",
            "slack": f": more than promised, and no more than chance may explain in the {part.n_calibration or 0:,} "
            "pictures that shaped it.",
            "tainted": f", which says nothing for the promise: {tainted}.",
        }
        return f"; here {_tell_part(kind, part)}{ends[outcome]}"
    told = [f", for {len(found):,} of them."]
    counts = {name: sum(outcome == name for outcome, _ in found) for name in _VERDICTS}
    for name, words in (
        ("broken", "Not kept for pictures like these"),
        ("slack", "More than promised, and no more than chance may explain in the pictures that shaped them"),
    ):
        named = [_tell_part(kind, part) for outcome, part in found if outcome == name]
        more = f"; and {len(named) - _MOST_NAMED:,} more" if len(named) > _MOST_NAMED else ""
        told += [f"{words}: {'; '.join(named[:_MOST_NAMED])}{more}."] if named else []
    if counts["consistent"]:
        which = "any" if counts["consistent"] == len(found) else f"{counts['consistent']:,}"
        told.append(f"Nothing here speaks against {which}.")
    if counts["few"]:
        which = "any" if counts["few"] == len(found) else f"{counts['few']:,}"
        told.append(f"Too few to tell of {which}.")
    if counts["tainted"]:
        told.append(f"Nothing here speaks for {'the others' if counts['broken'] else 'any'}: {tainted}.")
    return " ".join(told)


def _tell_part(kind: PromiseKind, part: Part) -> str:
    begin = f"{part.of}: " if part.of else ""
    if not part.told.n_accepted:
        return f"{begin}nothing to tell it by"
    verb = "missed" if kind in ("intervals", "short lists") else "wrong"
    return f"{begin}{100 * part.told.n_wrong / part.told.n_accepted:.1f} % {verb} ({_tell_counts(part.told)})"


def _tell_counts(told: DeferralEvaluation) -> str:
    counted = f", which count as {math.floor(told.n_counted):,}" if told.n_counted < told.n_accepted else ""
    low, high = 100 * told.error_low, 100 * told.error_high
    return f"95 % interval {low:.1f} to {high:.1f}; {told.n_wrong:,} of {told.n_accepted:,}{counted}"


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
