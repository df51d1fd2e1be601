"""Two bundles on the same pictures: the paired difference, and beside it, never mixed in, what a prior makes of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.data.items import Item, Items
from drivetrain.errors import InvalidConfig, InvalidInput, UnreadablePicture
from drivetrain.flows.evaluate_answers import AnyEvaluation, evaluate_answers, score_answers
from drivetrain.flows.evaluate_learned import Learned
from drivetrain.progress import Progress
from drivetrain.runtime.prediction import Answer
from drivetrain.runtime.predictor import Predictor
from drivetrain.trust.belief import Belief, Prior
from drivetrain.trust.compare import SCORE_NAMES, Comparison, compare_right, compare_scores

__all__ = ["AgainstResult", "check_pair", "evaluate_against", "read_prior"]

_BETA = re.compile(r"([\d.]+)\s*,\s*([\d.]+)")
_BETWEEN = re.compile(r"([\d.]+)\s*%?\s*-\s*([\d.]+)\s*%?")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstResult:
    """A model and a reference on the pictures that both could read."""

    name: str  # of the reference: what it is called in every sentence
    version: str
    evaluation: AnyEvaluation  # of the reference
    n_trained_on: int | None  # pictures that trained the reference; None where its bundle does not say
    n_calibrated_on: int | None  # and that calibrated it
    comparison: Comparison
    belief: Belief | None  # where a prior was given
    won: tuple[str, ...]  # paths of pictures that the model does better, the reference worse
    lost: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        return {
            "name": self.name,
            "version": self.version,
            "n_trained_on": self.n_trained_on,
            "n_calibrated_on": self.n_calibrated_on,
            **self.comparison.as_json(),
            **({"belief": self.belief.as_json()} if self.belief else {}),
            "won": list(self.won),
            "lost": list(self.lost),
            "reference_evaluation": self.evaluation.as_json(),
        }


def read_prior(text: str) -> Prior:
    """`8,4`: Beta(8, 4) on the share of disagreements won; `50-80`: the Beta of two answers in percent.

    Raises InvalidConfig.
    """
    try:
        if found := _BETA.fullmatch(text.strip()):
            return Prior(wins=float(found[1]), losses=float(found[2]))
        if found := _BETWEEN.fullmatch(text.strip()):
            return Prior.between(float(found[1]) / 100, float(found[2]) / 100)
    except ValueError as exc:
        if isinstance(exc, InvalidConfig):
            raise
    raise InvalidConfig("--prior", got=text, want="two numbers such as 8,4; or a range in percent such as 50-80")


def check_pair(predictor: Predictor, against: Predictor, *, prior: Prior | None) -> None:
    """Raise where the two answer different questions, or are one."""
    if against.task != predictor.task:
        want = f"a model of the same task as {predictor.name}: {predictor.task}"
        raise InvalidInput("--against", got=f"{against.name}, {against.task}", want=want)
    if against.manifest.digest == predictor.manifest.digest:
        raise InvalidInput("--against", got=f"{against.version}, the same model", want="another one")
    if prior is not None and predictor.task != "classification":
        got = f"a model of the task {predictor.task}"
        raise InvalidConfig(
            "--prior", got=got, want="a model that tells classes apart: right or wrong is what it counts"
        )


def evaluate_against(
    predictor: Predictor,
    against: Predictor,
    items: Items,
    predictions: Sequence[tuple[Item, Answer]],
    *,
    groups: IntArray | None = None,
    learned: Learned | None = None,
    prior: Prior | None,
    progress: Progress,
) -> AgainstResult:
    """Predict the same pictures with the reference, and compare picture by picture.

    groups (n,) say which of the predictions belong together; the comparison counts by them. `learned` is what the
    reference had of the pictures before.
    """
    if groups is not None and against.task != "classification" and groups.min() == groups.max():
        raise InvalidInput(
            "--against",
            got="pictures that are all of one group",
            want="two groups at least: what one group says differs by chance in an unknown way",
            hint="Groups are the column `group` of labels.csv, and copies of one file.",
        )
    answers: list[Answer] = []
    rows: list[int] = []
    with progress.task(f"Predicting with {against.name}", total=len(predictions)) as advance:
        found = against.predict_many([items.file(item) for item, _ in predictions])
        for row, answer in enumerate(found):
            if not isinstance(answer, UnreadablePicture):
                rows.append(row)
                answers.append(answer)
            advance(1)
    if not rows:
        raise InvalidInput("DATA", got="no picture that both models can read", want="one at least")
    read = [predictions[row][0] for row in rows]
    alike = None if groups is None else groups[rows]
    scores, than = score_answers([predictions[row][1] for row in rows], read), score_answers(answers, read)
    reference = against.name if against.name != predictor.name else against.version
    comparison = _compare(scores, than, against, reference=reference, groups=alike)
    counted = comparison.counted
    return AgainstResult(
        name=against.name,
        version=against.version,
        n_trained_on=None if learned is None else learned.n_trained_on,
        n_calibrated_on=None if learned is None else learned.n_calibrated_on,
        evaluation=evaluate_answers(
            answers, items.targets(read, classes=against.classes), against.classes, groups=alike
        ),
        comparison=comparison,
        belief=prior.update(counted * comparison.n_better, counted * comparison.n_worse) if prior else None,
        won=tuple(item.path for item, gain in zip(read, scores - than, strict=True) if gain > 0),
        lost=tuple(item.path for item, gain in zip(read, scores - than, strict=True) if gain < 0),
    )


def _compare(
    scores: FloatArray, than: FloatArray, against: Predictor, *, reference: str, groups: IntArray | None
) -> Comparison:
    if against.task == "classification":
        return compare_right(scores > 0, than > 0, reference=reference, groups=groups)
    is_loss = against.task == "regression"
    return compare_scores(
        scores,
        than,
        reference=reference,
        score=SCORE_NAMES[against.task],
        is_share=not is_loss,
        is_loss=is_loss,
        groups=groups,
    )
