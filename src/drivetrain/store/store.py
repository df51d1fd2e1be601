"""Production's memory as the server and the command line hold it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from .audit import Audit
from .database import Database, open_database, shown
from .feedback import Feedback
from .idempotency import Idempotency
from .keys import Keys
from .predictions import Predictions
from .sessions import Sessions
from .users import Users

__all__ = ["Store", "open_store"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """One room of it for each kind of thing; used from any thread, by several processes at once."""

    database: Database
    keys: Keys
    users: Users
    sessions: Sessions
    audit: Audit
    predictions: Predictions
    feedback: Feedback
    idempotency: Idempotency

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return shown(self.database.engine.url)

    def has_callers(self) -> bool:
        """Whether a key or a person was ever made here, so that the server asks who calls."""
        return bool(self.keys.count() or self.users.count())

    def close(self) -> None:
        """Write what waits, then let go."""
        self.predictions.close()
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def open_store(url: str, *, clock: Callable[[], float] = time.time, queue_max: int = 2_000) -> Store:
    """The store at `url`; a new one is made, one of an older drivetrain is refused with what to do.

    Open it in the process that uses it: connections do not outlive a fork.
    """
    database = open_database(url)
    predictions = Predictions(database, queue_max=queue_max)
    return Store(
        database=database,
        keys=Keys(database, clock),
        users=Users(database, clock),
        sessions=Sessions(database, clock),
        audit=Audit(database, clock),
        predictions=predictions,
        feedback=Feedback(database, clock, predictions),
        idempotency=Idempotency(database, clock),
    )
