"""Counts over the tasks and answers: what waits, who answered how much, how often two agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from sqlalchemy import ColumnElement, func, select

from .database import Database
from .packing import clean_text
from .schema_rollout import REVIEW_ANSWER, REVIEW_TASK

__all__ = ["ReviewFigures", "clean_person", "of_deployment"]

_T = REVIEW_TASK.c


@dataclass(frozen=True, slots=True)
class ReviewFigures:
    """What can be asked of them all together."""

    database: Database
    clock: Callable[[], float]

    def open_count(self, deployment_id: str | None = None) -> int:
        """Tasks that wait; of one deployment, or of all."""
        query = select(func.count()).select_from(REVIEW_TASK).where(_T.state == "open", *of_deployment(deployment_id))
        with self.database.read() as db:
            return db.execute(query).scalar_one()

    def oldest_open(self, deployment_id: str | None = None) -> float | None:
        """When the task was asked that waits longest."""
        query = select(func.min(_T.asked_at)).where(_T.state == "open", *of_deployment(deployment_id))
        with self.database.read() as db:
            found: float | None = db.execute(query).scalar_one()
        return found

    def load(self, since: float) -> list[tuple[str, int, float | None]]:
        """(person, answers, median seconds an answer), by name, of what was answered from `since` on."""
        query = select(REVIEW_ANSWER.c.by, REVIEW_ANSWER.c.seconds).where(REVIEW_ANSWER.c.at >= since)
        taken: dict[str, list[float | None]] = {}
        with self.database.read() as db:
            for by, seconds in db.execute(query):
                taken.setdefault(by, []).append(seconds)
        known = {by: [one for one in all_ if one is not None] for by, all_ in taken.items()}
        return [(by, len(taken[by]), median(known[by]) if known[by] else None) for by in sorted(taken)]

    def pairs(self, deployment_id: str) -> list[tuple[str, str]]:
        """The first two answers to each task that two people see, the oldest task first."""
        query = (
            select(REVIEW_ANSWER.c.task_id, REVIEW_ANSWER.c.answer)
            .join(REVIEW_TASK, REVIEW_ANSWER.c.task_id == _T.id)
            .where(_T.deployment_id == deployment_id, _T.people == 2, REVIEW_ANSWER.c.number <= 2)
            .order_by(_T.id, REVIEW_ANSWER.c.number)
        )
        found: dict[str, list[str]] = {}
        with self.database.read() as db:
            for task_id, answer in db.execute(query):
                found.setdefault(task_id, []).append(answer)
        return [(said[0], said[1]) for said in found.values() if len(said) == 2]

    def gold_pairs(self, by: str | None = None) -> list[tuple[str, str]]:
        """(answer, what is right) of the pictures whose label is known; of one person, or of all."""
        query = (
            select(REVIEW_ANSWER.c.answer, _T.gold)
            .join(REVIEW_TASK, REVIEW_ANSWER.c.task_id == _T.id)
            .where(_T.gold.is_not(None))
            .order_by(REVIEW_ANSWER.c.id)
        )
        if by is not None:
            query = query.where(REVIEW_ANSWER.c.by == clean_person(by))
        with self.database.read() as db:
            return [(row.answer, row.gold) for row in db.execute(query)]


def of_deployment(deployment_id: str | None) -> tuple[ColumnElement[bool], ...]:
    """Its tasks; None: all."""
    return () if deployment_id is None else (_T.deployment_id == deployment_id,)


def clean_person(by: str) -> str:
    """As a name is kept."""
    return clean_text(by)[:128]
