"""Sections of the page of an evaluation: groups, foreign pictures, worse pictures, another model."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from drivetrain.arrays import FloatArray

from .report_values import number, p_value
from .report_view import percent

if TYPE_CHECKING:  # their scipy.optimize takes 0.12 s, and a report of a training needs none of them
    from drivetrain.trust.belief import Belief
    from drivetrain.trust.compare import Comparison
    from drivetrain.trust.detection import Detection
    from drivetrain.trust.estimate import Rate
    from drivetrain.trust.groups import GroupComparison, GroupMeasure
    from drivetrain.trust.robustness import Condition

__all__ = [
    "ForeignCard",
    "Section",
    "render_comparison",
    "render_corruptions",
    "render_foreign",
    "render_groups",
]

_BINS = 48
_MOST_CARDS = 14
_SIDE, _HALF = 760, 90  # units: the histogram's width, and its height above and below
_PLOT = (250, 150)  # units of a small plot
_MOST_GROUPS = 60
_MEASURES = {"accuracy": "right", "deferred": "left to a person", "flagged": "flagged", "error": "off by"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page; `html` is a whole <section> with this id."""

    id: str
    link: str  # what the contents call it
    html: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignCard:
    """A foreign picture that looked as little strange as few others did."""

    path: str
    said: str
    p_value: float
    is_decided: bool  # without asking a person
    image: bytes | None  # JPEG


def render_groups(compared: GroupComparison, *, title: str, notes: Sequence[str]) -> Section:
    """Who is served worse; each difference on a scale of its own measure."""
    widest: dict[str, float] = {}
    for group in compared.groups:
        for row in group.measures:
            ends = [abs(end) for end in (row.difference_low, row.difference_high) if end is not None]
            widest[row.name] = max([widest.get(row.name, 0.0), *ends])
    shown = [group for group in compared.groups if group.measures][:_MOST_GROUPS]
    rows = [
        {
            "name": group.name,
            "n": group.n,
            "cells": [_view_measure(row, widest[row.name] or 1.0) for row in group.measures],
        }
        for group in shown
    ]
    html = _render(
        "evaluation_groups.html",
        compared=compared,
        title=title,
        notes=notes,
        columns=[_MEASURES[row.name] for row in shown[0].measures] if shown else [],
        rows=rows,
        n_more=sum(bool(group.measures) for group in compared.groups) - len(shown),
    )
    return Section(id="groups", link="Groups", html=html)


def _view_measure(row: GroupMeasure, widest: float) -> dict[str, Any]:
    is_share = row.name != "error"

    def show(value: float) -> str:
        if not is_share:
            return f"{value:+.3g}".replace("-", "\N{MINUS SIGN}")
        told = f"{100 * value:+.1f}"
        return told.lstrip("+-") if float(told) == 0 else told.replace("-", "\N{MINUS SIGN}")

    def place(value: float) -> float:
        return round(50 + 48 * value / widest, 2)

    view: dict[str, Any] = {
        "value": percent(row.value, 1) if is_share else number(row.value),
        "title": f"interval {percent(row.low)} to {percent(row.high)}" if is_share else "",
        "verdict": row.verdict,
        "gap": None,
    }
    if row.difference is not None and row.difference_low is not None and row.difference_high is not None:
        view["gap"] = {
            "told": f"{show(row.difference)} ({show(row.difference_low)} to {show(row.difference_high)})",
            "low": place(row.difference_low),
            "high": place(row.difference_high),
            "at": place(row.difference),
        }
    return view


def render_foreign(
    detection: Detection,
    rates: Mapping[str, Rate],
    cards: Sequence[ForeignCard],
    *,
    folder: str,
    told_mistaken: str,
    known: FloatArray,
    foreign: FloatArray,
) -> Section:
    """rates: `unknown`, `shifted`, `deferred` of foreign pictures and `known_unknown`; known and foreign are scores.

    `told_mistaken` says how many of them it decided by itself.
    """
    html = _render(
        "evaluation_foreign.html",
        detection=detection,
        rates=rates,
        cards=[{"card": card, "image": _uri(card.image)} for card in cards[:_MOST_CARDS]],
        has_images=any(card.image for card in cards),
        folder=folder,
        told_mistaken=told_mistaken,
        plot=_plot_scores(known, foreign),
    )
    return Section(id="foreign", link="Foreign pictures", html=html)


def _plot_scores(known: FloatArray, foreign: FloatArray) -> dict[str, Any]:
    """Bars up for known pictures, down for foreign ones; what is beyond the middle 99 % stands in the outer bars."""
    low, high = np.quantile(np.concatenate([known, foreign]), [0.005, 0.995])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    width = _SIDE / _BINS
    bars = []
    for scores, kind in ((known, "known"), (foreign, "foreign")):
        counts, _ = np.histogram(np.clip(scores, low, high), bins=edges)
        tall = np.sqrt(counts / counts.max())  # a root, so that the few at the wrong end can be seen
        bars += [
            {
                "kind": kind,
                "x": round(at * width + 0.5, 2),
                "width": round(width - 1, 2),
                "y": round(_HALF - 2 - _HALF * share if kind == "known" else _HALF + 2, 1),
                "height": round(_HALF * share, 1),
                "title": f"{counts[at]:,} {kind}",
            }
            for at, share in enumerate(tall)
            if counts[at]
        ]
    return {"bars": bars, "width": _SIDE, "half": _HALF}


def render_corruptions(
    conditions: Mapping[str, Sequence[Condition]],
    *,
    words: Mapping[str, str],
    examples: Mapping[tuple[str, int], bytes],
    n_all: int,
) -> Section:
    """conditions: kind -> one a strength, the clean one first; examples: (kind, strength) -> JPEG."""
    html = _render(
        "evaluation_corruptions.html",
        n=next(iter(conditions.values()))[0].n,
        n_all=n_all,
        kinds=[
            {
                "name": kind.replace("_", " "),
                "words": words[kind],
                "plot": _plot_kind(rows),
                "images": [_uri(examples.get((kind, row.strength))) for row in rows] if examples else [],
                "rows": rows,
            }
            for kind, rows in conditions.items()
        ],
    )
    return Section(id="worse", link="Worse pictures", html=html)


def _plot_kind(rows: Sequence[Condition]) -> dict[str, Any]:
    width, height = _PLOT
    step = width / (len(rows) - 1)

    def y(share: float) -> float:
        return round(height * (1 - share), 1)

    def line(name: str) -> dict[str, Any]:
        rates = [getattr(row, name) for row in rows]
        there = [f"{round(at * step, 1)},{y(rate.high)}" for at, rate in enumerate(rates)]
        back = [f"{round(at * step, 1)},{y(rate.low)}" for at, rate in reversed([*enumerate(rates)])]
        return {
            "name": name,
            "points": " ".join(f"{round(at * step, 1)},{y(rate.share)}" for at, rate in enumerate(rates)),
            "band": " ".join(there + back),
            "dots": [(round(at * step, 1), y(rate.share)) for at, rate in enumerate(rates)],
        }

    return {
        "width": width,
        "height": height,
        "ticks": [(y(share), f"{100 * share:.0f}") for share in (0, 0.5, 1)],
        "steps": [(round(at * step, 1), row.strength) for at, row in enumerate(rows)],
        "lines": [line(name) for name in ("flagged", "deferred", "accuracy", "silent")],
    }


def render_comparison(
    told: Comparison,
    belief: Belief | None,
    *,
    name: str,
    rows: Sequence[tuple[str, str, str]],
    counts: Mapping[str, int] | None,
) -> Section:
    """rows: what, of the model, of the reference; counts: pictures `both`, `won`, `lost`, `neither` right, or None."""
    widest = max(abs(told.low), abs(told.high)) or 1.0
    times = 100 if told.is_share else 1

    def place(value: float) -> float:
        return round(50 + 48 * value / widest, 2)

    html = _render(
        "evaluation_against.html",
        told=told,
        sentence=_keep_together(told.sentence[0].upper() + told.sentence[1:]),
        belief_sentence=_keep_together(belief.sentence) if belief else "",
        name=name,
        rows=rows,
        counts=counts,
        axis={
            "low": place(told.low),
            "high": place(told.high),
            "at": place(told.gain),
            "ends": [f"{times * end:+.2g}{' points' if told.is_share else ''}" for end in (-widest, widest)],
        },
    )
    return Section(id="against", link="Another model", html=html)


def _keep_together(text: str) -> str:
    """No line ends before a per cent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def _uri(image: bytes | None) -> str:
    return "" if image is None else f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


def _render(template: str, **values: Any) -> Markup:
    loader = PackageLoader("drivetrain.inspect", "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["percent"] = percent
    page.filters["number"] = number
    page.filters["p_value"] = p_value
    return Markup(page.get_template(template).render(**values))  # noqa: S704  made by a template that escapes
