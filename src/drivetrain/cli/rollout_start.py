"""`drivetrain rollout start`: two bundles, what must be shown, and what it is for."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetrain.cli.rollout_prior import ask_prior
from drivetrain.cli.shared import JsonFlag, escape_text, print_json
from drivetrain.cli.store import DbOption, opened_store
from drivetrain.errors import InvalidConfig

if TYPE_CHECKING:
    from drivetrain.flows.rollout_start import Started

__all__ = ["start"]


def start(
    name: Annotated[str, typer.Argument(help="What this roll-out is called from now on.")],
    by: Annotated[str, typer.Option(help="Who starts it.")],
    reason: Annotated[str, typer.Option(help="Why.")],
    candidate: Annotated[Path, typer.Option(help="The model to roll out: NAME.dt.")],
    incumbent: Annotated[Path | None, typer.Option(help="The model in use; without it, people are.")] = None,
    bound: Annotated[float | None, typer.Option(help="Show: less than this share is wrong.")] = None,
    margin: Annotated[float | None, typer.Option(help="Show: not worse than the incumbent by it; 0: better.")] = None,
    alpha: Annotated[float, typer.Option(help="The chance of a false promotion, at most.")] = 0.05,
    harm_alpha: Annotated[float, typer.Option(help="The chance of a false rollback, at most.")] = 0.05,
    n_min: Annotated[int, typer.Option(help="Requests, at least, at each step.")] = 100,
    class_min: Annotated[int, typer.Option(help="Decisions of each class, at least.")] = 5,
    hours_min: Annotated[float, typer.Option(help="Hours at each step, at least.")] = 24.0,
    day_hours_min: Annotated[int, typer.Option(help="Different hours of the day, at each step.")] = 12,
    defer_max: Annotated[float | None, typer.Option(help="Share left to people, at most.")] = None,
    fail_max: Annotated[float, typer.Option(help="Share without an answer above which it is harm.")] = 0.01,
    audit_share: Annotated[float, typer.Option(help="Share of decisions that people label by chance.")] = 0.1,
    second_share: Annotated[float, typer.Option(help="Share of labels that two people give.")] = 0.1,
    due_hours: Annotated[float, typer.Option(help="Hours after which a label is overdue.")] = 24.0,
    scope: Annotated[str | None, typer.Option(help="Where it decides first: site=north,hours=06-18.")] = None,
    objective: Annotated[str | None, typer.Option(help="What is to be reached.")] = None,
    cost_error: Annotated[float | None, typer.Option(help="The cost of a wrong decision.")] = None,
    cost_review: Annotated[float | None, typer.Option(help="The cost of a label, in the same unit.")] = None,
    review_budget: Annotated[float | None, typer.Option(help="Labels a day that people can give.")] = None,
    traffic: Annotated[float | None, typer.Option(help="Requests a day, to foretell how long.")] = None,
    datasheet: Annotated[Path | None, typer.Option(help="A datasheet.md filled in since it was trained.")] = None,
    premortem: Annotated[Path | None, typer.Option(help="Answers to the pre-mortem, in TOML.")] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow/--no-shadow", help="Both see every request; else each is asked of one only.")
    ] = True,
    prior: Annotated[
        str | None,
        typer.Option(help="'expected 3 %, as sure as 100 pictures', past or none: shown beside the gates."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell the plan, begin nothing.")] = False,
    db: DbOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Begin: the candidate sees every request and decides nothing yet."""
    from drivetrain.flows.premortem import read_premortem
    from drivetrain.flows.rollout import enter_markers
    from drivetrain.flows.rollout_config import RolloutConfig
    from drivetrain.flows.rollout_prior import add_prior
    from drivetrain.flows.rollout_start import prepare_config, start_rollout
    from drivetrain.rollout.gates import GateConfig

    gate = GateConfig(
        bound=bound,
        margin=margin,
        alpha=alpha,
        harm_alpha=harm_alpha,
        n_min=n_min,
        class_min=class_min,
        hours_min=hours_min,
        day_hours_min=day_hours_min,
        defer_max=defer_max,
        fail_max=fail_max,
        has_incumbent=incumbent is not None,
    )
    answers = {} if premortem is None else read_premortem(premortem)
    is_asked = None in (objective, cost_error, cost_review)
    asked = _ask(objective, cost_error, cost_review, scope=scope, budget=review_budget, as_json=as_json)
    objective, cost_error, cost_review, scope, review_budget = asked
    believed = ask_prior(prior, is_asked=is_asked)
    config = RolloutConfig(
        gate=gate,
        objective=objective,
        cost_error=cost_error,
        cost_review=cost_review,
        review_budget=review_budget,
        traffic=traffic,
        scope=scope,
        audit_share=audit_share,
        second_share=second_share,
        due_hours=due_hours,
        has_shadow=shadow,
    )
    config = prepare_config(config, candidate, datasheet=datasheet)
    with opened_store(db) as store:
        if not dry_run:
            from drivetrain.cli.rollout_markers import marker_folder

            enter_markers(store, marker_folder(db))
        config = add_prior(config, believed, store=store, candidate=candidate)
        started = start_rollout(
            store,
            name,
            candidate=candidate,
            incumbent=incumbent,
            config=config,
            by=by,
            reason=reason,
            premortem=answers,
            is_dry=dry_run,
        )
    _show(name, started, n_answers=len(answers), as_json=as_json)


def _ask(
    objective: str | None,
    cost_error: float | None,
    cost_review: float | None,
    *,
    scope: str | None,
    budget: float | None,
    as_json: bool,
) -> tuple[str, float, float, str, float | None]:
    """What was not given is asked for at a terminal; elsewhere what must be known is missing."""
    if objective is not None and cost_error is not None and cost_review is not None:
        return objective, cost_error, cost_review, scope or "", budget
    if as_json or not sys.stdin.isatty():
        given = {"--objective": objective, "--cost-error": cost_error, "--cost-review": cost_review}
        missing = ", ".join(option for option, value in given.items() if value is None)
        raise InvalidConfig("rollout", got=f"no {missing}", want="what it is for, and what errors and labels cost")
    if objective is None:
        objective = typer.prompt("Objective: what is to be reached?", err=True)
    if cost_error is None:
        cost_error = typer.prompt("What does a wrong decision cost, in any unit?", type=float, err=True)
    if cost_review is None:
        cost_review = typer.prompt("What does a person's label cost, in the same unit?", type=float, err=True)
    if scope is None:
        scope = typer.prompt("Where may it decide first? Such as site=north; empty: everywhere", default="", err=True)
    if budget is None:
        budget = typer.prompt("How many labels a day can people give? 0: not known", default=0.0, err=True) or None
    return objective, cost_error, cost_review, scope, budget


def _show(name: str, started: Started, *, n_answers: int, as_json: bool) -> None:
    from drivetrain.flows.premortem import QUESTIONS

    open_questions = started.config.open_questions
    if as_json:
        print_json(
            {
                "name": name,
                "id": None if started.deployment is None else started.deployment.id,
                "candidate": started.candidate.version,
                "incumbent": None if started.incumbent is None else started.incumbent.version,
                "config": started.config.as_json(),
                "plan": started.plan.as_json(),
                "starts_before": started.runs_before,
            }
        )
        return
    than = "people" if started.incumbent is None else started.incumbent.version
    verb = "Would start" if started.deployment is None else "Started"
    sys.stdout.write(escape_text(f"{verb} {name}: {started.candidate.version}, beside {than}. Stage: manual.") + "\n")
    sys.stdout.write(f"{started.plan.sentence}\n")
    if started.runs_before:
        sys.stdout.write(f"It takes over the evidence of {started.runs_before} earlier starts.\n")
    if open_questions:
        sys.stderr.write(
            f"{len(open_questions)} questions of the datasheet have no answer: no step is taken before. "
            "Answer them in datasheet.md, and start it again with --datasheet datasheet.md.\n"
        )
    if n_answers < len(QUESTIONS):
        missing = len(QUESTIONS) - n_answers
        sys.stderr.write(f"{missing} questions of the pre-mortem wait: drivetrain rollout premortem {name}\n")
