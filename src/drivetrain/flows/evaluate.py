"""Evaluate: a bundle against labelled pictures, through the very path that serves."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from drivetrain.arrays import IntArray
from drivetrain.data.items import Item, Items, read_items
from drivetrain.data.split import number_groups
from drivetrain.data.targets import LABEL_COLUMNS, split_labels, split_values
from drivetrain.errors import InvalidConfig, InvalidInput, UnreadablePicture
from drivetrain.flows.evaluate_against import AgainstResult, check_pair, evaluate_against
from drivetrain.flows.evaluate_answers import (
    AnyEvaluation,
    evaluate_answers,
    interpret_answers,
    stack_answers,
    stack_probabilities,
)
from drivetrain.flows.evaluate_corrupted import CorruptionResult, choose_sample, evaluate_corrupted
from drivetrain.flows.evaluate_foreign import ForeignResult, evaluate_foreign, find_foreign
from drivetrain.flows.evaluate_groups import check_by, find_groups, group_answers, tell_groups
from drivetrain.flows.evaluate_learned import Learned, find_learned
from drivetrain.flows.evaluate_promises import check_promises
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.progress import Progress
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, ValuePrediction
from drivetrain.runtime.predictor import Predictor
from drivetrain.settings import Settings, load_settings
from drivetrain.task import Task
from drivetrain.trust.belief import Prior
from drivetrain.trust.estimate import LEAST_DRAWN
from drivetrain.trust.groups import GroupComparison
from drivetrain.trust.promise_check import PartPromises, PromiseCheck

__all__ = [
    "DEFAULT_SAMPLE",
    "AnyEvaluation",
    "EvaluateConfig",
    "EvaluateResult",
    "evaluate",
    "evaluate_answers",
    "interpret_answers",
    "stack_answers",
    "stack_probabilities",
]

DEFAULT_SAMPLE = 300  # pictures: a share of 5 % is then known to 3 points either way


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What is asked beside the plain numbers."""

    by: str | None = None  # "style", or a column of labels.csv
    ood: Path | None = None  # a folder of pictures of something else
    corrupt: bool = False
    sample: int = DEFAULT_SAMPLE  # pictures that are made worse, at most
    seed: int = 0  # chooses them, and what is drawn on them
    prior: Prior | None = None  # of the share of disagreements won against the other model

    def __post_init__(self) -> None:
        if self.sample < 1:
            raise InvalidConfig("--sample", got=self.sample, want="an integer of at least 1")
        if self.seed < 0:
            raise InvalidConfig("--seed", got=self.seed, want="an integer of at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateResult:
    """Numbers, and every prediction behind them."""

    version: str
    evaluation: AnyEvaluation
    predictions: tuple[tuple[Item, Answer], ...]
    unreadable: tuple[tuple[str, str], ...]  # (path, reason)
    notes: tuple[str, ...]
    n_groups: int | None = None  # of pictures that are alike, by which all intervals count; None: each by itself
    learned: Learned | None = None  # what the model had of these pictures before
    promise: PromiseCheck | None = None  # where the bundle makes one promise of all its decisions
    part_promises: tuple[PartPromises, ...] = ()  # where it makes them class by class, label by label and so on
    groups: GroupComparison | None = None  # these four where they were asked for
    foreign: ForeignResult | None = None
    corruptions: CorruptionResult | None = None
    against: AgainstResult | None = None

    @property
    def suffix(self) -> str:
        """To stand behind the number of pictures: how many of them trained the model, where any did."""
        return "" if self.learned is None else self.learned.suffix

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        further = {
            "promise": self.promise,
            "groups": self.groups,
            "foreign": self.foreign,
            "corruptions": self.corruptions,
            "against": self.against,
        }
        return {
            "version": self.version,
            **self.evaluation.as_json(),
            "n_groups": self.n_groups,
            "n_trained_on": None if self.learned is None else self.learned.n_trained_on,
            "n_calibrated_on": None if self.learned is None else self.learned.n_calibrated_on,
            **{name: part.as_json() for name, part in further.items() if part},
            "part_promises": [of.as_json() for of in self.part_promises],
            "unreadable": [{"path": path, "reason": reason} for path, reason in self.unreadable],
            "notes": list(self.notes),
            "predictions": [
                {"path": item.path, "truth": _tell_truth(item, prediction), **prediction.as_json()}
                for item, prediction in self.predictions
            ],
        }


def evaluate(
    predictor: Predictor,
    data: Path,
    *,
    progress: Progress,
    config: EvaluateConfig | None = None,
    against: Predictor | None = None,
    settings: Settings | None = None,
) -> EvaluateResult:
    """Predict every readable picture of DATA and compare with its label; then whatever else `config` asks.

    Where the data marks a part as test, only that is read: the rest trained the model. Pictures of one name in the
    column `group`, and copies of one file, are alike: intervals count them so. `against` is a second model for
    the same pictures. Raises InvalidInput where the data is of another task than the model; and, naming it, for a label
    that a model does not know: it is no error of the model, nor can it be left out in silence. Raises InvalidConfig for
    what cannot be asked of this model or this data, before anything is predicted.
    """
    asked = config or EvaluateConfig()
    items, notes = _read(data, predictor)
    by = check_by(asked.by, items) if asked.by is not None else None
    _check_asked(asked, predictor, against, items)
    foreign_files = find_foreign(asked.ood, data) if asked.ood else []
    predictions, digests, unreadable = _predict(predictor, items, progress)
    read, answers = [item for item, _ in predictions], [answer for _, answer in predictions]
    missing = sorted(set(predictor.classes) - {name for item in read for name in items.labels_of(item)})
    if missing and predictor.task != "regression":
        notes.append(f"No readable picture of {', '.join(missing)}: nothing is known about these.")
    groups = _find_groups(read, digests)
    if groups is not None:
        notes.append(_tell_groups_of(groups))
    learned = find_learned(predictor, read, digests)
    theirs = None if against is None else find_learned(against, read, digests)
    notes[:0] = _tell_learned(learned, theirs, against)
    parts = _answer_further(
        asked,
        _Given(predictor, against, theirs, items, predictions, groups),
        by=by,
        foreign_files=foreign_files,
        settings=settings,
        progress=progress,
    )
    if parts["groups"] is not None:
        notes += tell_groups(parts["groups"])
    evaluation = evaluate_answers(
        answers, items.targets(read, classes=predictor.classes), predictor.classes, groups=groups
    )
    promise, part_promises = check_promises(
        predictor.manifest.decision, predictor.classes, answers, read, groups=groups, learned=learned
    )
    return EvaluateResult(
        version=predictor.version,
        evaluation=evaluation,
        predictions=tuple(predictions),
        unreadable=tuple(sorted(unreadable)),
        notes=tuple(notes),
        n_groups=None if groups is None else len(np.unique(groups)),
        learned=learned,
        promise=promise,
        part_promises=part_promises,
        **parts,
    )


def _tell_learned(learned: Learned, theirs: Learned | None, against: Predictor | None) -> list[str]:
    notes = learned.tell()
    if theirs is None or against is None:
        return notes
    notes += theirs.tell(against.version)
    counts = learned.n_trained_on, theirs.n_trained_on
    if None not in counts and len({*counts}) == 2:
        notes.append("More of the pictures trained the one model than the other, and that one they favour.")
    return notes


class _Given(NamedTuple):
    """What the further questions start from."""

    predictor: Predictor
    against: Predictor | None
    theirs: Learned | None  # what the other had of the pictures
    items: Items
    predictions: list[tuple[Item, Answer]]
    groups: IntArray | None  # (n,): pictures of one number are alike


def _answer_further(
    asked: EvaluateConfig,
    given: _Given,
    *,
    by: str | None,
    foreign_files: list[Path],
    settings: Settings | None,
    progress: Progress,
) -> dict[str, Any]:
    """The parts of a result that were asked for, by their field; None for the others."""
    predictor, against, theirs, items, predictions, groups = given
    read, answers = [item for item, _ in predictions], [answer for _, answer in predictions]
    parts: dict[str, Any] = dict.fromkeys(("groups", "foreign", "corruptions", "against"))
    if by is not None:
        found = find_groups(
            by,
            items,
            read,
            settings=settings or load_settings(),
            limits=predictor.limits,
            threads=predictor.threads,
            progress=progress,
        )
        parts["groups"] = group_answers(by, found, answers, read, groups)
    if asked.ood:
        parts["foreign"] = evaluate_foreign(
            predictor, asked.ood, foreign_files, answers, known_groups=groups, progress=progress
        )
    if against is not None:
        parts["against"] = evaluate_against(
            predictor,
            against,
            items,
            predictions,
            groups=groups,
            learned=theirs,
            prior=asked.prior,
            progress=progress,
        )
    if asked.corrupt:
        sample = choose_sample(items, read, size=asked.sample, seed=asked.seed)
        group_of = None if groups is None else {item.path: int(of) for item, of in zip(read, groups, strict=True)}
        parts["corruptions"] = evaluate_corrupted(
            predictor, items, sample, group_of=group_of, seed=asked.seed, progress=progress
        )
    return parts


def _read(data: Path, predictor: Predictor) -> tuple[Items, list[str]]:
    """The pictures to evaluate on, and what a person should know of the others."""
    items = read_items(data)
    _check_task(items, predictor)
    notes = items.note_left_out()
    if any(item.split == "test" for item in items):
        kept = items.keep([item for item in items if item.split == "test"])
        notes.append(f"Only the pictures marked test were read: {len(kept):,} of {len(items):,}.")
        items = kept
    _check_labels(items, predictor)
    return items, notes


def _predict(
    predictor: Predictor, items: Items, progress: Progress
) -> tuple[list[tuple[Item, Answer]], list[bytes], list[tuple[str, str]]]:
    """Answers of what can be read, and the sha256 of each file; path and reason of what cannot."""

    def work(item: Item) -> tuple[Answer, bytes] | UnreadablePicture:
        name = str(items.file(item))
        try:
            data = read_picture_file(items.file(item), name=name, limits=predictor.limits)
            return predictor.predict(data, name=name), hashlib.sha256(data).digest()
        except UnreadablePicture as exc:
            return exc

    predictions: list[tuple[Item, Answer]] = []
    digests: list[bytes] = []
    unreadable = [*items.unusable]
    with progress.task("Predicting", total=len(items)) as advance:
        found = map_in_order(work, items, threads=callers_for(predictor.threads))
        for item, one in zip(items, found, strict=True):
            if isinstance(one, UnreadablePicture):
                unreadable.append((item.path, one.reason))
            else:
                predictions.append((item, one[0]))
                digests.append(one[1])
            advance(1)
    if not predictions:
        got = f"{len(unreadable)} pictures, none of which can be read"
        raise InvalidInput("DATA", got=got, want="one readable picture at least")
    return predictions, digests, unreadable


def _find_groups(read: Sequence[Item], digests: Sequence[bytes]) -> IntArray | None:
    """(n,): pictures of one name in the column `group` and copies of one file share a number; None where none does."""
    paths_of: dict[bytes, list[str]] = defaultdict(list)
    for item, digest in zip(read, digests, strict=True):
        paths_of[digest].append(item.path)
    numbers = number_groups(read, [paths for paths in paths_of.values() if len(paths) > 1])
    return None if len({*numbers}) == len(numbers) else np.array(numbers, dtype=np.int64)


def _tell_groups_of(groups: IntArray) -> str:
    n, g = len(groups), len(np.unique(groups))
    few = f" Of fewer than {LEAST_DRAWN} groups some intervals cannot be had at all." if g < LEAST_DRAWN <= n else ""
    return (
        f"The {n:,} pictures come in {g:,} {'group' if g == 1 else 'groups'}, by the column `group` or as copies of "
        f"one file. Those of a group are alike and say less than as many others: every interval here heeds it.{few}"
    )


def _check_labels(items: Items, predictor: Predictor) -> None:
    unknown = sorted(set(items.classes) - set(predictor.classes))
    if unknown and predictor.task != "regression":
        raise InvalidInput(
            "DATA",
            got=f"labels the model does not know: {', '.join(map(repr, unknown))}",
            want="labels among " + ", ".join(map(repr, predictor.classes)),
            hint="Evaluate without them, or train with them.",
        )


def _check_asked(asked: EvaluateConfig, predictor: Predictor, against: Predictor | None, items: Items) -> None:
    if asked.corrupt and predictor.task == "regression":
        got, want = (
            f"{predictor.name}, which measures",
            "a model of classes or of labels, whose answers are right or not",
        )
        raise InvalidConfig("--corrupt", got=got, want=want)
    if against is None and asked.prior is not None:
        raise InvalidConfig("--prior", got="no other model", want="one to compare with: --against OTHER.dt")
    if against is not None:
        check_pair(predictor, against, prior=asked.prior)
        _check_task(items, against)
        _check_labels(items, against)


def _tell_truth(item: Item, answer: Answer) -> Any:
    """The truth as JSON, in the shape of the answer."""
    if isinstance(answer, MultiLabelPrediction):
        return list(split_labels(item.label, task="multilabel"))
    if isinstance(answer, ValuePrediction):
        values = split_values(item.label)
        return values[0] if len(values) == 1 else list(values)
    return item.label


def _check_task(items: Items, predictor: Predictor) -> None:
    """Raise where the data says another kind of thing than the model answers."""
    column = {task: column for column, task in LABEL_COLUMNS.items()}
    if items.task != predictor.task:
        raise InvalidInput(
            "DATA",
            got=f"data for {_WORDS[items.task]}",
            want=f"data for {_WORDS[predictor.task]}, as {predictor.name} was made for",
            hint=f"That is a column `{column[predictor.task]}` in labels.csv."
            + (" Or a folder per class." if predictor.task == "classification" else ""),
        )
    if items.task == "regression" and len(items.classes) != len(predictor.classes):
        got, want = (f"{len(of)} for each picture" for of in (items.classes, predictor.classes))
        raise InvalidInput("DATA, values", got=got, want=want)


_WORDS: dict[Task, str] = {
    "classification": "telling classes apart",
    "multilabel": "finding labels",
    "regression": "measuring values",
}
