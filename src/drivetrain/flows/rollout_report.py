"""What a roll-out's report tells: where it stands, evidence over time, errors by part, what is new since the last."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from drivetrain.files import write_whole
from drivetrain.inspect.rollout_report import find_facts, render_rollout_report
from drivetrain.rollout.evidence import Evidence
from drivetrain.store.store import Store
from drivetrain.trust.estimate import wilson_interval
from drivetrain.trust.sequential import rate_interval

from .rollout import get_deployment
from .rollout_config import RolloutConfig
from .rollout_drift import measure_drift
from .rollout_evidence import Row, count_row, plan_evidence, read_rows
from .rollout_status import describe_rollout

__all__ = ["gather_report", "write_report"]

_MOST_POINTS = 160
_MOST_PARTS = 12  # values of one attribute that are shown, those with most labels
_COUNTS = ("n", "n_automatic", "n_deferred", "n_labelled", "n_wrong", "n_failed")


def write_report(store: Store, name: str, path: Path) -> dict[str, Any]:
    """Write the page, whole; what it told before at this path is what it compares itself with. Returns its facts."""
    try:
        before = find_facts(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        before = None
    facts = gather_report(store, name)
    facts["changes"] = _compare(before, facts)
    write_whole(path, render_rollout_report(facts).encode())
    return facts


def gather_report(store: Store, name: str) -> dict[str, Any]:
    """Plain values."""
    deployment = get_deployment(store, name)
    config = RolloutConfig.from_json(deployment.config)
    plan = plan_evidence(store, deployment)
    rows = list(read_rows(store, plan))
    evidence, points = _draw(rows, floor=plan.floor, alpha=config.gate.alpha)
    counted = rows[: len(rows) - evidence.n_waiting]
    return {
        "made_at": datetime.fromtimestamp(store.deployments.clock(), UTC).isoformat(timespec="minutes"),
        "status": describe_rollout(store, deployment.id),
        "points": points,
        "parts": _split(counted),
        "drift": measure_drift(rows),
        "reasons": dict(_reasons(counted).most_common()),
        "events": [
            {key: entry[key] for key in ("at", "by", "action", "after", "reason")}
            for entry in store.deployments.ledger(deployment.id)
        ],
        "changes": [],
    }


def _draw(rows: Iterable[Row], *, floor: float, alpha: float) -> tuple[Evidence, list[dict[str, Any]]]:
    """The evidence, and the share of wrong decisions with its confidence sequence along the way."""
    evidence, points, every = Evidence(floor=floor), [], 1
    for row in rows:
        before = evidence.n
        count_row(row, whole=evidence, step=None)
        if evidence.n_waiting or evidence.n == before:
            continue
        if evidence.n % every == 0:
            points.append(_point(evidence, alpha))
        if len(points) > _MOST_POINTS:
            points, every = points[1::2], 2 * every
    if evidence.n and (not points or points[-1]["n"] != evidence.n):
        points.append(_point(evidence, alpha))
    return evidence, points


def _point(evidence: Evidence, alpha: float) -> dict[str, Any]:
    if evidence.floor < 1:
        share = evidence.for_promotion.estimate
        low, high = evidence.for_promotion.interval(alpha=alpha)
    else:
        wrong, n = evidence.n_wrong + evidence.n_untold, evidence.n_labelled + evidence.n_untold
        share, (low, high) = (wrong / n if n else None), rate_interval(wrong, n, alpha=alpha)
    return {"n": evidence.n, "share": None if share is None else min(max(share, 0.0), 1.0), "low": low, "high": high}


def _split(rows: Iterable[Row]) -> dict[str, list[dict[str, Any]]]:
    """Attribute -> value -> share wrong among labelled decisions, each weighed by one over its chance of a label."""
    found: dict[str, dict[str, list[tuple[float, bool]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        outcome = row.outcome
        if outcome.candidate is None or outcome.truth is None:
            continue
        mark = (1 / outcome.probability, outcome.candidate != outcome.truth)
        found["decided as"][outcome.candidate].append(mark)
        found["in truth"][outcome.truth].append(mark)
        found["hour (UTC)"][f"{outcome.at.hour:02d}"].append(mark)
        for name, value in row.routed.attributes.items():
            found[name][value].append(mark)
    return {
        name: [
            _measure(value, marks)
            for value, marks in sorted(sorted(values.items(), key=lambda one: -len(one[1]))[: 2 * _MOST_PARTS])
        ]
        for name, values in found.items()
    }


def _measure(value: str, marks: list[tuple[float, bool]]) -> dict[str, Any]:
    """With Wilson's 95 % interval for as many labels as the weights are worth (Kish 1965)."""
    total = sum(weight for weight, _ in marks)
    share = sum(weight for weight, is_wrong in marks if is_wrong) / total
    worth = max(1, round(total**2 / sum(weight**2 for weight, _ in marks)))
    low, high = wilson_interval(min(worth, round(share * worth)), worth)
    return {"value": value, "n": len(marks), "share": share, "low": min(low, share), "high": max(high, share)}


def _reasons(rows: Iterable[Row]) -> Counter[str]:
    """Why pictures were left to people; one may have several reasons."""
    return Counter(
        reason
        for row in rows
        if row.outcome.candidate is None and row.routed.candidate is not None
        for reason in row.routed.candidate.get("reasons", ())
    )


def _compare(before: dict[str, Any] | None, now: dict[str, Any]) -> list[str]:
    """What is new since the page that stood here, in words."""
    if before is None or before["id"] != now["status"]["id"]:
        return []
    found = []
    if before["stands"] != now["status"]["stands"]:
        found.append(f"It stood at {before['stands']}, and stands at {now['status']['stands']}.")
    whole = now["status"]["evidence"]["whole"]
    more = {name: whole[name] - before["counts"][name] for name in _COUNTS}
    found.append(
        f"{more['n']:,} more requests counted: {more['n_automatic']:,} decided, {more['n_deferred']:,} left to people, "
        f"{more['n_failed']:,} failed; {more['n_labelled']:,} more labels, {more['n_wrong']:,} of them wrong decisions."
    )
    met = {one["name"] for one in now["status"]["evidence"]["gate"]["criteria"] if one["is_met"]}
    found += [f"Now shown: {name}." for name in sorted(met - set(before["met"]))]
    found += [f"No longer shown: {name}." for name in sorted(set(before["met"]) - met)]
    return [f"Since the report of {before['made_at']}:", *found]
