"""A roll-out's report at the end of each hour, day or week: the page is written, a short summary is posted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from drivetrain.errors import DrivetrainError
from drivetrain.files import write_whole
from drivetrain.store.store import Store

from .rollout_report import write_report

__all__ = ["Every", "find_end", "name_dated", "run_reports", "summarize_report"]

Every = Literal["hour", "day", "week"]
Post = Callable[[Mapping[str, Any]], None]  # raises Unavailable where it was not taken

_NAP_S = 60.0  # so that a clock that was set, or a machine that slept, is noticed
_UNSENT_MAX = 50  # summaries that wait for a webhook; then the oldest goes


def find_end(at: float, every: Every) -> float:
    """When the period ends that `at` lies in, both seconds UTC; a week ends with Sunday."""
    return _begin(at, every) + {"hour": 3_600.0, "day": 86_400.0, "week": 7 * 86_400.0}[every]


def name_dated(path: Path, at: float, every: Every) -> Path:
    """Beside the latest page, that of the period that `at` lies in: NAME-2026-11-22.html, -2026-11-22T17, -2026-W47."""
    begin = datetime.fromtimestamp(_begin(at, every), UTC)
    shown = begin.strftime({"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "week": "%G-W%V"}[every])
    return path.with_name(f"{path.stem}-{shown}{path.suffix}")


def run_reports(
    store: Store,
    name: str,
    path: Path,
    *,
    every: Every,
    post: Post | None,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
    tell: Callable[[str], None],
    show: Callable[[dict[str, Any]], None],
) -> None:
    """Write at `path` and beside it, with the date, at the end of each period, until the roll-out is over.

    What fails is told and tried again at the next end: a database that is away, a disk, a webhook. Summaries that were
    not taken go first then. `show` gets what was posted, or would be, of each report.
    """
    unsent: deque[Mapping[str, Any]] = deque(maxlen=_UNSENT_MAX)
    while True:
        began = clock()
        end = find_end(began, every)
        tell(f"The next report is due at {_told(end)} UTC.")
        while (left := end - clock()) > 0:
            sleep(min(left, _NAP_S))
        dated = name_dated(path, end - 1, every)
        try:
            facts = write_report(store, name, path)
            write_whole(dated, path.read_bytes())
        except (DrivetrainError, OSError) as exc:
            tell(f"No report: {exc}. It is tried again at the next end.")
            continue
        summary = summarize_report(facts, dated)
        show(summary)
        if post is not None:
            unsent.append(summary)
            _send(unsent, post, tell)
        if facts["status"]["ended_at"] is not None:
            tell(f"The roll-out is over: {facts['status']['stands']}. This was its last report.")
            return


def summarize_report(facts: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """What is posted: where it stands, what is missing, harm, what changed, and where the page is."""
    status = facts["status"]
    return {
        "rollout": status["name"],
        "model": status["model"],
        "candidate": status["candidate"],
        "incumbent": status["incumbent"],
        "stage": status["stage"],
        "share": status["share"],
        "is_held": status["is_held"],
        "stands": status["stands"],
        "next": status["next"],
        "distance": status["distance"],
        "missing": [one["sentence"] for one in status["gate"] if not one["is_met"]] if status["next"] else [],
        "harm": {"is_shown": status["harm"]["is_met"], "sentence": status["harm"]["sentence"]},
        "alerts": [f"{alert['kind']}: {alert['detail']}" for alert in status["alerts"]],
        "drift": facts["drift"]["changed"],
        "reviews_open": status["reviews"]["open"],
        "backlog": status["backlog"],
        "changes": facts["changes"],
        "made_at": facts["made_at"],
        "report": str(path.absolute()),
    }


def _send(unsent: deque[Mapping[str, Any]], post: Post, tell: Callable[[str], None]) -> None:
    """The oldest first; the first that is not taken ends it."""
    while unsent:
        try:
            post(unsent[0])
        except DrivetrainError as exc:
            tell(
                f"{exc} {len(unsent)} {'report waits' if len(unsent) == 1 else 'reports wait'}; tried again next time."
            )
            return
        unsent.popleft()


def _begin(at: float, every: Every) -> float:
    begin = datetime.fromtimestamp(at, UTC).replace(minute=0, second=0, microsecond=0)
    if every != "hour":
        begin = begin.replace(hour=0)
    if every == "week":
        begin -= timedelta(days=begin.weekday())
    return begin.timestamp()


def _told(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
