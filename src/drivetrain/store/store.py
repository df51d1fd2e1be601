"""Production's memory as the server and the command line hold it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from .alerts import Alerts
from .audit import Audit
from .blobs import open_blobs
from .database import Database, open_database, shown
from .deployments import Deployments
from .feedback import Feedback
from .idempotency import Idempotency
from .images import Images
from .keys import Keys
from .predictions import Predictions
from .requests import Requests
from .reviews import Reviews
from .sessions import Sessions
from .users import Users
from .versions import Versions

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
    versions: Versions
    deployments: Deployments
    requests: Requests
    images: Images
    reviews: Reviews
    alerts: Alerts

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return shown(self.database.engine.url)

    def has_callers(self) -> bool:
        """Whether a key or a person was ever made here, so that the server asks who calls."""
        return bool(self.keys.count() or self.users.count())

    def close(self) -> None:
        """Write what waits, then let go."""
        self.requests.close()
        self.predictions.close()
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def open_store(
    url: str, *, clock: Callable[[], float] = time.time, queue_max: int = 2_000, images: str = "auto"
) -> Store:
    """The store at `url`; a new one is made, one of an older drivetrain is refused with what to do.

    `images` is the folder or URL of kept pictures; auto: `FILE.images` beside an SQLite file, and none for PostgreSQL,
    where keeping one is refused. Open it in the process that uses it: connections do not outlive a fork.
    """
    database = open_database(url)
    predictions = Predictions(database, queue_max=queue_max)
    if images == "auto" and database.is_sqlite:
        images = f"{database.file}.images"
    return Store(
        database=database,
        keys=Keys(database, clock),
        users=Users(database, clock),
        sessions=Sessions(database, clock),
        audit=Audit(database, clock),
        predictions=predictions,
        feedback=Feedback(database, clock, predictions),
        idempotency=Idempotency(database, clock),
        versions=Versions(database),
        deployments=Deployments(database, clock),
        requests=Requests(database, queue_max=queue_max),
        images=Images(database, clock, None if images == "auto" else open_blobs(images)),
        reviews=Reviews(database, clock),
        alerts=Alerts(database, clock),
    )
