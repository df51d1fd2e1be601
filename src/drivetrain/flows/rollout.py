"""A roll-out's moves: each is judged by the evidence, compared and set, and written into the ledger with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from drivetrain.errors import Conflict, NotFound, Unavailable
from drivetrain.rollout.gates import Criterion
from drivetrain.rollout.ledger import LedgerEntry, find_break
from drivetrain.rollout.stages import Action, Position, Stage, move
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store

from .rollout_evidence import SHARES_ALERT, EvidenceReader, gather_evidence
from .rollout_judge import Judged, judge, judge_now
from .rollout_marker import read_markers, remove_marker, write_marker
from .rollout_signing import binding, check_approver, check_signed

__all__ = [
    "OURSELVES",
    "Judged",
    "Moved",
    "advance",
    "binding",
    "close_alert",
    "enter_markers",
    "gather_evidence",
    "get_deployment",
    "hold",
    "judge",
    "judge_now",
    "position_of",
    "resume",
    "rollback",
    "verify",
    "watch_harm",
]

OURSELVES = "drivetrain"  # who does what no person did
_TRIES = 5  # of a rollback, when others move at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What came of a move."""

    before: Position
    after: Position
    deployment: Deployment | None  # None: the database could not be written
    judged: Judged | None = None
    marker: Path | None = None  # the file that stands in for the database
    is_done: bool = True  # else it was only tried


def get_deployment(store: Store, name: str, *, is_open: bool = False) -> Deployment:
    """By name or id. Raises NotFound; Conflict where one that goes on is wanted and it is over."""
    found = store.deployments.get(name)
    if found is None:
        every = ", ".join(dict.fromkeys(one.name for one in store.deployments.list())) or "none yet"
        raise NotFound("roll-out", got=name, want="one that was started", hint=f"There are: {every}.")
    if is_open and found.ended_at is not None:
        raise Conflict("roll-out", got=f"{name}, {found.stage.replace('_', ' ')}", want="one that goes on")
    return found


def position_of(deployment: Deployment) -> Position:
    """Where it stands."""
    stage: Stage = deployment.stage  # type: ignore[assignment]  # only `stages.move` made it
    return Position(stage=stage, share=deployment.share, is_held=deployment.is_held)


def advance(
    store: Store,
    name: str,
    *,
    by: str,
    reason: str,
    is_dry: bool = False,
    reader: EvidenceReader | None = None,
    revision: int | None = None,
) -> Moved:
    """Take the next step, if the gate holds. Raises Conflict with what is missing, or where another came first.

    `revision` is the one that the approver saw, so that two approvers never take two steps.
    """
    by, reason = check_signed(by, reason)
    deployment = _get_seen(store, name, revision)
    check_approver(store, by)
    store.reviews.expire(store.deployments.clock())
    before = position_of(deployment)
    after = move(before, "advance")
    if is_dry:
        judged = judge_now(store, deployment, reader=reader)
        return Moved(before=before, after=after, deployment=deployment, judged=judged, is_done=False)
    judged = _judge_and_alert(store, deployment, reader=reader)
    if judged.harm.is_met:
        raise Conflict("gate", got=_told(judged.harm.criteria, is_met=True), want="no harm", hint="Roll it back.")
    if not judged.gate.is_met:
        missing = " ".join(one.sentence for one in judged.gate.missing)
        raise Conflict("gate", got=f"not enough: {missing}", want="every criterion met")
    return _move(store, deployment, "advance", by=by, reason=reason, judged=judged)


def hold(store: Store, name: str, *, by: str, reason: str, revision: int | None = None) -> Moved:
    """Stop where it is: it decides as it did, and takes no step."""
    by, reason = check_signed(by, reason)
    return _move(store, _get_seen(store, name, revision), "hold", by=by, reason=reason)


def resume(store: Store, name: str, *, by: str, reason: str, revision: int | None = None) -> Moved:
    """Let a held one go on. Who does must be allowed to approve."""
    by, reason = check_signed(by, reason)
    check_approver(store, by)
    return _move(store, _get_seen(store, name, revision), "resume", by=by, reason=reason)


def rollback(store: Store, name: str, *, by: str, reason: str, marker_folder: Path | None = None) -> Moved:
    """The candidate decides nothing any more, from anywhere, at once.

    Where the database cannot be written, a file in `marker_folder` says so to the servers; without one: Unavailable.
    """
    by, reason = check_signed(by, reason)
    for left in reversed(range(_TRIES)):
        deployment = get_deployment(store, name, is_open=True)
        try:
            return _move(store, deployment, "rollback", by=by, reason=reason)
        except Conflict:  # another move came first: this one is meant all the same
            if not left:
                raise
        except Unavailable:
            if marker_folder is None:
                raise
            at = store.deployments.clock()
            marker = write_marker(marker_folder, deployment.name, by=by, reason=reason, at=at)
            before = position_of(deployment)
            return Moved(before=before, after=move(before, "rollback"), deployment=None, marker=marker.path)
    raise AssertionError("the last try returns or raises")


def watch_harm(store: Store, name: str, *, reader: EvidenceReader | None = None) -> bool:
    """Roll back by itself where harm is shown; whether this call did. Labels that came too late are told first."""
    deployment = get_deployment(store, name)
    if deployment.ended_at is not None:
        return False
    store.reviews.expire(store.deployments.clock())
    judged = _judge_and_alert(store, deployment, reader=reader)
    if not judged.harm.is_met:
        return False
    reason = _told(judged.harm.criteria, is_met=True)
    for left in reversed(range(_TRIES)):
        try:
            _move(store, deployment, "rollback", by=OURSELVES, reason=reason, judged=judged)
        except Conflict:
            deployment = get_deployment(store, deployment.id)
            if deployment.ended_at is not None:
                return False
            if not left:
                raise
        else:
            return True
    return False


def enter_markers(store: Store, folder: Path) -> list[str]:
    """Write rollbacks that happened without the database into it, now that it is back; the names of those."""
    entered = []
    for marker in read_markers(folder):
        found = store.deployments.get(marker.name)
        if found is not None and found.ended_at is None and found.started_at <= marker.at:
            when = datetime.fromtimestamp(marker.at, UTC).isoformat()
            reason = f"{marker.reason} (at {when}, while the database could not be written)"
            rollback(store, found.id, by=marker.by, reason=reason)
            entered.append(marker.name)
        remove_marker(marker)
    return entered


def verify(store: Store, name: str) -> str | None:
    """None where the ledger is whole and says where the roll-out stands; else, in words, what is wrong."""
    deployment = get_deployment(store, name)
    entries = [LedgerEntry(**entry) for entry in store.deployments.ledger(deployment.id)]
    broken = find_break(entries)
    if broken is not None:
        return broken
    moves = [entry for entry in entries if entry.before != entry.after]
    stands = position_of(deployment).in_words
    if not moves or moves[-1].after != stands:
        last = moves[-1].after if moves else "nothing"
        return f"the ledger ends at {last!r}, and the roll-out stands at {stands!r}"
    return None


def close_alert(store: Store, alert_id: str, *, by: str, reason: str) -> None:
    """Say why an alert need not hold anything up any more; in the ledger too."""
    by, reason = check_signed(by, reason)
    check_approver(store, by)
    closed = store.alerts.close(alert_id, by, reason)
    deployment = get_deployment(store, closed.deployment_id)
    stands = position_of(deployment)
    evidence = {"alert": closed.id, "kind": closed.kind, "detail": closed.detail}
    bound = binding(store, deployment.id, "close alert", stands, stands, by=by, reason=reason, evidence=evidence)
    store.deployments.note(deployment.id, seal=bound)


def _get_seen(store: Store, name: str, revision: int | None) -> Deployment:
    """The one that goes on, as whoever moves it saw it. Raises Conflict where it was moved since."""
    found = get_deployment(store, name, is_open=True)
    if revision is not None and found.revision != revision:
        got = f"{found.name} at revision {found.revision}, {position_of(found).in_words}"
        want = f"revision {revision}: another change came first"
        raise Conflict("deployment", got=got, want=want, hint="Look at it again.")
    return found


def _judge_and_alert(store: Store, deployment: Deployment, *, reader: EvidenceReader | None) -> Judged:
    """What it shows; where keys go elsewhere than they should, an alert is open that somebody must look at."""
    judged = judge_now(store, deployment, reader=reader)
    shares = judged.gathered.shares
    if shares.is_broken and not any(one.kind == SHARES_ALERT for one in store.alerts.list(deployment.id)):
        store.alerts.open(deployment.id, SHARES_ALERT, shares.sentence)
        judged = judge_now(store, deployment, reader=reader)
    return judged


def _move(
    store: Store, deployment: Deployment, action: Action, *, by: str, reason: str, judged: Judged | None = None
) -> Moved:
    before = position_of(deployment)
    after = move(before, action)
    evidence = {} if judged is None else judged.evidence
    made = store.deployments.transition(
        deployment.id,
        revision=deployment.revision,
        stage=after.stage,
        share=after.share,
        is_held=after.is_held,
        ended_at=store.deployments.clock() if after.is_over else None,
        seal=binding(store, deployment.id, action, before, after, by=by, reason=reason, evidence=evidence),
    )
    return Moved(before=before, after=after, deployment=made, judged=judged)


def _told(criteria: tuple[Criterion, ...], *, is_met: bool) -> str:
    return " ".join(one.sentence for one in criteria if one.is_met == is_met)
