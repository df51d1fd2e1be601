"""The page of a roll-out: one HTML file, drawn without any other program, that asks nothing of any other machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .report_view import percent

__all__ = ["find_facts", "render_rollout_report"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 260, 48, 28  # of the drawing
_FACTS = re.compile(r'<script type="application/json" id="facts">(.*?)</script>', re.DOTALL)
_PANEL_WIDTH, _PANEL_HEIGHT, _PANEL_LEFT = 300, 110, 40  # of one of the drawings of drift
_CHART_TOPS = (0.02, 0.04, 0.08, 0.12, 0.2, 0.4, 0.6, 0.8, 1.0)  # a fourth of each is a plain number
_TOPS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)  # where a scale may end
_COUNTS = ("n", "n_automatic", "n_deferred", "n_labelled", "n_wrong", "n_failed")


def render_rollout_report(facts: Mapping[str, Any], *, back: str = "") -> str:
    """The page. Names in it are other people's: all is escaped; no script runs, no request is made.

    `back` is where a link above it leads, where a server shows it.
    """
    loader = PackageLoader("drivetrain.inspect", "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["percent"] = percent
    style = "\n".join(loader.get_source(page, name)[0] for name in ("report.css", "rollout.css"))
    status = facts["status"]
    return page.get_template("rollout.html").render(
        facts=facts,
        status=status,
        back=back,
        tops={name: _top(row["high"] for row in rows) for name, rows in facts["parts"].items()},
        missing=[one for one in status["gate"] if not one["is_met"]],
        panels=[_draw_panel(one, facts["drift"]) for one in facts["drift"]["series"]],
        chart=_draw(facts["points"], bound=status["config"]["gate"]["bound"]),
        kept=Markup(_keep(facts)),  # noqa: S704  escaped by _keep
        style=Markup(style),  # noqa: S704  our own files
    )


def find_facts(page: str) -> dict[str, Any] | None:
    """What an earlier page said of itself; None where it is no such page."""
    found = _FACTS.search(page)
    try:
        facts = json.loads(found[1]) if found else None
    except ValueError:
        return None
    names = {"id", "stands", "made_at", "counts", "met"}
    if not isinstance(facts, dict) or set(facts) != names or set(facts["counts"]) != set(_COUNTS):
        return None
    return facts


def _keep(facts: Mapping[str, Any]) -> str:
    status = facts["status"]
    kept = {
        "id": status["id"],
        "stands": status["stands"],
        "made_at": facts["made_at"],
        "counts": {name: status["evidence"]["whole"][name] for name in _COUNTS},
        "met": [one["name"] for one in status["evidence"]["gate"]["criteria"] if one["is_met"]],
    }
    return json.dumps(kept).replace("<", "\\u003c")


def _draw(points: Sequence[Mapping[str, Any]], *, bound: float | None) -> dict[str, Any] | None:
    """Places on the drawing, in its units; the scale ends above what matters, not at 1."""
    known = [one for one in points if one["share"] is not None]
    if len(known) < 2:
        return None
    last, most = known[-1], known[-1]["n"]
    reach = max(1.5 * (bound or 0.0), 1.5 * last["high"], 1.2 * max(one["share"] for one in known[-20:]))
    top = next(end for end in _CHART_TOPS if end >= min(1.0, reach))

    def at(n: float, share: float) -> str:
        return f"{_LEFT + (_WIDTH - _LEFT) * n / most:.1f},{_y(share, top):.1f}"

    upper = [at(one["n"], one["high"]) for one in known]
    lower = [at(one["n"], one["low"]) for one in reversed(known)]
    return {
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "floor": _HEIGHT - _BOTTOM,
        "band": " ".join([*upper, *lower]),
        "line": " ".join(at(one["n"], one["share"]) for one in known),
        "bound": None if bound is None else _y(bound, top),
        "ticks": [{"y": _y(top * k / 4, top), "share": top * k / 4} for k in range(5)],
        "most": most,
        "last": last,
    }


def _draw_panel(series: Mapping[str, Any], drift: Mapping[str, Any]) -> dict[str, Any]:
    """One share over time: a dot with its interval a window, and how far the first part reaches."""
    windows = series["windows"]
    top = _top(one["share"] for one in windows)
    room, floor = _PANEL_WIDTH - _PANEL_LEFT, _PANEL_HEIGHT - 16

    def at(share: float) -> float:
        return round(4 + (floor - 4) * (1 - min(share, top) / top), 1)

    places = [round(_PANEL_LEFT + room * (k + 0.5) / len(windows), 1) for k in range(len(windows))]
    return {
        "name": series["name"],
        "compared": series["compared"],
        "width": _PANEL_WIDTH,
        "height": _PANEL_HEIGHT,
        "left": _PANEL_LEFT,
        "floor": floor,
        "top": top,
        "first": round(room * min(1.0, drift["first"] / max(drift["n"], 1)), 1),
        "line": " ".join(f"{x},{at(one['share'])}" for x, one in zip(places, windows, strict=True)),
        "dots": [
            {"x": x, "y": at(one["share"]), "low": at(one["low"]), "high": at(one["high"])}
            for x, one in zip(places, windows, strict=True)
        ],
    }


def _top(shares: Iterable[float]) -> float:
    """Where a scale from 0 may end, so that all of them lie on it."""
    most = max(shares)
    return next(end for end in _TOPS if end >= min(most, 1.0))


def _y(share: float, top: float) -> float:
    return (_HEIGHT - _BOTTOM) * (1 - min(share, top) / top) + 4
