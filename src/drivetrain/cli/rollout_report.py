"""`drivetrain rollout report`: the page, once or at the end of each hour, day or week."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from drivetrain.cli.shared import JsonFlag, escape_text, open_settings, print_json
from drivetrain.cli.store import DbOption, opened_store

__all__ = ["report"]

_EVENT = "rollout.report"
_POST_TIMEOUT_S = 20.0


def report(
    name: Annotated[str, typer.Argument(help="The roll-out.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page; default: NAME-rollout.html.")] = None,
    every: Annotated[
        Literal["hour", "day", "week"] | None,
        typer.Option(help="Run on; write it at each end (UTC), and beside it a copy with the date."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(help="Post a summary there, signed with the setting webhook_secret.")
    ] = None,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a page: where it stands, evidence over time, errors by part, what is new since the page that was there."""
    from drivetrain.flows.report_schedule import run_reports, summarize_report
    from drivetrain.flows.rollout import get_deployment
    from drivetrain.flows.rollout_report import write_report

    post = None if webhook is None else _poster(webhook)
    with opened_store(db) as store:
        path = Path(f"{get_deployment(store, name).name}-rollout.html") if out is None else out
        if every is None:
            facts = write_report(store, name, path)
            if post is not None:
                post(summarize_report(facts, path))
            _show_report(path, facts, as_json=as_json)
            return
        try:
            run_reports(
                store,
                name,
                path,
                every=every,
                post=post,
                clock=time.time,
                sleep=time.sleep,
                tell=_tell,
                show=lambda summary: _show_summary(summary, as_json=as_json),
            )
        except KeyboardInterrupt:
            _tell("Stopped.")


def _poster(url: str) -> Callable[[Mapping[str, Any]], None]:
    """Raises InvalidConfig at once where nothing could be sent, or signed."""
    from drivetrain.flows.webhook import check_webhook, post_signed

    secret = open_settings().webhook_secret
    check_webhook(url, secret)

    def post(body: Mapping[str, Any]) -> None:
        post_signed(url, secret, _EVENT, body, timeout_s=_POST_TIMEOUT_S)

    return post


def _show_report(path: Path, facts: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({"report": str(path), **facts})
        return
    for line in facts["changes"]:
        sys.stdout.write(escape_text(line) + "\n")
    sys.stdout.write(escape_text(str(path)) + "\n")


def _show_summary(summary: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(summary, indent=None)
    else:
        sys.stdout.write(escape_text(f"{summary['stands']}. {summary['distance']} {summary['report']}") + "\n")
    sys.stdout.flush()


def _tell(words: str) -> None:
    sys.stderr.write(escape_text(words) + "\n")
    sys.stderr.flush()
