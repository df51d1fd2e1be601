"""`drivetrain rollout status`, for a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from drivetrain.cli.shared import escape_text, percent, show_number
from drivetrain.cli.store import show_time

__all__ = ["show_status"]


def show_status(facts: Mapping[str, Any]) -> None:
    """What matters first: where it stands, and what is missing."""
    against = facts["incumbent"] or "people"
    _line(f"{facts['name']}: {facts['stands']}  ({facts['candidate']} beside {against})")
    _line(f"since {show_time(facts['started_at'])}, by {facts['started_by']}: {facts['config']['objective']}")
    harm = facts["evidence"]["harm"]
    if harm["is_met"]:
        _line("HARM     " + " ".join(one["sentence"] for one in harm["criteria"] if one["is_met"]))
    if facts["next"] is not None:
        gate = facts["gate"]
        missing = sum(not one["is_met"] for one in gate)
        _line(f"\nnext: {facts['next']}, {'all is shown' if not missing else f'{missing} things are missing'}")
        for one in gate:
            far = ""
            if one["is_test"] and not one["is_met"]:
                far = f" ({percent(one['share'], digits=0)} of the evidence)"
            _line(f"  {'yes' if one['is_met'] else 'no ':<3}  {one['sentence']}{far}")
    _show_work(facts)
    _show_belief(facts)
    for alert in facts["alerts"]:
        _line(f"alert    {alert['id']}  {alert['kind']}: {alert['detail']}")
    for asks in facts["unanswered"].values():
        _line(f"open     {asks}")


def _show_work(facts: Mapping[str, Any]) -> None:
    whole, reviews, costs = facts["evidence"]["whole"], facts["reviews"], facts["costs"]
    _line("")
    _line(
        f"requests {whole['n']:,}, {whole['n_automatic']:,} decided, {whole['n_deferred']:,} left to people, "
        f"{whole['n_failed']:,} failed; {whole['n_waiting']:,} wait for a label, {facts['backlog']:,} to be seen"
    )
    oldest = "" if reviews["oldest_hours"] is None else f", the oldest for {reviews['oldest_hours']:.1f} h"
    same = (
        "" if reviews["same"] is None else f"; two people agree on {percent(reviews['same'])} of {reviews['twice']:,}"
    )
    kappa = "" if reviews["kappa"] is None else f" (kappa {reviews['kappa']:.2f})"
    _line(f"reviews  {reviews['open']:,} open{oldest}{same}{kappa}")
    for one in reviews["people"]:
        pace = "" if one["median_seconds"] is None else f", {one['median_seconds']:.0f} s each"
        _line(f"         {one['by']}: {one['answers']:,} this week{pace}")
    told = (
        ""
        if costs["per_thousand"] is None
        else f"; a thousand requests would cost {show_number(costs['per_thousand'])}"
    )
    _line(f"costs    labels so far {show_number(costs['reviews'])}{told}")


def _show_belief(facts: Mapping[str, Any]) -> None:
    belief = facts["belief"]
    if belief is None:
        return
    if belief["error"] is not None:
        _line(f"belief   shown, never a gate ({belief['prior_from']}). {belief['error']['sentence']}")
    if belief["versus"] is not None:
        versus = belief["versus"]
        _line(
            "belief   shown, never a gate. Of the pictures that one alone has right it wins "
            f"{percent(versus['share'], digits=0)}; with no belief before, it is the better one with a chance of "
            f"{percent(versus['better'], digits=0)}"
        )


def _line(text: str) -> None:
    sys.stdout.write("\n".join(escape_text(part) for part in text.split("\n")) + "\n")
