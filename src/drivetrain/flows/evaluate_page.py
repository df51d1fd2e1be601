"""The page of an evaluation: the report of the model on these pictures, and what else was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from drivetrain.data.items import Items, read_items
from drivetrain.errors import InvalidConfig, UnreadablePicture
from drivetrain.files import tell_hindrance
from drivetrain.flows.evaluate import EvaluateResult
from drivetrain.flows.evaluate_against import AgainstResult
from drivetrain.flows.evaluate_answers import AnyEvaluation, interpret_answers
from drivetrain.flows.evaluate_corrupted import CONDITIONS, CorruptionResult, open_small
from drivetrain.flows.evaluate_foreign import ForeignResult
from drivetrain.flows.evaluate_groups import tell_groups
from drivetrain.flows.illustrate import load_thumbnails, make_thumbnails
from drivetrain.imaging.corrupt import CORRUPTIONS, corrupt
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.thumbnail import make_thumbnail
from drivetrain.inspect.evaluation_sections import (
    ForeignCard,
    Section,
    render_comparison,
    render_corruptions,
    render_foreign,
    render_groups,
)
from drivetrain.inspect.report import Report, write_report
from drivetrain.inspect.report_values import number
from drivetrain.inspect.report_view import percent
from drivetrain.progress import Progress
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, ValuePrediction
from drivetrain.runtime.predictor import Predictor
from drivetrain.trust.evaluation import Evaluation
from drivetrain.trust.label_evaluation import MultiLabelEvaluation
from drivetrain.trust.value_evaluation import ValueEvaluation

__all__ = ["check_page", "write_page"]

_EXAMPLE_SIDE = 256  # pixels, before it is made worse
_STRIP_SIDE = 84  # pixels of a picture in a strip
_SUFFIXES = (".html", ".htm")  # of no model, picture or labels.csv: no slip of the hand writes over one


def check_page(path: Path, *, models: Sequence[Path]) -> None:
    """Raise InvalidConfig where no page may or can be written; `models` are the files it must not replace.

    To be asked before anything is predicted: better told then than after.
    """
    _check_name(path)
    if any(model.exists() and path.exists() and path.samefile(model) for model in models):
        raise InvalidConfig("--html", got=f"{path}, a model that is evaluated", want="another file")
    if (hindrance := tell_hindrance(path)) is not None:
        raise InvalidConfig("--html", got=f"{path} ({hindrance})", want="a file in a folder that can be written")


def _check_name(path: Path) -> None:
    if path.is_dir():
        raise InvalidConfig(
            "--html", got=f"{path}, a folder", want="a file", hint=f"Such as {path / 'evaluation.html'}."
        )
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidConfig(
            "--html",
            got=str(path),
            want="a file whose name ends in .html or .htm",
            hint=f"Such as {path.stem or 'page'}.html. Nothing else is written over.",
        )


def write_page(path: Path, result: EvaluateResult, predictor: Predictor, data: Path, *, progress: Progress) -> None:
    """Write the page to `path`, whole or not at all; pictures are read again. Raises for a name as `check_page`."""
    _check_name(path)
    progress.say("Writing the page.")
    items = read_items(data)
    read, answers = [item for item, _ in result.predictions], [answer for _, answer in result.predictions]
    shown = interpret_answers(
        answers,
        items.targets(read, classes=predictor.classes),
        paths=[item.path for item in read],
        classes=predictor.classes,
    )
    told = tell_groups(result.groups) if result.groups else []  # which stand beside the groups
    statement = predictor.manifest.decision.get("statement")
    write_report(
        path,
        Report(
            name=predictor.name,
            created_at=datetime.now(UTC),
            evaluation=result.evaluation,
            interpretation=shown,
            policy_statement=statement if isinstance(statement, str) else "",
            verdicts=_list_verdicts(result),
            pictures=f"pictures{result.suffix}",
            root=str(data.absolute()),
            thumbnails=load_thumbnails(shown, root=data, limits=predictor.limits, threads=predictor.threads),
            facts={"Version": result.version, "Pictures": f"{len(read):,} of {data.absolute()}"},
            unreadable=result.unreadable,
            notes=[note for note in result.notes if note not in told],
            sections=_render_sections(result, predictor, items),
        ),
    )


def _list_verdicts(result: EvaluateResult) -> list[tuple[str, bool]]:
    """What became of each promise, and whether it is broken."""
    whole = [(result.promise.sentence, result.promise.verdict == "broken")] if result.promise else []
    return whole + [(of.sentence, of.is_broken) for of in result.part_promises]


def _render_sections(result: EvaluateResult, predictor: Predictor, items: Items) -> list[Section]:
    sections = []
    if result.groups is not None:
        by = "how pictures look" if result.groups.by == "style" else result.groups.by
        sections.append(
            render_groups(result.groups, title=f"Who is served worse, by {by}", notes=tell_groups(result.groups))
        )
    if result.corruptions is not None:
        sections.append(_render_corruptions(result.corruptions, result, predictor, items))
    if result.foreign is not None:
        sections.append(_render_foreign(result.foreign, [answer for _, answer in result.predictions], predictor))
    if result.against is not None:
        sections.append(_render_against(result.against, result, predictor))
    return sections


def _render_corruptions(told: CorruptionResult, result: EvaluateResult, predictor: Predictor, items: Items) -> Section:
    """With the picture of the sample that it was surest of, made worse."""
    sample = set(told.sample)
    sure = [
        (max(answer.probabilities.values(), default=0.0), item)
        for item, answer in result.predictions
        if item.path in sample and not isinstance(answer, ValuePrediction)
    ]
    item = max(sure, key=lambda pair: pair[0])[1]
    examples: dict[tuple[str, int], bytes] = {}
    try:
        data = read_picture_file(items.file(item), name=item.path, limits=predictor.limits)
        image = open_small(data, name=item.path, limits=predictor.limits, side=_EXAMPLE_SIDE)
    except UnreadablePicture:
        pass
    else:
        digest = hashlib.sha256(data).digest()
        for kind in CORRUPTIONS:
            for strength in {strength for _, strength in CONDITIONS}:
                worse = corrupt(image, kind, strength, digest=digest, seed=told.seed)
                examples[kind, strength] = make_thumbnail(worse.resize(image.size), side=_STRIP_SIDE)
    return render_corruptions(
        {kind: told.of_kind(kind) for kind in CORRUPTIONS},
        words=CORRUPTIONS,
        examples=examples,
        n_all=len(result.predictions),
    )


def _render_foreign(told: ForeignResult, known: Sequence[Answer], predictor: Predictor) -> Section:
    paths = [path for path, _ in told.mistaken]
    images = make_thumbnails(paths, root=Path(told.folder), limits=predictor.limits, threads=predictor.threads)
    return render_foreign(
        told.detection,
        {name: getattr(told, name) for name in ("unknown", "shifted", "deferred", "known_unknown")},
        [
            ForeignCard(
                path=path,
                said=_tell_answer(answer),
                p_value=answer.ood_p_value,
                is_decided=answer.decision == "accept",
                image=images.get(path),
            )
            for path, answer in told.mistaken
        ],
        folder=str(Path(told.folder).absolute()),
        told_mistaken=told.tell_mistaken(),
        known=np.array([answer.ood_score for answer in known]),
        foreign=np.array(told.scores),
    )


def _tell_answer(answer: Answer) -> str:
    if isinstance(answer, MultiLabelPrediction):
        return ", ".join(answer.labels)
    if isinstance(answer, ValuePrediction):
        return ", ".join(number(value) for value in answer.values.values())
    return f"{answer.label} {percent(answer.probability, 0)}"


def _render_against(told: AgainstResult, result: EvaluateResult, predictor: Predictor) -> Section:
    n, right = told.comparison.n, None
    if isinstance(result.evaluation, Evaluation):
        won, lost = len(told.won), len(told.lost)
        both = round(told.comparison.value * n) - won
        right = {"won": won, "lost": lost, "both": both, "neither": n - both - won - lost}
    ours, theirs = _list_numbers(result.evaluation), _list_numbers(told.evaluation)
    return render_comparison(
        told.comparison,
        told.belief,
        name=predictor.version if predictor.version.startswith(f"{told.name}@") else predictor.name,
        rows=[(what, value, theirs[what]) for what, value in ours.items()],
        counts=right,
    )


def _list_numbers(evaluation: AnyEvaluation) -> dict[str, str]:
    """What two models are set side by side by."""
    alone = {"decided alone": percent(evaluation.deferral.coverage)}
    flags = {"called unknown": percent(evaluation.ood.rate), "called shifted": percent(evaluation.shifted.rate)}
    if isinstance(evaluation, ValueEvaluation):
        return {f"off by, {row.name}": number(row.mae) for row in evaluation.per_value} | alone | flags
    wrong = {"wrong among those": percent(evaluation.deferral.error)}
    if isinstance(evaluation, MultiLabelEvaluation):
        return {"every label right": percent(evaluation.exact)} | alone | wrong | flags
    scores = {"log-loss": f"{evaluation.log_loss:.3f}", "calibration error": percent(evaluation.ece)}
    return {"accuracy": percent(evaluation.accuracy)} | alone | wrong | scores | flags
