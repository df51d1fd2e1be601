"""The datasheet: what is known of the pictures, and which questions nobody has answered yet.

`datasheet.md` stands beside the data. `drivetrain check` writes the part between the two markers; all else is the
person's, and is kept byte for byte. It travels in the model as DATASHEET.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drivetrain.files import write_whole

from .side_counts import SideCounts

__all__ = [
    "DATASHEET_FILE",
    "QUESTIONS",
    "DatasheetState",
    "escape_markdown",
    "find_open_questions",
    "read_datasheet",
    "update_datasheet",
    "write_datasheet",
]

DATASHEET_FILE = "datasheet.md"
# Heading -> what is asked there: those that a machine cannot answer.
# Gebru et al. 2021, "Datasheets for Datasets", arXiv:1803.09010
QUESTIONS = {
    "Motivation": "Why were these pictures gathered, and by whom?",
    "Composition": "What does a picture show, what does it not, and what do the classes mean at their borders?",
    "Collection": "Where do they come from, when, with which devices, and under which licence may they be used?",
    "Labelling": "Who gave the labels, and how were doubts settled?",
    "Who is missing": "Whom or what do they leave out (places, seasons, light, devices, kinds of people)?",
    "Consent": "Do they show people or their homes, and did these agree?",
    "Uses": "What are they good for, and for what should they not be used?",
    "Maintenance": "Who keeps them, mends mistakes, and takes pictures out when asked to?",
}
_BEGIN = "<!-- measured by drivetrain: begin. `drivetrain check` writes anew what stands between these two lines. -->"
_END = "<!-- measured by drivetrain: end. -->"
_BEGIN_RE, _END_RE = (re.compile(rf"<!-- measured by drivetrain: {word}\b[^>\n]*-->") for word in ("begin", "end"))
_UNANSWERED = "_Not answered yet._"
_MOST_BYTES = 1_000_000
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?[ \t]*$")
_FENCE = re.compile(r" {0,3}(```|~~~)")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasheetState:
    """What stands in `datasheet.md` after `update_datasheet`."""

    open_questions: tuple[str, ...]  # headings of QUESTIONS without an answer
    is_written: bool  # whether the file was made or changed
    trouble: str = ""  # why it could not be written, for a person; empty when all went well


def update_datasheet(root: Path, *, name: str, measured: str) -> DatasheetState:
    """Put `measured` (Markdown) between the markers of the datasheet in `root`, or begin one with all questions.

    Nothing else is changed: not the order, the wording or the ends of the lines. Where the markers are gone the part is
    added at the end. A file that cannot be read, understood or written is left as it is, and `trouble` says why.
    """
    file = root / DATASHEET_FILE
    try:
        old = _read_text(file)
    except ValueError as exc:
        return DatasheetState(open_questions=tuple(QUESTIONS), is_written=False, trouble=f"{DATASHEET_FILE}: {exc}")
    if old is None:
        new, trouble = _begin(name, measured), ""
    else:
        new, trouble = _renew(old, measured)
    is_written = new != old
    if is_written:
        try:
            write_whole(file.resolve(), new.encode())  # of a link, the file that it leads to
        except OSError as exc:
            trouble = f"{DATASHEET_FILE} cannot be written in {root}: {exc.strerror or exc}"
            is_written = False
    return DatasheetState(
        open_questions=find_open_questions(new if old is None else old), is_written=is_written, trouble=trouble
    )


def read_datasheet(root: Path) -> str | None:
    """The text of `datasheet.md` in `root` with plain line ends; None where there is none that can be read."""
    try:
        text = _read_text(root / DATASHEET_FILE)
    except ValueError:
        return None
    return None if text is None else text.removeprefix("\ufeff").replace("\r\n", "\n")


def find_open_questions(text: str) -> tuple[str, ...]:
    """The headings of QUESTIONS that have no answer below them, or are gone, in the order of QUESTIONS."""
    answered: set[str] = set()
    current = ""
    for line, title in _titles(_without_measured(text)):
        if title is not None:
            current = title
        elif line.strip() and line.strip() != _UNANSWERED and not _is_question(line):
            answered.add(current)
    return tuple(heading for heading in QUESTIONS if heading.casefold() not in answered)


def write_datasheet(
    name: str,
    *,
    counts: Mapping[str, Mapping[str, int]] | SideCounts,
    unreadable: Sequence[tuple[str, str]],
    beside: str | None = None,
) -> str:
    """The model's own datasheet as Markdown: what stands on each side, what could not be read, what is known.

    counts are side -> class -> pictures, or `count_sides` of any task. `beside` is the text of the `datasheet.md`
    beside the data; without it all questions are open.
    """
    open_questions = tuple(QUESTIONS) if beside is None else find_open_questions(beside)
    lines = [
        f"# Datasheet of the pictures behind {escape_markdown(name)}",
        "",
        "## What is there",
        "",
        *_tell_counts(SideCounts.of(counts)),
        "",
        f"Files that could not be read and were left out: {len(unreadable) or 'none'}",
        "",
        *(f"- {escape_markdown(path)}: {escape_markdown(reason)}" for path, reason in unreadable[:100]),
        *([f"- and {len(unreadable) - 100:,} more"] if len(unreadable) > 100 else []),
        "",
    ]
    if beside is not None:
        lines += [f"## From {DATASHEET_FILE} beside the pictures", "", *_demote(beside), ""]
    if open_questions:
        lines += ["## What nobody has written down yet", "", *(f"- {QUESTIONS[one]}" for one in open_questions), ""]
    return "\n".join(lines)


def _tell_counts(counts: SideCounts) -> list[str]:
    """The table of what is there, and a sentence."""
    n_all = sum(counts.pictures.values())
    if counts.task == "regression":
        return [
            "| value | side | pictures | lowest | median | highest | standard deviation |",
            "|---|---|---:|---:|---:|---:|---:|",
            *(
                f"| {escape_markdown(name)} | {words} | {counts.pictures[side]:,} | {of.low:.6g} | {of.median:.6g} "
                f"| {of.high:.6g} | {of.spread:.4g} |"
                for side, words in (("train", "to train on"), ("valid", "held out"))
                for name, of in counts.values.get(side, {}).items()
            ),
            "",
            f"{n_all:,} pictures, each with its values.",
        ]
    train, valid = counts.labels["train"], counts.labels["valid"]
    totals = {label: train[label] + valid[label] for label in train}
    most, least = max(totals, key=lambda label: totals[label]), min(totals, key=lambda label: totals[label])
    is_labels = counts.task == "multilabel"
    what = f"with {len(totals)} labels, none to many a picture" if is_labels else f"in {len(totals)} classes"
    largest = "commonest" if is_labels else "largest"
    return [
        f"| {'label' if is_labels else 'class'} | to train on | held out |",
        "|---|---:|---:|",
        *(f"| {escape_markdown(label)} | {train[label]:,} | {valid[label]:,} |" for label in train),
        *([f"| all pictures | {counts.pictures['train']:,} | {counts.pictures['valid']:,} |"] if is_labels else []),
        "",
        f"{n_all:,} pictures {what}; the {largest}, {escape_markdown(most)}, has "
        f"{totals[most] / totals[least]:.1f} times the pictures of the {'rarest' if is_labels else 'smallest'}, "
        f"{escape_markdown(least)}.",
    ]


def escape_markdown(text: str) -> str:
    """Text of other people's making, unable to end a table cell or to start markup."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    for character in "\\`*_[]|#~":
        safe = safe.replace(character, "\\" + character)
    safe = safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return " ".join(safe.split())


def _read_text(file: Path) -> str | None:
    """The file's text, line ends as they are; None where there is no file. ValueError says why it cannot be read."""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ValueError(exc.strerror or str(exc)) from None
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{len(data):,} bytes, and at most {_MOST_BYTES:,} are read; it is left as it is")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 text; it is left as it is") from None


def _begin(name: str, measured: str) -> str:
    lines = [f"# Datasheet of {escape_markdown(name)}", "", _BEGIN, "", measured.strip("\n"), "", _END, ""]
    for heading, question in QUESTIONS.items():
        lines += [f"## {heading}", "", f"*{question}*", "", _UNANSWERED, ""]
    return "\n".join(lines)


def _renew(old: str, measured: str) -> tuple[str, str]:
    """(the new text, what stood in the way)."""
    end_of_line = "\r\n" if old.count("\r\n") * 2 > old.count("\n") else "\n"
    body = end_of_line.join(["", "", *measured.strip("\n").split("\n"), "", ""])
    begins, ends = list(_BEGIN_RE.finditer(old)), list(_END_RE.finditer(old))
    if not begins and not ends:
        gap = "" if not old else end_of_line if old.endswith("\n") else 2 * end_of_line
        return f"{old}{gap}{_BEGIN}{body}{_END}{end_of_line}", ""
    if len(begins) != 1 or len(ends) != 1 or ends[0].start() < begins[0].end():
        return old, (
            f"{DATASHEET_FILE} has {len(begins)} begin and {len(ends)} end markers of the measured part, want one of "
            "each in this order; it is left as it is. Mend them, or remove them all for a new part at the end."
        )
    return old[: begins[0].end()] + body + old[ends[0].start() :], ""


def _without_measured(text: str) -> str:
    """The person's part, HTML comments taken out too."""
    begin, end = _BEGIN_RE.search(text), _END_RE.search(text)
    if begin and end and begin.end() <= end.start():
        text = text[: begin.start()] + "\n" + text[end.end() :]
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def _titles(text: str) -> list[tuple[str, str | None]]:
    """(line, title) of each line: the title, in small letters, of a heading of the first two levels; else None."""
    found: list[tuple[str, str | None]] = []
    fence = ""
    for line in text.removeprefix("\ufeff").splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        heading = None if fence else _HEADING.match(line)
        if heading and len(heading[1]) <= 2:
            title = (heading[2] or "").rstrip("#").partition(":")[0]
            found.append((line, title.strip().casefold()))
        else:
            found.append((line, None))
    return found


def _is_question(line: str) -> bool:
    plain = line.strip().strip("*_").casefold()
    return any(plain == question.casefold() for question in QUESTIONS.values())


def _demote(text: str) -> list[str]:
    """Its lines, headings one level lower and the markers gone, to stand inside another page."""
    lines = []
    fence = ""
    for line in _END_RE.sub("", _BEGIN_RE.sub("", text)).strip().splitlines():
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        is_heading = not fence and _HEADING.match(line)
        lines.append("#" + line.lstrip() if is_heading else line)
    return [*lines, fence] if fence else lines  # an open fence would swallow what follows
