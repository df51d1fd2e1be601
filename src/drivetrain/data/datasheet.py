"""The datasheet: what is known of the pictures, and which questions nobody has answered yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["QUESTIONS", "write_datasheet"]

# Gebru et al. 2021, "Datasheets for Datasets", arXiv:1803.09010: those that a machine cannot answer
QUESTIONS = (
    "Why were these pictures gathered, and by whom?",
    "Where do they come from, and under which licence may they be used?",
    "Do they show people, and did these agree?",
    "Who gave the labels, and how were doubts settled?",
    "Whom or what do they leave out (places, seasons, light, devices, kinds of people)?",
    "For what should they not be used?",
)


def write_datasheet(
    name: str, *, counts: Mapping[str, Mapping[str, int]], unreadable: Sequence[tuple[str, str]]
) -> str:
    """Markdown: counts (side -> class -> pictures), what could not be read, and the open questions."""
    train, valid = counts["train"], counts["valid"]
    totals = {label: train[label] + valid[label] for label in train}
    most, least = max(totals, key=lambda label: totals[label]), min(totals, key=lambda label: totals[label])
    lines = [
        f"# Datasheet of the pictures behind {_plain(name)}",
        "",
        "## What is there",
        "",
        "| class | to train on | held out |",
        "|---|---:|---:|",
        *(f"| {_plain(label)} | {train[label]:,} | {valid[label]:,} |" for label in train),
        "",
        f"{sum(totals.values()):,} pictures in {len(totals)} classes; the largest, {_plain(most)}, has "
        f"{totals[most] / totals[least]:.1f} times the pictures of the smallest, {_plain(least)}.",
        "",
        f"Files that could not be read and were left out: {len(unreadable) or 'none'}",
        "",
        *(f"- {_plain(path)}: {_plain(reason)}" for path, reason in unreadable[:100]),
        *([f"- and {len(unreadable) - 100:,} more"] if len(unreadable) > 100 else []),
        "",
        "## What nobody has written down yet",
        "",
        *(f"- {question}" for question in QUESTIONS),
        "",
    ]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text of other people's making, unable to end a table cell or to start markup."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    for character in "\\`*_[]|#~":
        safe = safe.replace(character, "\\" + character)
    safe = safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(safe.split())
