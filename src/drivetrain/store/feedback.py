"""What callers say of an answer. It queues a look by a person; it never counts as a label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from sqlalchemy import Row, func, insert, select

from drivetrain.errors import Conflict, InvalidInput, NotFound

from .database import Database
from .ids import new_id
from .predictions import Predictions
from .schema import FEEDBACK

__all__ = ["Feedback", "FeedbackNote", "Verdict"]

Verdict = Literal["right", "wrong", "unsure"]

_EACH_MAX = 20  # notes on one answer: more is a flood
_LABEL_MAX, _NOTE_MAX = 200, 2_000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackNote:
    """One voice on one answer."""

    id: str
    prediction_id: str
    at: float
    verdict: Verdict
    label: str | None
    by: str
    note: str


@dataclass(frozen=True, slots=True)
class Feedback:
    """The voices in the database."""

    database: Database
    clock: Callable[[], float]
    predictions: Predictions

    def add(
        self,
        prediction_id: str,
        verdict: Verdict,
        *,
        label: str | None = None,
        by: str,
        at: float | None = None,
        note: str = "",
    ) -> FeedbackNote:
        """On disk when this returns. Raises NotFound for an answer that was never given, InvalidInput, Conflict."""
        if verdict not in get_args(Verdict):
            raise InvalidInput("verdict", got=verdict, want=f"one of {', '.join(get_args(Verdict))}")
        if label is not None and not 1 <= len(label) <= _LABEL_MAX:
            raise InvalidInput("label", got=f"{len(label)} characters", want=f"1 to {_LABEL_MAX}")
        if len(note) > _NOTE_MAX:
            raise InvalidInput("note", got=f"{len(note)} characters", want=f"at most {_NOTE_MAX}")
        for what, text in (("label", label or ""), ("note", note)):
            if "\0" in text or (not text.isprintable() and what == "label"):
                raise InvalidInput(what, got="control characters", want="text")
        if self.predictions.get(prediction_id) is None:
            raise NotFound("prediction_id", got=prediction_id, want="one that an answer of this server held")
        made = FeedbackNote(
            id=new_id(),
            prediction_id=prediction_id,
            at=self.clock() if at is None else at,
            verdict=verdict,
            label=label,
            by=by[:128],
            note=note,
        )
        with self.database.write() as db:
            mine = select(func.count()).select_from(FEEDBACK).where(FEEDBACK.c.prediction_id == prediction_id)
            if db.execute(mine).scalar_one() >= _EACH_MAX:
                raise Conflict("feedback", got=f"{_EACH_MAX} notes on this answer", want="fewer")
            db.execute(insert(FEEDBACK).values(asdict(made)))
        return made

    def list(self, prediction_id: str) -> list[FeedbackNote]:
        """The oldest first."""
        query = select(FEEDBACK).where(FEEDBACK.c.prediction_id == prediction_id).order_by(FEEDBACK.c.id)
        with self.database.read() as db:
            return [_note(row) for row in db.execute(query)]

    def counts(self) -> dict[str, int]:
        """Verdict -> answers; who said something twice of an answer counts with the last."""
        last = select(func.max(FEEDBACK.c.id)).group_by(FEEDBACK.c.prediction_id, FEEDBACK.c.by)
        query = select(FEEDBACK.c.verdict, func.count()).where(FEEDBACK.c.id.in_(last)).group_by(FEEDBACK.c.verdict)
        with self.database.read() as db:
            found = {row[0]: row[1] for row in db.execute(query)}
        return {verdict: found.get(verdict, 0) for verdict in get_args(Verdict)}


def _note(row: Row[*tuple[object, ...]]) -> FeedbackNote:
    return FeedbackNote(
        id=row.id,
        prediction_id=row.prediction_id,
        at=row.at,
        verdict=row.verdict,
        label=row.label,
        by=row.by,
        note=row.note,
    )
