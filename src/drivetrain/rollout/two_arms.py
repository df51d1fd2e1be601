"""Two versions, each request asked of one of them: how they compare, and whether keys went where they should.

One outcome a key, that of its first request with a choice, with the probability of that moment: later requests of the
key resemble the first, and a share that grew meanwhile had seen them. An outcome is wrong where the version decided by
itself and people say otherwise; what it leaves to people is not wrong. So the two rates are of all keys, which chance
parted, and not of those that each chose to decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from drivetrain.trust.canary_sequence import CanarySequence, log_e_shares

__all__ = ["SHARES_BROKEN", "Choice", "ShareCheck", "TwoArms"]

_WEIGHTS = (1.0, 100.0)  # gross faults at once, and small ones; source of the second: Lindon and Malek 2022
SHARES_BROKEN = float(np.log(1_000))  # log evidence; source: Lindon and Malek 2022


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The first request of a key that could have gone to either version."""

    share: float  # the probability that the key got the candidate, in (0, 1)
    is_candidate: bool
    is_drawn: bool  # its outcome is compared: drawn by chance, alike whatever the version and its answer


@dataclass(slots=True)
class TwoArms:
    """The outcomes of both, and what they show about a difference of `margin`."""

    margin: float
    candidate_n: int = 0
    candidate_wrong: int = 0
    incumbent_n: int = 0
    incumbent_wrong: int = 0
    n_untold: int = 0  # no one could say whether it was wrong
    for_promotion: CanarySequence = field(init=False)  # what is untold counts against the candidate
    for_harm: CanarySequence = field(init=False)  # and here for it

    def __post_init__(self) -> None:
        self.for_promotion = CanarySequence(margin=self.margin, shows="not worse")
        self.for_harm = CanarySequence(margin=self.margin, shows="worse")

    def add(self, choice: Choice, *, is_wrong: bool | None, is_failed: bool = False) -> None:
        """The next key's outcome. `is_wrong` None: it cannot be told; failed: no answer, as bad as a wrong one."""
        if not choice.is_drawn:
            return
        is_candidate = choice.is_candidate
        at_worst = is_candidate if is_wrong is None else is_wrong or is_failed
        at_best = (not is_candidate) if is_wrong is None else is_wrong
        self.for_promotion.add(share=choice.share, is_candidate=is_candidate, is_wrong=at_worst)
        self.for_harm.add(share=choice.share, is_candidate=is_candidate, is_wrong=at_best)
        self.n_untold += is_wrong is None
        if is_candidate:
            self.candidate_n += 1
            self.candidate_wrong += bool(is_wrong)
        else:
            self.incumbent_n += 1
            self.incumbent_wrong += bool(is_wrong)


@dataclass(slots=True)
class ShareCheck:
    """Do as many keys get the candidate as were to? Counted a key at its first choice, by the share of that moment."""

    counts: dict[float, list[int]] = field(default_factory=dict)  # share -> keys of the incumbent, of the candidate

    def add(self, share: float, *, is_candidate: bool) -> None:
        """One key."""
        self.counts.setdefault(share, [0, 0])[is_candidate] += 1

    @property
    def n(self) -> int:
        """Keys."""
        return sum(map(sum, self.counts.values()))

    @property
    def log_e(self) -> float:
        """Log evidence that keys go elsewhere: each share's own, the k-th that was met weighed by 1 / (k (k + 1))."""
        found = [
            log_e_shares(count, (1 - share, share), weight=weight) - np.log(k * (k + 1) * len(_WEIGHTS))
            for k, (share, count) in enumerate(self.counts.items(), start=1)
            for weight in _WEIGHTS
        ]
        return float(np.logaddexp.reduce(found)) if found else 0.0

    @property
    def is_broken(self) -> bool:
        """By chance in one roll-out of a thousand, however often one looks."""
        return self.log_e >= SHARES_BROKEN

    @property
    def sentence(self) -> str:
        """For a person."""
        told = [
            f"{count[1]:,} of {sum(count):,} keys got the candidate where {100 * share:.3g} % should have"
            for share, count in self.counts.items()
        ]
        return f"{'; '.join(told) or 'No key had a choice yet'}."
