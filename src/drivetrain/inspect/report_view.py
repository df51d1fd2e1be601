"""What the report's template draws: words, places and lengths, worked out from the numbers."""

from __future__ import annotations

import base64
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from drivetrain.errors import InvalidInput
from drivetrain.trust.evaluation import Evaluation
from drivetrain.trust.label_evaluation import MultiLabelEvaluation
from drivetrain.trust.value_evaluation import ValueEvaluation

from .interpretation import Interpretation, LabelInterpretation, TopLoss, ValueInterpretation
from .report_labels import view_labels
from .report_values import view_values

if TYPE_CHECKING:
    from .report import Report

__all__ = ["Card", "Cell", "Panel", "build_view", "percent"]

_TOP_LOSSES = 24
_PANEL_CARDS = 60  # a cell of thousands must not make a file of hundreds of megabytes
_LARGE_MATRIX = 16  # classes from which the matrix is set smaller
_PLOT = 400  # units of the reliability plot's sides
_HISTOGRAM = 64  # units of the histogram's height
_MAGIC = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"RIFF", "webp"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One picture with what was said about it."""

    picture: TopLoss
    image: str  # data URI, or empty
    full_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of the confusion matrix; `panel` is the id of the panel that shows its pictures."""

    count: int
    share: float  # of its row
    tint: float  # strength of its colour, in [0, 1]
    is_deep: bool  # so strong that the count must be light
    is_right: bool
    title: str
    panel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The pictures behind a cell."""

    id: str
    title: str
    cards: tuple[Card, ...]
    n_left_out: int


def percent(share: float | None, digits: int = 1, *, unit: str = "\N{NO-BREAK SPACE}%") -> str:
    """0.9032 -> "90.3 %"; exactly 0 and 1 without decimals, and nothing else rounds to them."""
    if share is None:
        return "–"
    if share in (0, 1):
        digits = 0
    shown = f"{100 * share:.{digits}f}"
    if 0 < share < 1 and float(shown) in (0, 100):
        step = 10**-digits
        shown = f"{'<' if share < 0.5 else '>'}\N{NO-BREAK SPACE}{step if share < 0.5 else 100 - step:.{digits}f}"
    return shown + unit


def build_view(report: Report) -> dict[str, Any]:
    """All that the template needs beside the report itself."""
    shared = {
        "timings": _timings(report),
        "total_time": _seconds(sum(seconds for _, seconds in report.timings)),
        "full_path": partial(_full_path, report),
    }
    told, shown = report.evaluation, report.interpretation
    image_of = partial(_image, report)
    if isinstance(told, MultiLabelEvaluation) and isinstance(shown, LabelInterpretation):
        return shared | view_labels(told, shown, image_of)
    if isinstance(told, ValueEvaluation) and isinstance(shown, ValueInterpretation):
        return shared | view_values(told, shown, image_of)
    assert isinstance(told, Evaluation)  # a Report is of one kind
    assert isinstance(shown, Interpretation)
    return shared | _view_classes(told, shown, report)


def _view_classes(evaluation: Evaluation, interpretation: Interpretation, report: Report) -> dict[str, Any]:
    cards = [_card(picture, report) for picture in interpretation.top_losses()]
    panels = _panels(evaluation, cards)
    return {
        "commonest": _commonest(evaluation),
        "matrix": _matrix(evaluation, {panel.id for panel in panels}),
        "is_large": len(evaluation.classes) >= _LARGE_MATRIX,
        "panels": panels,
        "most_confused": _most_confused(evaluation, interpretation),
        "hardest_first": sorted(evaluation.per_class, key=lambda row: (row.recall is None, row.recall or 0)),
        "plot": _plot(evaluation, interpretation),
        "top_losses": cards[:_TOP_LOSSES],
    }


def _card(picture: TopLoss, report: Report) -> Card:
    return Card(picture=picture, image=_image(report, picture.path), full_path=_full_path(report, picture.path))


def _full_path(report: Report, path: str) -> str:
    separator = "\\" if "\\" in report.root and "/" not in report.root else "/"
    return (report.root.rstrip("/\\") + separator if report.root else "") + path


def _image(report: Report, path: str) -> str:
    thumbnail = report.thumbnails.get(path)
    return "" if thumbnail is None else _data_uri(thumbnail, path)


def _data_uri(image: bytes, path: str) -> str:
    kind = next((kind for magic, kind in _MAGIC if image.startswith(magic)), None)
    if kind is None or (kind == "webp" and image[8:12] != b"WEBP"):
        raise InvalidInput(f"thumbnail of {path}", got=image[:12], want="JPEG, PNG or WebP bytes")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _commonest(evaluation: Evaluation) -> dict[str, Any]:
    row = max(evaluation.per_class, key=lambda row: row.n)
    return {"label": row.label, "share": row.n / evaluation.n}


def _panel_id(i: int, j: int) -> str:
    return f"cell-{i}-{j}"


def _matrix(evaluation: Evaluation, panel_ids: set[str]) -> list[list[Cell | None]]:
    return [
        [_cell(evaluation, i, j, panel_ids) if count else None for j, count in enumerate(row)]
        for i, row in enumerate(evaluation.confusion)
    ]


def _cell(evaluation: Evaluation, i: int, j: int, panel_ids: set[str]) -> Cell:
    count = evaluation.confusion[i][j]
    share = count / evaluation.per_class[i].n
    return Cell(
        count=count,
        share=share,
        tint=share if i == j else 0.15 + 0.85 * share**0.5,  # so that one mistake among fifty shows
        is_deep=i == j and share > 0.75,
        is_right=i == j,
        title=_cell_title(evaluation, i, j),
        panel=_panel_id(i, j) if _panel_id(i, j) in panel_ids else "",
    )


def _cell_title(evaluation: Evaluation, i: int, j: int) -> str:
    count, label, prediction = evaluation.confusion[i][j], evaluation.classes[i], evaluation.classes[j]
    return f"{count} of {evaluation.per_class[i].n} {label} called {prediction}"


def _panels(evaluation: Evaluation, cards: list[Card]) -> list[Panel]:
    """A panel for each kind of mistake, and for what was right where there are thumbnails; worst pictures first."""
    place = {label: i for i, label in enumerate(evaluation.classes)}
    behind: defaultdict[tuple[int, int], list[Card]] = defaultdict(list)
    for card in cards:
        behind[place[card.picture.label], place[card.picture.prediction]].append(card)
    panels = []
    for (i, j), group in sorted(behind.items()):
        shown = sorted(group, key=lambda card: not card.image)  # stable: those with a picture first
        if i == j:
            shown = [card for card in shown if card.image]
        if shown:
            panels.append(
                Panel(
                    id=_panel_id(i, j),
                    title=_cell_title(evaluation, i, j),
                    cards=tuple(shown[:_PANEL_CARDS]),
                    n_left_out=len(group) - len(shown[:_PANEL_CARDS]),
                )
            )
    return panels


def _most_confused(evaluation: Evaluation, interpretation: Interpretation) -> list[dict[str, Any]]:
    place = {label: i for i, label in enumerate(evaluation.classes)}
    return [
        {"label": label, "prediction": prediction, "count": count, "panel": _panel_id(place[label], place[prediction])}
        for label, prediction, count in interpretation.most_confused(min_count=2)[:5]
    ]


def _plot(evaluation: Evaluation, interpretation: Interpretation) -> dict[str, Any]:
    """Places of the reliability plot: both axes from `low` to 1, y downwards, the histogram by tenths."""
    confidence = np.asarray(interpretation.probs.max(axis=1), dtype=np.float64)
    lowest = min(float(confidence.min()), *(row.accuracy_low for row in evaluation.reliability))
    first = min(int(lowest * 10), 8)  # tenths; two at least, so that there is something to see

    def place(share: float) -> float:
        return round((share - first / 10) / (1 - first / 10) * _PLOT, 1)

    counts, _ = np.histogram(confidence, bins=np.arange(first, 11) / 10)
    return {
        "side": _PLOT,
        "histogram_height": _HISTOGRAM,
        "ticks": [(place(tenth / 10), f"{10 * tenth}") for tenth in range(10, first - 1, -2 if first < 5 else -1)],
        "points": [
            {
                "x": place(row.confidence),
                "y": _PLOT - place(row.accuracy),
                "top": _PLOT - place(row.accuracy_high),
                "bottom": _PLOT - place(row.accuracy_low),
                "title": f"{row.n} pictures: said {percent(row.confidence)}, right {percent(row.accuracy)}",
            }
            for row in evaluation.reliability
        ],
        "bars": [
            {
                "x": place((first + at) / 10),
                "width": place((first + 1) / 10),
                "height": round(_HISTOGRAM * count / counts.max(), 1),
                "count": int(count),
            }
            for at, count in enumerate(counts)
        ],
    }


def _timings(report: Report) -> list[dict[str, Any]]:
    longest = max((seconds for _, seconds in report.timings), default=0.0) or 1.0
    return [{"name": name, "shown": _seconds(seconds), "length": seconds / longest} for name, seconds in report.timings]


def _seconds(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    return f"{int(seconds) // 60}\N{NO-BREAK SPACE}min {int(seconds) % 60:02d}\N{NO-BREAK SPACE}s"
