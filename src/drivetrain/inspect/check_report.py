"""The page of a check: findings with their pictures, in one HTML file that asks nothing of any other machine."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from drivetrain.data.datasheet import QUESTIONS
from drivetrain.files import write_whole
from drivetrain.imaging.style import STYLE_FLAGS
from drivetrain.task import Task

from .findings import SEVERITIES, Finding
from .report_view import percent

__all__ = ["CheckReport", "choose_examples", "render_check_report", "write_check_report"]

_MOST_GROUPS = {"error": 12, "warning": 12, "note": 6}  # of a finding
_MOST_OF_GROUP = 6
_MOST_DETAILS = 12
# task -> what is counted: one, many, and what of it
_COUNTED: dict[Task, tuple[str, str, str]] = {
    "classification": ("class", "classes", "How many pictures each class has"),
    "multilabel": ("label", "labels", "How many pictures bear each label"),
    "regression": ("value", "values", "How many pictures bear each value"),
}
_TITLES = {"error": "errors", "warning": "warnings", "note": "notes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckReport:
    """All that the page tells."""

    name: str
    root: str  # folder that the paths start from
    findings: Sequence[Finding]
    counts: Mapping[str, Mapping[str, int]]  # part -> class, label or value -> pictures
    styles: Mapping[str, Mapping[str, float]]  # class -> flag -> share
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)  # path -> JPEG
    labels: Mapping[str, str] = field(default_factory=dict)  # path -> class
    splits: Mapping[str, str] = field(default_factory=dict)  # path -> train, valid, test or ""
    task: Task = "classification"
    n_pictures: int | None = None  # None: what the counts add up to, as they do where each picture has one class
    open_questions: Sequence[str] = ()
    skipped: Sequence[str] = ()
    notes: Sequence[str] = ()


def choose_examples(findings: Sequence[Finding]) -> list[str]:
    """The paths that the page shows, each once."""
    return list(
        dict.fromkeys(path for finding in findings for group in _shown(finding) for path in group[:_MOST_OF_GROUP])
    )


def write_check_report(path: Path, report: CheckReport) -> None:
    """Write the page to `path`, whole or not at all."""
    write_whole(path, render_check_report(report).encode("utf-8", "backslashreplace"))


def render_check_report(report: CheckReport) -> str:
    """The page as HTML. Names and paths in it are other people's: all is escaped; no script, no request."""
    loader = PackageLoader("drivetrain.inspect", "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["percent"] = percent
    page.filters["prose"] = _mark_code
    style = "\n".join(loader.get_source(page, name)[0] for name in ("report.css", "check.css"))
    return page.get_template("check.html").render(
        report=report,
        sections=[_view_section(severity, report) for severity in SEVERITIES],
        classes=_view_classes(report),
        flags={flag: STYLE_FLAGS[flag] for flag in _flags(report)},
        questions={heading: QUESTIONS[heading] for heading in report.open_questions},
        n_pictures=(
            sum(sum(of.values()) for of in report.counts.values()) if report.n_pictures is None else report.n_pictures
        ),
        counted=_COUNTED[report.task],
        style=Markup(style),  # noqa: S704  our own files
    )


def _mark_code(text: str) -> Markup:
    """Escaped, what stands between two backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # one backtick is left over: it is no mark
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def _shown(finding: Finding) -> tuple[tuple[str, ...], ...]:
    return finding.groups[: _MOST_GROUPS[finding.severity]]


def _flags(report: CheckReport) -> list[str]:
    return list(next(iter(report.styles.values()), {}))


def _view_section(severity: str, report: CheckReport) -> dict[str, Any]:
    findings = [finding for finding in report.findings if finding.severity == severity]
    n = len(findings)
    return {
        "severity": severity,
        "title": f"{n} {severity if n == 1 else _TITLES[severity]}",
        "findings": [_view_finding(finding, report) for finding in findings],
    }


def _view_finding(finding: Finding, report: CheckReport) -> dict[str, Any]:
    groups = [_view_group(group, report) for group in _shown(finding)]
    has_pictures = any(card["image"] for group in groups for card in group["cards"])
    is_grouped = any(len(group) > 1 for group in finding.groups)
    return {
        "finding": finding,
        "groups": groups if has_pictures and is_grouped else [],
        "cards": [card for group in groups for card in group["cards"]] if has_pictures and not is_grouped else [],
        "n_more": len(finding.groups) - len(groups) if has_pictures else 0,
        "details": finding.details[:_MOST_DETAILS],
        "n_more_details": max(0, len(finding.details) - _MOST_DETAILS),
    }


def _view_group(group: Sequence[str], report: CheckReport) -> dict[str, Any]:
    cards = []
    for path in group[:_MOST_OF_GROUP]:
        thumbnail = report.thumbnails.get(path)
        cards.append(
            {
                "path": path,
                "full_path": os.path.join(report.root, path),  # noqa: PTH118 - to be read, with the reader's separators
                "label": report.labels.get(path, ""),
                "split": report.splits.get(path, ""),
                "image": "" if thumbnail is None else f"data:image/jpeg;base64,{base64.b64encode(thumbnail).decode()}",
            }
        )
    return {"cards": cards, "n_more": max(0, len(group) - _MOST_OF_GROUP)}


def _view_classes(report: CheckReport) -> list[dict[str, Any]]:
    labels = list(next(iter(report.counts.values()), {}))
    totals = {label: sum(of[label] for of in report.counts.values()) for label in labels}
    most = max(totals.values(), default=1) or 1
    return [
        {
            "label": label,
            "total": totals[label],
            "length": totals[label] / most,
            "parts": [of[label] for of in report.counts.values()],
            "shares": list(report.styles.get(label, {}).values()),
        }
        for label in sorted(labels, key=lambda label: (-totals[label], label))
    ]
