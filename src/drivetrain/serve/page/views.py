"""What the templates are given of a model and of an answer: plain values, every word already chosen."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn, decode_picture
from drivetrain.imaging.thumbnail import make_thumbnail
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, ValuePrediction
from drivetrain.serve.answers import Told
from drivetrain.serve.model import ServedModel
from drivetrain.serve.page.words import (
    accuracy_in_words,
    decimal,
    doubt,
    error_sentence,
    guess_in_words,
    guessed,
    knows_in_words,
    percent,
    reach,
    reason_sentences,
    sureness,
)

__all__ = ["AnswerView", "ModelView", "view_answer", "view_model"]

_CHIPS_SHOWN = 24  # more classes than this fold away
_THUMBNAIL = 320  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """The head of a page about one model."""

    name: str
    version: str
    task: str
    accuracy: str
    statement: str  # its promise; perhaps empty
    knows: str
    classes_shown: Sequence[str]
    classes_folded: Sequence[str]


def view_model(model: ServedModel) -> ModelView:
    """In words."""
    statement = model.policy.get("statement")
    classes = () if model.classes == ("value",) else model.classes  # no one named it
    return ModelView(
        name=model.name,
        version=model.version,
        task=model.task,
        accuracy=accuracy_in_words(model.evaluation, model.task),
        statement=statement.replace(" %", "\N{NO-BREAK SPACE}%") if isinstance(statement, str) else "",
        knows=knows_in_words(model),
        classes_shown=classes[:_CHIPS_SHOWN],
        classes_folded=classes[_CHIPS_SHOWN:],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One row under an answer."""

    label: str
    width: str  # of the bar, "93.1%"
    number: str
    mark: str = ""  # of several labels: present, absent or defer


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One of several values that were measured."""

    label: str
    number: str
    reach: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerView:
    """One picture's card, made without a script."""

    name: str
    state: str  # accepted, deferred, failed
    headline: str
    sure: str
    reasons: Sequence[str]
    guess_words: str  # what stands before the guess
    guess: str
    is_unknown: bool
    bars: Sequence[Bar]
    values: Sequence[Value]  # where there are several
    preview: str  # a data: address; perhaps empty


def view_answer(told: Told, content: bytes, *, limits: DecodeLimits, request_id: str) -> AnswerView:
    """A card for one picture and what it was told."""
    preview = _preview(content, limits) if told.answer is not None or told.review is not None else ""
    answer = told.answer
    if told.review is not None:
        return AnswerView(
            name=told.name,
            state="deferred",
            headline="A person decides",
            sure="",
            reasons=[f"People decide this picture while the model is rolled out. Its label will be at {_where(told)}."],
            guess_words="",
            guess="",
            is_unknown=False,
            bars=[],
            values=[],
            preview=preview,
        )
    if answer is None:
        item = told.as_json(request_id)["error"]
        assert isinstance(item, dict)
        return AnswerView(
            name=told.name,
            state="failed",
            headline="No answer",
            sure="",
            reasons=[error_sentence(str(item["code"]), str(item["message"]))],
            guess_words="",
            guess="",
            is_unknown=False,
            bars=[],
            values=[],
            preview="",
        )
    is_deferred = answer.decision == "defer"
    said, values = guessed(answer), _values(answer)
    return AnswerView(
        name=told.name,
        state="deferred" if is_deferred else "accepted",
        headline=doubt(answer) if is_deferred else said[:1].upper() + said[1:] if said.startswith("none of") else said,
        sure="" if is_deferred or values else sureness(answer),
        reasons=reason_sentences(answer) if is_deferred else [],
        guess_words=guess_in_words(answer),
        guess=said if is_deferred else "",
        is_unknown="unknown" in answer.reasons,
        bars=_bars(answer),
        values=values,
        preview=preview,
    )


def _where(told: Told) -> str:
    return str((told.review or {}).get("href", "")).removeprefix("/")


def _values(answer: Answer) -> list[Value]:
    if not isinstance(answer, ValuePrediction) or len(answer.values) == 1:
        return []
    rows = answer.values.items()
    return [Value(label=name, number=decimal(value), reach=reach(answer, name)) for name, value in rows]


def _bars(answer: Answer) -> list[Bar]:
    """What a person should look at comes first, then the likeliest."""
    if isinstance(answer, ValuePrediction):
        return []
    marks = answer.decisions if isinstance(answer, MultiLabelPrediction) else {}
    ranked = sorted(answer.probabilities.items(), key=lambda row: (marks.get(row[0]) != "defer", -row[1]))
    return [
        Bar(label=label, width=f"{100 * p:.2f}%", number=percent(p), mark=marks.get(label, "")) for label, p in ranked
    ]


def _preview(content: bytes, limits: DecodeLimits) -> str:
    """A small JPEG of a picture that could be read."""
    image = decode_picture(content, name="picture", limits=limits, min_side=_THUMBNAIL)
    small = make_thumbnail(apply_exif_turn(image), side=_THUMBNAIL)
    return f"data:image/jpeg;base64,{base64.b64encode(small).decode()}"
