"""The page of a roll-out: one HTML file, drawn without any other program, that asks nothing of any other machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .report_view import percent

__all__ = ["find_facts", "render_rollout_report"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 720, 260, 48, 28  # of the drawing
_FACTS = re.compile(r'<script type="application/json" id="facts">(.*?)</script>', re.DOTALL)
_COUNTS = ("n", "n_automatic", "n_deferred", "n_labelled", "n_wrong", "n_failed")


def render_rollout_report(facts: Mapping[str, Any]) -> str:
    """The page. Names in it are other people's: all is escaped; no script runs, no request is made."""
    loader = PackageLoader("drivetrain.inspect", "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["percent"] = percent
    style = "\n".join(loader.get_source(page, name)[0] for name in ("report.css", "rollout.css"))
    status = facts["status"]
    return page.get_template("rollout.html").render(
        facts=facts,
        status=status,
        missing=[one for one in status["evidence"]["gate"]["criteria"] if not one["is_met"]],
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
    top = min(1.0, max(1.5 * (bound or 0.0), 1.5 * last["high"], 1.2 * max(one["share"] for one in known[-20:]), 0.01))

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


def _y(share: float, top: float) -> float:
    return (_HEIGHT - _BOTTOM) * (1 - min(share, top) / top) + 4
