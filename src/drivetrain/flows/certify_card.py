"""The model card of a model that was certified anew: what was measured changes, what it was made of stays."""

from __future__ import annotations

from drivetrain.bundle.manifest import Manifest
from drivetrain.data.side_counts import SideCounts
from drivetrain.flows.evaluate import AnyEvaluation
from drivetrain.inspect.model_card import ModelCard, write_model_card

__all__ = ["amend_card"]

_FROM, _TO, _PROVENANCE = "\n## Evaluation\n", "\n## How to use it\n", "\n## Provenance\n"


def amend_card(old: str, *, manifest: Manifest, evaluation: AnyEvaluation, statement: str) -> str:
    """`old` with the evaluation, the promise and the provenance of `manifest`; at its end, if it has no such parts."""
    counts = SideCounts(pictures={}, labels={}, task=manifest.task)
    new = write_model_card(
        ModelCard(
            name=manifest.name,
            evaluation=evaluation,
            policy_statement=statement,
            backbone=str(manifest.lineage.get("backbone", "")),
            counts=counts,
            pictures="pictures it was certified on",
            provenance={key: str(value) for key, value in manifest.lineage.items() if value is not None},
        )
    )
    measured = _between(new, _FROM, _TO)
    made = new[new.index(_PROVENANCE) :]
    if not (_FROM in old and _TO in old and _PROVENANCE in old):
        return f"{old.rstrip()}\n{measured}{made}"
    head = _name(old[: old.index(_FROM)], new)
    return head + measured + old[old.index(_TO) : old.index(_PROVENANCE)] + made


def _name(head: str, new: str) -> str:
    """The front matter and title of `new`, where the old one has its own in the same places."""
    ends = [text.find("\n## ") for text in (head, new)]
    return head if min(ends) < 0 else new[: ends[1]] + head[ends[0] :]


def _between(text: str, start: str, end: str) -> str:
    return text[text.index(start) : text.index(end)]
