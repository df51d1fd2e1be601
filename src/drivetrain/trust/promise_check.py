"""Whether labelled pictures speak against what a model promises of the decisions it takes by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.special import betainc

from drivetrain.trust.deferral import labels_needed
from drivetrain.trust.evaluation import DeferralEvaluation

__all__ = ["PromiseCheck", "Verdict", "check_promise", "read_promise"]

Verdict = Literal["broken", "consistent", "untested"]

_CHANCE = 0.025  # of so many errors at least, were the promise kept: the lower end of a 95 % interval


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseCheck:
    """A promise beside what became of it on some labelled pictures."""

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
    n, wrong, counted = told.n_accepted, told.n_wrong, told.n_counted
    needed = labels_needed(max_error, confidence=confidence)
    begin = f"Promised: at most {100 * max_error:g} % of its decisions wrong"
    if not n:
        return _conclude(told, max_error, "untested", f"{begin}; here it decides nothing by itself.")
    interval = f"95 % interval {100 * told.error_low:.1f} to {100 * told.error_high:.1f}"
    alike = f", which count as {counted:,.0f}, as pictures of a group are alike" if counted < n else ""
    begin = f"{begin}; here {100 * wrong / n:.1f} % ({interval}; {wrong:,} of {n:,}{alike})"
    hits = counted * wrong / n
    if hits and betainc(hits, counted - hits + 1, max_error) <= _CHANCE:  # of so many at least; whole numbers: binomial
        renewed = "`drivetrain certify` renews it on labelled ones."
        words = f"{begin}: the promise does not hold for pictures like these. {renewed}"
        return _conclude(told, max_error, "broken", words)
    if tainted:
        return _conclude(told, max_error, "untested", f"{begin}, which says nothing for the promise: {tainted}.")
    if counted < needed or told.error_low > max_error:
        takes = f" (it takes {needed} without an error to speak for it)" if counted < needed else ""
        return _conclude(told, max_error, "untested", f"{begin}: too few decisions to tell{takes}.")
    return _conclude(told, max_error, "consistent", f"{begin}: nothing here speaks against it, which is no proof.")


def _conclude(told: DeferralEvaluation, max_error: float, verdict: Verdict, sentence: str) -> PromiseCheck:
    return PromiseCheck(
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
