"""Groups of the pictures of an evaluation: by a column of labels.csv, or by how they look."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np

from drivetrain.arrays import BoolArray, FloatArray, IntArray
from drivetrain.data.items import LABELS_FILE, Item, Items
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.flows.evaluate_answers import is_right, mark_answers, score_answers
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.style import STYLE_FLAGS
from drivetrain.progress import Progress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.prediction import Answer, ValuePrediction
from drivetrain.runtime.survey import Survey, survey_pictures
from drivetrain.settings import Settings
from drivetrain.trust.groups import GroupComparison, GroupMeasure, compare_groups

__all__ = ["BY_STYLE", "check_by", "find_groups", "group_answers", "tell_groups"]

BY_STYLE = "style"
_DAY = "day"  # not dark
_NOTHING = "(empty)"  # what a group of empty cells is called
_MOST_NAMED = 8
_OWN = ("group", "split")  # columns that mean something to drivetrain itself
_WORDS = {"accuracy": "right", "deferred": "left to a person", "flagged": "flagged", "error": "off by"}


def check_by(by: str, items: Items) -> str:
    """The column meant, or BY_STYLE. Raises InvalidConfig for what is neither, before anything is predicted."""
    name = by.strip().lower()
    present = [column for column in _OWN if any(getattr(item, column) is not None for item in items)]
    known = [BY_STYLE, *items.columns, *present]
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    columns = ", ".join(f"`{column}`" for column in known[1:])
    raise InvalidConfig(
        "--by",
        got=by,
        want="`style`"
        + (f", or a column of {LABELS_FILE}: {columns}" if columns else f", or a column of {LABELS_FILE}"),
        hint=f"Did you mean `{near[0]}`?"
        if near
        else ""
        if columns
        else f"DATA has no {LABELS_FILE} with further columns.",
    )


def find_groups(
    by: str,
    items: Items,
    read: Sequence[Item],
    *,
    settings: Settings,
    limits: DecodeLimits,
    threads: int,
    progress: Progress,
) -> dict[str, BoolArray]:
    """name -> (n,) whether each picture of `read` is in it; `by` as `check_by` gives it."""
    if by == BY_STYLE:
        with FeatureCache(settings.cache_dir) as cache:
            files = [items.file(item) for item in read]
            survey = survey_pictures(files, cache=cache, threads=threads, limits=limits, progress=progress)
        return _group_by_style(survey, len(read))
    cells = [(getattr(item, by) if by in _OWN else item.more.get(by)) or _NOTHING for item in read]
    if len(set(cells)) < 2:
        got = f"{cells[0]!r} for every picture"
        raise InvalidInput(f"--by {by}", got=got, want="two values at least, to compare")
    return {name: np.array([cell == name for cell in cells], dtype=np.bool_) for name in sorted(set(cells))}


def _group_by_style(survey: Survey, n: int) -> dict[str, BoolArray]:
    """A group for each flag that a picture has, and what is not dark; a picture may be in several, or in none."""
    flags: list[frozenset[str]] = [frozenset()] * n
    for row, facts in zip(survey.rows, survey.facts, strict=True):
        flags[row] = facts.style.flags
    groups = {name: np.array([name in of for of in flags], dtype=np.bool_) for name in STYLE_FLAGS}
    groups[_DAY] = ~groups["dark"]
    return {name: is_in for name, is_in in groups.items() if is_in.any()}


def group_answers(
    by: str, groups: dict[str, BoolArray], answers: Sequence[Answer], read: Sequence[Item], alike: IntArray | None
) -> GroupComparison:
    """Accuracy, or error where a value is measured, deferral and flags of each group beside the others'.

    `alike` (n,) says which pictures belong together, whatever the groups.
    """
    marks = mark_answers(answers)
    told: dict[str, BoolArray | FloatArray] = {"deferred": marks.deferred, "flagged": marks.flagged}
    if isinstance(answers[0], ValuePrediction):
        return compare_groups(groups, {"error": -score_answers(answers, read)} | told, by=by, alike=alike)
    right = np.array([is_right(answer, item) for answer, item in zip(answers, read, strict=True)], dtype=np.bool_)
    return compare_groups(groups, {"accuracy": right} | told, by=by, alike=alike)


def tell_groups(compared: GroupComparison) -> list[str]:
    """Who is served worse, in sentences, and what cannot be said; the groups that are too small come last."""
    told = []
    for group, row in compared.worse:
        assert row.difference is not None
        assert row.difference_low is not None
        assert row.difference_high is not None
        who = f"{group.name} pictures are" if compared.by == BY_STYLE else f"{compared.by} {group.name} is"
        gap, low, high = (_show_gap(end, row) for end in (row.difference, row.difference_low, row.difference_high))
        unit = "" if row.name == "error" else " points"
        told.append(
            f"{who} served worse: {_WORDS[row.name]} {gap}{unit} against all others (95 % for all "
            f"{compared.n_comparisons} comparisons together, {low} to {high})."
        )
    if not compared.n_comparisons:
        told.append(f"By {compared.by}, nothing could be compared: it takes two groups of {compared.least} pictures.")
    elif not told:
        told.append(
            f"By {compared.by}, no group can be told to be served worse. That is not to say that none is: the "
            "intervals say how much worse each may be."
        )
    small = [group for group in compared.groups if not group.measures]
    if small:
        names = ", ".join(f"{group.name} ({group.n})" for group in small[:_MOST_NAMED])
        names += f" and {len(small) - _MOST_NAMED:,} more" if len(small) > _MOST_NAMED else ""
        told.append(f"Too few pictures to say anything (below {compared.least}): {names}.")
    return told


def _show_gap(value: float, row: GroupMeasure) -> str:
    return f"{value:+.3g}" if row.name == "error" else f"{100 * value:+.1f}"
