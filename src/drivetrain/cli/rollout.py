"""`drivetrain rollout`.

Bring a model into use in steps: manual, limited, expanding. Each step is earned.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from drivetrain.cli.rollout_markers import mark_rollback, marker_folder, tell_marker
from drivetrain.cli.rollout_report import report
from drivetrain.cli.rollout_start import start
from drivetrain.cli.shared import JsonFlag, ThreadsOption, escape_text, open_settings, print_json
from drivetrain.cli.store import DbOption, opened_store
from drivetrain.errors import InvalidConfig, Unavailable

if TYPE_CHECKING:
    from drivetrain.flows.rollout import Moved

__all__ = ["COMMANDS"]

_Name = Annotated[str, typer.Argument(help="The roll-out.")]
_By = Annotated[str, typer.Option(help="Who does it.")]
_Reason = Annotated[str, typer.Option(help="Why; it is kept.")]


def status(
    name: Annotated[str | None, typer.Argument(help="The roll-out; without one, all are listed.")] = None,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say where it stands, what was shown, and what the next step still needs."""
    from drivetrain.flows.rollout_status import describe_rollout, list_rollouts

    with opened_store(db) as store:
        if name is None:
            rows = list_rollouts(store)
            if as_json:
                print_json({"rollouts": rows})
                return
            for row in rows:
                against = row["incumbent"] or "people"
                told = f"{row['name']}  {row['stands']}  {row['candidate']} beside {against}"
                sys.stdout.write(escape_text(told) + "\n")
            if not rows:
                sys.stderr.write("No roll-outs yet. Start one: drivetrain rollout start NAME --candidate NAME.dt\n")
            return
        facts = describe_rollout(store, name)
    if as_json:
        print_json(facts)
        return
    from drivetrain.cli.rollout_tables import show_status

    show_status(facts)


def advance(
    name: _Name,
    by: _By,
    reason: _Reason,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say whether it could, change nothing.")] = False,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take the next step, if everything it needs is shown. Exits with 1 where it is not."""
    from drivetrain.flows.rollout import advance as run

    with opened_store(db) as store:
        moved = run(store, name, by=by, reason=reason, is_dry=dry_run)
    assert moved.judged is not None
    if not dry_run:
        _show_move(name, moved, as_json=as_json)
        return
    may = moved.judged.gate.is_met and not moved.judged.harm.is_met
    if as_json:
        print_json({"may": may, "after": moved.after.in_words, "evidence": moved.judged.evidence})
    else:
        for one in moved.judged.gate.missing:
            sys.stdout.write(escape_text(f"missing  {one.sentence}") + "\n")
        words = "may" if may else "may not yet"
        sys.stdout.write(escape_text(f"{name} {words} go from {moved.before.in_words} to {moved.after.in_words}."))
        sys.stdout.write("\n")
    if not may:
        raise typer.Exit(1)


def hold(name: _Name, by: _By, reason: _Reason, db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Stop where it is: the candidate decides as it did, and takes no step."""
    from drivetrain.flows.rollout import hold as run

    with opened_store(db) as store:
        _show_move(name, run(store, name, by=by, reason=reason), as_json=as_json)


def resume(name: _Name, by: _By, reason: _Reason, db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Let one that is held go on."""
    from drivetrain.flows.rollout import resume as run

    with opened_store(db) as store:
        _show_move(name, run(store, name, by=by, reason=reason), as_json=as_json)


def rollback(name: _Name, by: _By, reason: _Reason, db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Take the candidate back at once, from any step. Works where the database cannot be written, too."""
    from drivetrain.flows.rollout import rollback as run

    folder = marker_folder(db)
    try:
        with opened_store(db) as store:
            moved = run(store, name, by=by, reason=reason, marker_folder=folder)
    except (InvalidConfig, Unavailable) as exc:
        if exc.field != "db":
            raise
        mark_rollback(name, by, reason, folder=folder, as_json=as_json)
        return
    if moved.marker is not None:
        tell_marker(name, moved.marker, as_json=as_json)
    else:
        _show_move(name, moved, as_json=as_json)


def log(name: _Name, db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Show what happened: when, who, what, why, by which evidence."""
    from drivetrain.flows.rollout import get_deployment

    with opened_store(db) as store:
        entries = store.deployments.ledger(get_deployment(store, name).id)
    if as_json:
        print_json({"name": name, "entries": entries})
        return
    for entry in entries:
        way = entry["after"] if entry["before"] in ("", entry["after"]) else f"{entry['before']} -> {entry['after']}"
        told = f"{entry['number']:>3}  {entry['at'][:16]}  {entry['by']}  {entry['action']}  {way}  {entry['reason']}"
        sys.stdout.write(escape_text(told) + "\n")


def verify(name: _Name, db: DbOption = None, as_json: JsonFlag = False) -> None:
    """Check that the ledger is whole: nothing in it was changed, taken out or put in."""
    from drivetrain.flows.rollout import get_deployment
    from drivetrain.flows.rollout import verify as run

    with opened_store(db) as store:
        broken = run(store, name)
        entries = store.deployments.ledger(get_deployment(store, name).id)
    last = entries[-1]["digest"] if entries else None
    if as_json:
        print_json({"name": name, "is_whole": broken is None, "problem": broken, "n": len(entries), "last": last})
    elif broken is None:
        sys.stdout.write(f"The ledger is whole: {len(entries)} entries, the last {last}.\n")
        sys.stderr.write("Keep that digest elsewhere: only it can show that the end was cut off.\n")
    else:
        sys.stdout.write(f"The ledger is not whole: {broken}.\n")
    if broken is not None:
        raise typer.Exit(1)


def replay(
    name: _Name,
    candidate: Annotated[Path | None, typer.Option(help="Another model than its candidate: NAME.dt.")] = None,
    threads: ThreadsOption = None,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Run a model over the pictures that a roll-out kept, before anyone sees it."""
    from drivetrain.flows.replay import replay_rollout

    n_threads = open_settings(db=db, threads=threads).worker_threads
    with opened_store(db) as store:
        found = replay_rollout(store, name, candidate=candidate, threads=n_threads)
    if as_json:
        print_json({"name": name, **found.as_json()})
        return
    sys.stdout.write(
        escape_text(f"{found.version}: {found.n:,} pictures, {found.n_deferred:,} left to people")
        + f"\nof {found.n_labelled:,} decided and labelled: {found.n_wrong:,} wrong"
        + f"\nof {found.n_compared:,} that the version in use decided too: {found.n_same:,} the same; "
        f"labelled: {found.wins:,} won, {found.losses:,} lost\n"
    )
    if found.n_gone:
        sys.stderr.write(f"{found.n_gone:,} pictures were not kept, are forgotten or cannot be read.\n")


def premortem(
    name: _Name,
    by: Annotated[str | None, typer.Option(help="Who answers.")] = None,
    answers: Annotated[Path | None, typer.Option(help='A TOML file: goes_wrong = "..." and so on.')] = None,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the questions and answers; with --by, answer those that are open, at a terminal or from a file."""
    from drivetrain.flows.premortem import QUESTIONS, answer_premortem, find_unanswered, read_premortem
    from drivetrain.flows.rollout import get_deployment

    if answers is not None and by is None:
        raise InvalidConfig("by", got="none", want="who answers", hint="Add --by NAME.")
    with opened_store(db) as store:
        deployment = get_deployment(store, name)
        if by is not None:
            is_asked = answers is None and sys.stdin.isatty() and not as_json
            if answers is None and not is_asked:
                raise InvalidConfig("answers", got="nobody to ask", want="--answers FILE.toml")
            given = _ask(find_unanswered(store, deployment)) if answers is None else read_premortem(answers)
            answer_premortem(store, deployment, given, by=by)
        kept = store.deployments.premortem(deployment.id)
    if as_json:
        print_json(
            {"name": name, "questions": [{"name": q, "asks": QUESTIONS[q], **kept.get(q, {})} for q in QUESTIONS]}
        )
        return
    for question, asks in QUESTIONS.items():
        answer = f"{kept[question]['answer']} ({kept[question]['by']})" if question in kept else "not answered yet"
        sys.stdout.write(escape_text(f"{question}: {asks}") + "\n    " + escape_text(answer) + "\n")


def alert(
    action: Annotated[Literal["close"], typer.Argument(help="close: say why it need not hold it up.")],
    alert_id: Annotated[str, typer.Argument(metavar="ID", help="Of `rollout status`.")],
    by: _By,
    reason: _Reason,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Close an alert; while one is open, no step is taken."""
    from drivetrain.flows.rollout import close_alert

    with opened_store(db) as store:
        close_alert(store, alert_id, by=by, reason=reason)
    if as_json:
        print_json({"alert": alert_id, "action": action, "by": by})
    else:
        sys.stdout.write(f"Closed {alert_id}.\n")


COMMANDS = {
    "start": start,
    "status": status,
    "advance": advance,
    "hold": hold,
    "resume": resume,
    "rollback": rollback,
    "report": report,
    "log": log,
    "verify": verify,
    "replay": replay,
    "premortem": premortem,
    "alert": alert,
}


def _ask(names: list[str]) -> dict[str, str]:
    from drivetrain.flows.premortem import QUESTIONS

    given = {}
    for name in names:
        answer = typer.prompt(QUESTIONS[name], default="", show_default=False, err=True)
        if answer.strip():
            given[name] = answer
    return given


def _show_move(name: str, moved: Moved, *, as_json: bool) -> None:
    if not as_json:
        sys.stdout.write(escape_text(f"{name}: {moved.before.in_words} -> {moved.after.in_words}") + "\n")
        return
    found: dict[str, Any] = {"name": name, "before": moved.before.in_words, "after": moved.after.in_words}
    if moved.judged is not None:
        found["evidence"] = moved.judged.evidence
    print_json(found)
