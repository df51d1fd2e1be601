"""Roll-outs, where each stands, and the ledger of how it came there.

A move is one transaction: it holds only if no other came first, and its row of the ledger is written with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from drivetrain.errors import Conflict, InvalidInput, NotFound

from .database import Database
from .packing import clean_text, pack, require_text, unpack
from .schema_rollout import DEPLOYMENT, PREMORTEM, STAGE_EVENT, VERSION

__all__ = ["Deployment", "Deployments", "Seal"]

# The ledger's last row (None: there is none yet) -> the next one, with number, previous and digest
Seal = Callable[[Mapping[str, Any] | None], Mapping[str, Any]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # it becomes a file's name too
_ENTRY = ("number", "at", "by", "action", "before", "after", "reason", "evidence", "previous", "digest")
_HINT = "Look again: `drivetrain rollout status`."


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One roll-out, as it stands."""

    id: str
    name: str
    model: str
    candidate: str  # a version
    incumbent: str | None = None  # a version; None: people
    config: Mapping[str, Any] = field(default_factory=dict)  # frozen at the start
    salt: str
    stage: str
    share: float
    is_held: bool = False
    revision: int = 1
    started_at: float
    started_by: str
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Deployments:
    """The roll-outs in the database."""

    database: Database
    clock: Callable[[], float]

    def start(self, deployment: Deployment, *, seal: Seal) -> Deployment:
        """Begin it, with the first row of its ledger. Raises Conflict where its name or its model has an open one."""
        if not _NAME.fullmatch(deployment.name):
            raise InvalidInput(
                "name", got=deployment.name, want="1 to 64 letters, digits, - and _, a letter or digit first"
            )
        _check_share(deployment.share)
        values = asdict(deployment) | {"config": pack(deployment.config), "n_requests": 0}
        with self.database.write() as db:
            for version in filter(None, (deployment.candidate, deployment.incumbent)):
                if db.execute(select(VERSION.c.version).where(VERSION.c.version == version)).first() is None:
                    raise NotFound("version", got=version, want="one of `drivetrain versions list`")
            try:
                with db.begin_nested():
                    db.execute(insert(DEPLOYMENT).values(values))
            except IntegrityError:
                raise _in_the_way(db, deployment) from None
            _append(db, deployment.id, seal)
            return _require(db, deployment.id)

    def get(self, name_or_id: str) -> Deployment | None:
        """By id, or the newest of that name."""
        by_name = (
            select(DEPLOYMENT)
            .where(DEPLOYMENT.c.name == name_or_id)
            .order_by(DEPLOYMENT.c.ended_at.is_not(None), DEPLOYMENT.c.started_at.desc(), DEPLOYMENT.c.id.desc())
            .limit(1)
        )
        with self.database.read() as db:
            row = db.execute(select(DEPLOYMENT).where(DEPLOYMENT.c.id == name_or_id)).first()
            row = db.execute(by_name).first() if row is None else row
        return None if row is None else _deployment(row)

    def open_for(self, model: str) -> Deployment | None:
        """The one of this model that goes on."""
        query = select(DEPLOYMENT).where(DEPLOYMENT.c.model == model, DEPLOYMENT.c.ended_at.is_(None))
        with self.database.read() as db:
            row = db.execute(query).first()
        return None if row is None else _deployment(row)

    def transition(
        self,
        id: str,  # noqa: A002
        *,
        revision: int,
        stage: str,
        share: float,
        is_held: bool,
        ended_at: float | None = None,
        seal: Seal,
    ) -> Deployment:
        """Move it, if it still stands at `revision` and goes on; else Conflict, and nothing is written."""
        _check_share(share)
        moved = (
            update(DEPLOYMENT)
            .where(DEPLOYMENT.c.id == id, DEPLOYMENT.c.revision == revision, DEPLOYMENT.c.ended_at.is_(None))
            .values(stage=stage, share=share, is_held=is_held, ended_at=ended_at, revision=revision + 1)
        )
        with self.database.write() as db:
            if not db.execute(moved).rowcount:
                found = _require(db, id)
                ended = ", over" if found.ended_at is not None else ""
                raise Conflict(
                    "deployment",
                    got=f"{found.name} at revision {found.revision}, {found.stage}{ended}",
                    want=f"revision {revision}, going on: another change came first",
                    hint=_HINT,
                )
            _append(db, id, seal)
            return _require(db, id)

    def note(self, id: str, *, seal: Seal) -> None:  # noqa: A002
        """A row of the ledger without a move; also of one that is over."""
        with self.database.write() as db:
            _lock(db, id)
            _append(db, id, seal)

    def ledger(self, id: str) -> list[Mapping[str, Any]]:  # noqa: A002
        """In order: deployment (its id), number, at, by, action, before, after, reason, evidence, previous, digest."""
        query = select(STAGE_EVENT).where(STAGE_EVENT.c.deployment_id == id).order_by(STAGE_EVENT.c.number)
        with self.database.read() as db:
            return [_entry(row) for row in db.execute(query)]

    def premortem(self, id: str) -> dict[str, dict[str, Any]]:  # noqa: A002
        """Question -> {"answer", "by", "at"}, of those that were answered."""
        query = select(PREMORTEM).where(PREMORTEM.c.deployment_id == id).order_by(PREMORTEM.c.question)
        with self.database.read() as db:
            return {row.question: {"answer": row.answer, "by": row.by, "at": row.at} for row in db.execute(query)}

    def answer_premortem(self, id: str, question: str, answer: str, by: str) -> None:  # noqa: A002
        """Answer a question, or answer it anew."""
        question = require_text("question", question, most=128)
        values = {"answer": require_text("answer", answer, most=10_000), "by": clean_text(by)[:128], "at": self.clock()}
        is_it = (PREMORTEM.c.deployment_id == id) & (PREMORTEM.c.question == question)
        with self.database.write() as db:
            _lock(db, id)
            if not db.execute(update(PREMORTEM).where(is_it).values(values)).rowcount:
                db.execute(insert(PREMORTEM).values(deployment_id=id, question=question, **values))

    def list(self) -> list[Deployment]:
        """All, the oldest first."""
        with self.database.read() as db:
            query = select(DEPLOYMENT).order_by(DEPLOYMENT.c.started_at, DEPLOYMENT.c.id)
            return [_deployment(row) for row in db.execute(query)]


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise InvalidInput("share", got=share, want="0 to 1")


def _lock(db: Connection, deployment_id: str) -> None:
    """Until the transaction ends no other writes here, so that "the last row" is the last one."""
    query = select(DEPLOYMENT.c.id).where(DEPLOYMENT.c.id == deployment_id).with_for_update()
    if db.execute(query).first() is None:
        raise _not_found(deployment_id)


def _require(db: Connection, deployment_id: str) -> Deployment:
    row = db.execute(select(DEPLOYMENT).where(DEPLOYMENT.c.id == deployment_id)).first()
    if row is None:
        raise _not_found(deployment_id)
    return _deployment(row)


def _append(db: Connection, deployment_id: str, seal: Seal) -> None:
    """The next row of the ledger. The deployment's row is locked by now."""
    mine = STAGE_EVENT.c.deployment_id == deployment_id
    row = db.execute(select(STAGE_EVENT).where(mine).order_by(STAGE_EVENT.c.number.desc()).limit(1)).first()
    last = None if row is None else _entry(row)
    entry = seal(last)
    number = 1 if last is None else last["number"] + 1
    follows = last is None or entry["previous"] == last["digest"]
    if entry["number"] != number or not follows or entry["deployment"] != deployment_id:
        raise InvalidInput(
            "ledger",
            got=f"entry {entry['number']} of {entry['deployment']}",
            want=f"entry {number} of {deployment_id}, bound to the one before",
        )
    values = {name: entry[name] for name in _ENTRY}
    for name in ("at", "by", "action", "before", "after", "reason"):
        if clean_text(values[name]) != values[name]:  # to mend it now would break the digest
            raise InvalidInput(name, got="control characters", want="text")
    db.execute(
        insert(STAGE_EVENT).values(values | {"evidence": pack(entry["evidence"]), "deployment_id": deployment_id})
    )


def _in_the_way(db: Connection, deployment: Deployment) -> Conflict:
    is_open = DEPLOYMENT.c.ended_at.is_(None)
    same = (DEPLOYMENT.c.name == deployment.name) | (DEPLOYMENT.c.model == deployment.model)
    row = db.execute(select(DEPLOYMENT).where(is_open, same)).first()
    if row is None:
        return Conflict("deployment", got=f"the id {deployment.id} again", want="a new id")
    return Conflict(
        "deployment",
        got=f"{row.name}, which rolls out {row.candidate} ({row.stage})",
        want="no other that goes on of this name or this model",
        hint=f"End it first: drivetrain rollout rollback {row.name}",
    )


def _not_found(deployment_id: str) -> NotFound:
    return NotFound("deployment", got=deployment_id, want="one that was started")


def _entry(row: Row[*tuple[object, ...]]) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in _ENTRY}
    return {"deployment": row.deployment_id} | values | {"evidence": unpack(row.evidence)}


def _deployment(row: Row[*tuple[object, ...]]) -> Deployment:
    return Deployment(
        id=row.id,
        name=row.name,
        model=row.model,
        candidate=row.candidate,
        incumbent=row.incumbent,
        config=unpack(row.config),
        salt=row.salt,
        stage=row.stage,
        share=row.share,
        is_held=row.is_held,
        revision=row.revision,
        started_at=row.started_at,
        started_by=row.started_by,
        ended_at=row.ended_at,
    )
