"""The report: one HTML file that needs nothing but a browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from drivetrain.errors import InvalidInput
from drivetrain.files import write_whole
from drivetrain.trust.evaluation import Evaluation
from drivetrain.trust.label_evaluation import MultiLabelEvaluation
from drivetrain.trust.learning_curve import LearningCurve
from drivetrain.trust.value_evaluation import ValueEvaluation

from .evaluation_sections import Section
from .interpretation import AnyInterpretation, Interpretation, LabelInterpretation, ValueInterpretation
from .learning_curve_plot import render_learning_curve
from .report_values import number
from .report_view import build_view, percent

__all__ = ["Report", "render_report", "write_report"]


# evaluation -> the interpretation that goes with it, and the page that shows both
_KINDS: dict[type, tuple[type, str]] = {
    Evaluation: (Interpretation, "report.html"),
    MultiLabelEvaluation: (LabelInterpretation, "report_labels.html"),
    ValueEvaluation: (ValueInterpretation, "report_values.html"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a report tells; evaluation and interpretation are of the same task and the same pictures."""

    name: str
    created_at: datetime
    evaluation: Evaluation | MultiLabelEvaluation | ValueEvaluation
    interpretation: AnyInterpretation
    policy_statement: str  # when it decides alone, and what is promised there
    verdicts: Sequence[tuple[str, bool]] = ()  # what these pictures say of each promise; whether it is broken
    pictures: str = "pictures it had never seen"  # what was evaluated, in the words of the headline
    root: str = ""  # folder that the paths start from
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)  # by path; JPEG, PNG or WebP
    facts: Mapping[str, str] = field(default_factory=dict)
    timings: Sequence[tuple[str, float]] = ()  # name, seconds
    unreadable: Sequence[tuple[str, str]] = ()  # path, reason
    notes: Sequence[str] = ()
    curve: LearningCurve | None = None  # where the user asked what more pictures would bring
    sections: Sequence[Section] = ()  # further ones, before the worst misses

    def __post_init__(self) -> None:
        told, shown = self.evaluation, self.interpretation
        if not isinstance(shown, _KINDS[type(told)][0]):
            got, want = type(shown).__name__, _KINDS[type(told)][0].__name__
            raise InvalidInput("interpretation", got=got, want=f"{want}, as the evaluation is")
        if told.n != len(shown.paths) or told.classes != tuple(shown.classes):
            raise InvalidInput(
                "interpretation",
                got=f"{len(shown.paths)} pictures of {len(shown.classes)} classes",
                want=f"the {told.n} pictures and {len(told.classes)} classes of the evaluation",
            )


def write_report(path: Path, report: Report) -> None:
    """Write the report to `path`, whole or not at all; makes the folder."""
    # a file name that is not UTF-8 reaches us with lone surrogates, which must show and not stop the report
    write_whole(path, render_report(report).encode("utf-8", "backslashreplace"))


def render_report(report: Report) -> str:
    """The report as HTML. Names and paths in it are other people's: all is escaped, no request leaves it."""
    loader = PackageLoader("drivetrain.inspect", "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["percent"] = percent
    page.filters["number"] = number
    names = ("report.css", *(["evaluation.css"] if report.sections else []))
    style = "\n".join(loader.get_source(page, name)[0] for name in names)
    script = loader.get_source(page, "report.js")[0]
    # the browser runs this script and no other, even if escaping failed somewhere
    script_digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page.get_template(_KINDS[type(report.evaluation)][1]).render(
        report=report,
        evaluation=report.evaluation,
        view=build_view(report),
        learning_curve=render_learning_curve(report.curve) if report.curve else "",
        style=Markup(style),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        script_digest=script_digest,
    )
