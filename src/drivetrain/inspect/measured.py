"""The measured part of the datasheet: what can be counted, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from drivetrain.data.datasheet import escape_markdown
from drivetrain.imaging.style import STYLE_FLAGS
from drivetrain.task import Task

from .balance_findings import count_classes
from .findings import Finding, Picture, count_of, share_of

__all__ = ["describe_pictures"]

_MOST_LISTED = 5


def describe_pictures(
    pictures: Sequence[Picture],
    findings: Sequence[Finding],
    *,
    n_quarantined: int,
    n_relabelled: int,
    n_left_out_now: int = 0,
    task: Task = "classification",
    counts: Mapping[str, Mapping[str, int]] | None = None,
) -> str:
    """Markdown of the pictures that are used. Without a date or a machine's name: the same ones give the same words.

    n_left_out_now are left out because of the findings, and none of the pictures any more. counts, part -> class, label
    or value -> pictures, are those of the classes where none are given.
    """
    counts = count_classes(pictures) if counts is None else counts
    parts = list(counts)
    labels = sorted(next(iter(counts.values()), {}))
    of, kind = {
        "classification": (f"in {count_of(len(labels), 'class', 'classes')}", "class"),
        "multilabel": (f"with {count_of(len(labels), 'label')}, none to many a picture", "label"),
        "regression": (f"with {count_of(len(labels), 'value')} each", "value"),
    }[task]
    lines = [
        "## What is there",
        "",
        f"{count_of(len(pictures), 'readable picture')} {of}.",
        "",
    ]
    if pictures:
        lines += [
            f"| {kind} | " + " | ".join("pictures" if part == "all" else part for part in parts) + " |",
            "|---|" + "---:|" * len(parts),
            *(
                f"| {escape_markdown(label)} | " + " | ".join(f"{counts[part][label]:,}" for part in parts) + " |"
                for label in labels
            ),
            "",
            *_list_facts(pictures),
        ]
    lines += [
        f"- left out by the edit journal: {n_quarantined + n_left_out_now:,}; relabelled by it: {n_relabelled:,}",
        "",
    ]
    told = [finding for finding in findings if finding.severity != "note"]
    lines += ["## What `drivetrain check` found", ""]
    if n_left_out_now:
        lines += [f"Before it left out {count_of(n_left_out_now, 'picture')} because of it:", ""]
    lines += [f"- {finding.severity}: {escape_markdown(finding.what)}" for finding in told] or ["Nothing that harms."]
    return "\n".join(lines)


def _list_facts(pictures: Sequence[Picture]) -> list[str]:
    n = len(pictures)
    sides = [min(picture.facts.style.width, picture.facts.style.height) for picture in pictures]
    low, middle, high = (int(value) for value in np.percentile(sides, (0, 50, 100)))
    formats = Counter(picture.facts.format for picture in pictures)
    cameras = Counter(picture.facts.origin.camera for picture in pictures if picture.facts.origin.camera)
    days = sorted(picture.facts.origin.taken[:10] for picture in pictures if picture.facts.origin.taken)
    flags = Counter(flag for picture in pictures for flag in picture.facts.style.flags)
    shown = ", ".join(f"{escape_markdown(name)} {share_of(k, n)}" for name, k in cameras.most_common(_MOST_LISTED))
    unnamed = n - sum(cameras.values())
    looks = ", ".join(f"{flag} {share_of(flags[flag], n)}" for flag in STYLE_FLAGS if flags[flag])
    return [
        f"- shorter side: {low:,} to {high:,} pixels, half of them at least {middle:,}",
        f"- formats: {', '.join(f'{name} {share_of(k, n)}' for name, k in formats.most_common())}",
        f"- cameras: {shown + ', ' if shown else ''}not named {share_of(unnamed, n)}",
        f"- taken: {f'{days[0]} to {days[-1]}' if days else 'nobody knows when'} "
        f"({share_of(len(days), n)} of the files say)",
        f"- looks: {looks or 'none dark, blurred, small, grey or drawn'}",
    ]
