"""`drivetrain evaluate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drivetrain.cli.shared import JsonFlag, ThreadsOption, limits_of, open_progress, open_settings, print_json
from drivetrain.errors import BundleRefused, InvalidConfig, NotFound

if TYPE_CHECKING:
    from drivetrain.flows.evaluate import EvaluateConfig
    from drivetrain.imaging.decode import DecodeLimits
    from drivetrain.runtime.predictor import Predictor
    from drivetrain.trust.belief import Prior

__all__ = ["run"]


def run(
    model: Annotated[Path, typer.Argument(help="A model, NAME.dt.")],
    data: Annotated[Path, typer.Argument(help="Labelled pictures it has never seen, as for `train`.")],
    by: Annotated[str | None, typer.Option(help="Groups: a column of labels.csv, or `style` for their looks.")] = None,
    ood: Annotated[Path | None, typer.Option(help="A folder of pictures of something else.")] = None,
    corrupt: Annotated[bool, typer.Option("--corrupt", help="Make pictures worse: night, blur, noise, ...")] = False,
    sample: Annotated[int | None, typer.Option(help="Pictures to make worse, at most; default: 300.")] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses them and what is drawn on them; default: 0.")] = None,
    against: Annotated[Path | None, typer.Option(help="Another model, to compare with on the same pictures.")] = None,
    prior: Annotated[
        str | None, typer.Option(help="Belief before the comparison: 8,4 or 50-80 or `ask`; see the docs.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", help="A page to write, NAME.html, with pictures and plots.")
    ] = None,
    threads: ThreadsOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say how good a model is on labelled pictures.

    Accuracy with its interval, for each class too; how often it decides alone, and is wrong there; how well its
    probabilities are calibrated. Where DATA marks pictures as test, only those are read.
    """
    from drivetrain.flows.evaluate import evaluate
    from drivetrain.runtime.predictor import load

    if not corrupt and (sample is not None or seed is not None):
        name = "--seed" if sample is None else "--sample"
        raise InvalidConfig(name, got="no --corrupt", want="--corrupt beside it: it chooses the pictures made worse")
    settings = open_settings(threads=threads)
    config = _configure(by, ood, corrupt, sample, seed, prior, is_alone=against is None, as_json=as_json)
    if html is not None:
        from drivetrain.flows.evaluate_page import check_page

        check_page(html, models=[model] if against is None else [model, against])
    limits, progress = limits_of(settings), open_progress(as_json=as_json)
    predictor = load(model, limits=limits, threads=settings.worker_threads)
    other = None if against is None else _load_against(against, limits, settings.worker_threads)
    result = evaluate(predictor, data, progress=progress, config=config, against=other, settings=settings)
    if html is not None:
        from drivetrain.flows.evaluate_page import write_page

        write_page(html, result, predictor, data, progress=progress)
    if as_json:
        print_json(result.as_json() | ({} if html is None else {"page": str(html)}))
        return
    from drivetrain.cli.evaluate_table import show_evaluation

    show_evaluation(result, page=html)


def _load_against(path: Path, limits: DecodeLimits, threads: int) -> Predictor:
    """The other model; what is wrong with it names the option that it was given by."""
    from drivetrain.runtime.predictor import load

    try:
        return load(path, limits=limits, threads=threads)
    except NotFound as exc:
        raise NotFound("--against", got=exc.got, want=exc.want, hint=exc.hint) from None
    except BundleRefused as exc:
        raise BundleRefused(exc.code, f"--against, {exc.field}", got=exc.got, want=exc.want, hint=exc.hint) from None


def _configure(
    by: str | None,
    ood: Path | None,
    corrupt: bool,
    sample: int | None,
    seed: int | None,
    prior: str | None,
    *,
    is_alone: bool,
    as_json: bool,
) -> EvaluateConfig:
    from drivetrain.flows.evaluate import DEFAULT_SAMPLE, EvaluateConfig
    from drivetrain.flows.evaluate_against import read_prior

    if prior is not None and is_alone:
        raise InvalidConfig("--prior", got="no other model", want="one to compare with: --against OTHER.dt")
    believed = None
    if prior is not None:
        believed = _ask_prior(as_json=as_json) if prior == "ask" else read_prior(prior)
    return EvaluateConfig(
        by=by,
        ood=ood,
        corrupt=corrupt,
        sample=DEFAULT_SAMPLE if sample is None else sample,
        seed=seed or 0,
        prior=believed,
    )


def _ask_prior(*, as_json: bool) -> Prior:
    """Two questions, on stderr."""
    from drivetrain.trust.belief import Prior

    if as_json or not sys.stdin.isatty():
        raise InvalidConfig("--prior", got="ask, with nobody to ask", want="8,4 or 50-80, or a terminal without --json")
    typer.echo("Think of 100 pictures on which only one of the two models is right.", err=True)
    low = typer.prompt("Fewer than how many for the first would surprise you (once in 20)?", type=float, err=True)
    high = typer.prompt("More than how many would surprise you as much?", type=float, err=True)
    return Prior.between(low / 100, high / 100)
