"""Who does what in a roll-out, and may: signatures, approvers, and the rows that bind a move into the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from drivetrain.errors import Conflict, InvalidConfig, NotFound
from drivetrain.rollout.ledger import FIRST, LedgerEntry, seal
from drivetrain.rollout.stages import Position
from drivetrain.store.deployments import Seal
from drivetrain.store.store import Store

__all__ = ["binding", "check_approver", "check_signed"]

_KEY = "key:"  # how a key signs: its tag, as the audit writes it
_MAY = frozenset({"approve", "admin"})


def binding(
    store: Store,
    deployment_id: str,
    action: str,
    before: Position | None,
    after: Position,
    *,
    by: str,
    reason: str,
    evidence: Mapping[str, Any],
) -> Seal:
    """What makes the next row of the ledger, bound to the one before."""
    at = datetime.fromtimestamp(store.deployments.clock(), UTC).isoformat()

    def bind(last: Mapping[str, Any] | None) -> Mapping[str, Any]:
        entry = LedgerEntry(
            deployment=deployment_id,
            number=1 if last is None else last["number"] + 1,
            at=at,
            by=by,
            action=action,
            before="" if before is None else before.in_words,
            after=after.in_words,
            reason=reason,
            evidence=evidence,
            previous=FIRST if last is None else last["digest"],
        )
        return asdict(seal(entry))

    return bind


def check_signed(by: str, reason: str) -> tuple[str, str]:
    """Both without the spaces around them. Raises InvalidConfig where one of them is missing."""
    by, reason = by.strip(), reason.strip()
    if not by or not reason or len(by) > 128:
        raise InvalidConfig("by" if not by or len(by) > 128 else "reason", got="none", want="a name, and a reason")
    return by, reason


def check_approver(store: Store, by: str) -> None:
    """Where people are known here, only who has the role may: a person, or a key by its tag. Raises Conflict."""
    if not store.users.count():
        return
    may = {user.name for user in store.users.list() if user.removed_at is None and user.roles & _MAY}
    if by not in may and not _is_key(store, by):
        raise Conflict("by", got=by, want="a person with the role approve", hint="See `drivetrain user list`.")


def _is_key(store: Store, by: str) -> bool:
    if not by.startswith(_KEY):
        return False
    try:
        key = store.keys.find(by.removeprefix(_KEY))
    except NotFound:
        return False
    return key.why_not(store.keys.clock()) is None and bool(key.roles & _MAY)
