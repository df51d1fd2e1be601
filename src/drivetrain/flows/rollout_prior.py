"""What was believed of a candidate before, and what its labels leave of that: shown beside the gates, never one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivetrain.errors import InvalidConfig
from drivetrain.rollout.evidence import Evidence
from drivetrain.store.store import Store
from drivetrain.trust.belief import ErrorPrior, Prior

from .rollout_config import RolloutConfig
from .rollout_evidence import gather_evidence
from .versions import describe_version

__all__ = ["add_prior", "count_worth", "describe_belief", "parse_prior", "read_past"]

_WORDS = re.compile(
    r"\s*expected\s+(\d+(?:\.\d+)?)\s*%\s*,?\s*as\s+sure\s+as\s+(\d[\d,]*(?:\.\d+)?)(?:\s+pictures?)?\s*\.?\s*",
    re.IGNORECASE,
)


def parse_prior(words: str) -> ErrorPrior:
    """`expected 3 %, as sure as 100 pictures`. Raises InvalidConfig."""
    found = _WORDS.fullmatch(words)
    if found is None:
        raise InvalidConfig(
            "prior", got=words, want="such as 'expected 3 %, as sure as 100 pictures', or past, or none"
        )
    return ErrorPrior.expected(float(found[1]) / 100, pictures=float(found[2].replace(",", "")))


def read_past(store: Store, model: str, *, candidate: str) -> list[tuple[float, float]]:
    """(wrong, decided) of each other version of the model that was rolled out here and got labels, the oldest first."""
    newest = {one.candidate: one for one in store.deployments.list() if one.model == model}
    newest.pop(candidate, None)
    counts = []
    for one in newest.values():
        share = RolloutConfig.from_json(one.config).audit_share
        wrong, decided = count_worth(gather_evidence(store, one), audit_share=share)
        if decided > 0:
            counts.append((wrong, decided))
    return counts


def add_prior(config: RolloutConfig, words: str | None, *, store: Store, candidate: Path) -> RolloutConfig:
    """With the prior of `words`; without any, or for "past", that of the model's earlier releases. "none": without one.

    Raises InvalidConfig for other words, and where "past" is asked for and there is none.
    """
    if words is not None and words.strip().lower() not in ("past", "none"):
        prior = parse_prior(words)
        return replace(config, prior=(prior.wrong, prior.right), prior_from=" ".join(words.split()))
    if words is not None and words.strip().lower() == "none":
        return config
    new = describe_version(candidate, at=0.0, by="")
    past = read_past(store, new.model, candidate=new.version)
    if not past:
        if words is None:
            return config
        raise InvalidConfig("prior", got="past", want=f"an earlier roll-out of {new.model} with labels")
    prior = ErrorPrior.of_releases(past)
    told = f"{len(past)} earlier release{'s' if len(past) > 1 else ''} of {new.model}"
    return replace(config, prior=(prior.wrong, prior.right), prior_from=told)


def count_worth(evidence: Evidence, *, audit_share: float) -> tuple[float, float]:
    """(wrong, decided): how many labels drawn alike the evidence is worth; what could not be told counts as wrong.

    Where some decisions were labelled for sure and the rest with probability `audit_share`, each of the latter stands
    for more of them, and all are worth fewer labels than there are (Kish 1965).
    """
    labels = evidence.n_labelled + evidence.n_untold
    if not labels:
        return 0.0, 0.0
    if evidence.floor == 1 or audit_share >= 1:
        return float(evidence.n_wrong + evidence.n_untold), float(labels)
    drawn = min(max((evidence.n_automatic - labels) / (1 / audit_share - 1), 0.0), float(labels))
    sure = labels - drawn
    worth = (sure + drawn / audit_share) ** 2 / (sure + drawn / audit_share**2)
    share = min(max(evidence.for_promotion.estimate or 0.0, 0.0), 1.0)
    return share * worth, worth


def describe_belief(config: RolloutConfig, evidence: Evidence) -> dict[str, Any] | None:
    """Plain values: of its errors where a prior was given, of the two where they differed; None: of neither."""
    error = versus = None
    if config.prior is not None:
        wrong, decided = count_worth(evidence, audit_share=config.audit_share)
        prior = ErrorPrior(wrong=config.prior[0], right=config.prior[1])
        error = prior.update(wrong, decided - wrong, bound=config.gate.bound).as_json()
    if evidence.wins + evidence.losses:
        versus = Prior(wins=1.0, losses=1.0).update(evidence.wins, evidence.losses).as_json()
    if error is None and versus is None:
        return None
    return {"error": error, "prior_from": config.prior_from, "versus": versus}
