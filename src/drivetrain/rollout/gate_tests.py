"""The statistical tests of gates and of harm: each holds at alpha however often one looks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from drivetrain.trust.sequential import log_e_mean, log_e_rate, log_e_superior

from .evidence import Evidence
from .gate_config import Criterion, GateConfig, tell_percent, tell_points

__all__ = ["harm_tests", "promotion_tests"]

_MOST_MORE = 1_000_000  # requests; more is not foretold


def promotion_tests(evidence: Evidence, config: GateConfig, *, is_compared: bool) -> list[Criterion]:
    """An intersection, so each may use all of alpha. Not `is_compared`: only what it shows by itself."""
    needed = float(np.log(1 / config.alpha))
    found = []
    if config.bound is not None:
        bound = config.bound

        def log_e_bound(times: float) -> float:
            return _log_e_bound(evidence, bound, is_harm=False, times=times)

        seen = f"{evidence.n_wrong} wrong of {evidence.n_labelled:,} labelled{_untold(evidence.n_untold)}"
        what = f"fewer than {tell_percent(bound)} of its automatic decisions are wrong ({seen})"
        found.append(_test("error", log_e_bound, needed, what, evidence, can_foretell=evidence.floor == 1))
    if config.margin is not None and is_compared:
        margin = config.margin

        def log_e_against(times: float) -> float:
            return _log_e_against(evidence, margin, times=times)

        better = (
            "better than the incumbent" if margin == 0 else f"not worse than the incumbent by {tell_points(margin)}"
        )
        what, can_foretell = f"it is {better} ({_seen(evidence)})", evidence.arms is None
        found.append(_test("against the incumbent", log_e_against, needed, what, evidence, can_foretell=can_foretell))
    return found


def harm_tests(evidence: Evidence, config: GateConfig) -> list[Criterion]:
    """A union, so they share alpha evenly."""
    kinds: list[tuple[str, float, str]] = []
    if config.bound is not None:
        log_e = _log_e_bound(evidence, config.bound, is_harm=True)
        kinds.append(
            ("harm: errors", log_e, f"more than {tell_percent(config.bound)} of its automatic decisions are wrong")
        )
    if config.margin is not None:
        by = f" by more than {tell_points(config.margin)}" if config.margin else ""
        log_e = _log_e_harm_against(evidence, config.margin)
        kinds.append(("harm: against the incumbent", log_e, f"it is worse than the incumbent{by}"))
    log_e = float(log_e_rate(evidence.n_failed, evidence.n - evidence.n_failed, null=config.fail_max, side="above"))
    kinds.append(("harm: failures", log_e, f"more than {tell_percent(config.fail_max)} of the requests got no answer"))
    needed = float(np.log(len(kinds) / config.harm_alpha))
    return [
        Criterion(
            name=name,
            is_met=log_e >= needed,
            log_e=log_e,
            needed=needed,
            sentence=f"It is shown that {what}." if log_e >= needed else f"It is not shown that {what}.",
        )
        for name, log_e, what in kinds
    ]


def _test(
    name: str,
    log_e_of: Callable[[float], float],
    needed: float,
    what: str,
    evidence: Evidence,
    *,
    can_foretell: bool,
) -> Criterion:
    log_e = log_e_of(1.0)
    if log_e >= needed:
        return Criterion(name=name, is_met=True, log_e=log_e, needed=needed, sentence=f"It is shown that {what}.")
    more = _foretell(log_e_of, needed, evidence.n) if can_foretell else None
    tail = "" if more is None else f" At these rates it takes about {more:,} more requests."
    return Criterion(
        name=name,
        is_met=False,
        log_e=log_e,
        needed=needed,
        more=more,
        sentence=f"Not enough evidence yet that {what}.{tail}",
    )


def _foretell(log_e_of: Callable[[float], float], needed: float, n: int) -> int | None:
    """How many more requests, were the counts so far to grow in proportion."""
    if n == 0:
        return None
    low, high = 1.0, 2.0
    while log_e_of(high) < needed:
        low, high = high, 2 * high
        if n * (low - 1) > _MOST_MORE:
            return None
    while n * (high - low) > 1:
        middle = (low + high) / 2
        low, high = (low, middle) if log_e_of(middle) >= needed else (middle, high)
    return max(1, int(np.ceil(n * (high - 1))))


def _log_e_bound(evidence: Evidence, bound: float, *, is_harm: bool, times: float = 1.0) -> float:
    if evidence.floor < 1:
        if is_harm:
            return evidence.for_harm.log_e_above(bound)
        return evidence.for_promotion.log_e_below(bound)
    right = evidence.n_labelled - evidence.n_wrong
    if is_harm:
        return float(log_e_rate(evidence.n_wrong, right + evidence.n_untold, null=bound, side="above"))
    wrong = evidence.n_wrong + evidence.n_untold
    return float(log_e_rate(times * wrong, times * right, null=bound, side="below"))


def _log_e_against(evidence: Evidence, margin: float, *, times: float) -> float:
    if evidence.arms is not None:
        return evidence.arms.for_promotion.log_e
    wins, ties = times * evidence.wins, times * evidence.ties
    losses = times * (evidence.losses + evidence.n_untold_pairs)
    if margin == 0:
        return float(log_e_superior(wins, losses))
    return float(log_e_mean(wins, ties, losses, margin=margin))


def _log_e_harm_against(evidence: Evidence, margin: float) -> float:
    if evidence.arms is not None:
        return evidence.arms.for_harm.log_e
    ties = evidence.ties + evidence.n_untold_pairs
    return float(log_e_mean(evidence.losses, ties, evidence.wins, margin=-margin))


def _seen(evidence: Evidence) -> str:
    if (arms := evidence.arms) is None:
        seen = f"{evidence.wins} won, {evidence.losses} lost of {evidence.n_pairs:,}"
        return seen + _untold(evidence.n_untold_pairs)
    theirs = f"the incumbent's {arms.incumbent_wrong} of {arms.incumbent_n:,}"
    return f"{arms.candidate_wrong} wrong of {arms.candidate_n:,} keys, {theirs}{_untold(arms.n_untold)}"


def _untold(count: int) -> str:
    return f", {count} that no one could tell" if count else ""
