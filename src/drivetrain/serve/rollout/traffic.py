"""A request for a model that is rolled out: who is asked, who decides, and what is on disk before the answer leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from fastapi import Request

from drivetrain.errors import DeadlinePassed, DrivetrainError, InvalidInput, QueueFull, Unavailable
from drivetrain.imaging.decode import decode_picture
from drivetrain.rollout.scope import Facts
from drivetrain.runtime.prediction import Answer, Prediction
from drivetrain.serve.answers import Told, caller_id_of, sha256_of, tell_outcome
from drivetrain.serve.bodies import Upload
from drivetrain.serve.errors import request_id_of
from drivetrain.serve.registry import Served
from drivetrain.serve.service import Service
from drivetrain.store.predictions import Stored
from drivetrain.store.requests import Routed

from .case import Case, Held, hold_both
from .facts import facts_of
from .shadow import make_task
from .standing import PEOPLE
from .turn import Turn, is_drawn, whose_turn, wish_for_label
from .waiting import wait_for_label

if TYPE_CHECKING:
    from .desk import Rollouts

__all__ = ["Held", "answer_routed", "hold_both", "wait_for_people"]

_STORE_MAX_S = 10.0  # a caller waits so long for the database, then is answered without the roll-out
_log = logging.getLogger("drivetrain.serve")


async def answer_routed(
    request: Request,
    service: Service,
    desk: Rollouts,
    held: Held,
    items: Sequence[Upload | tuple[str, DrivetrainError]],
    *,
    can_wait: bool = True,
) -> list[Told]:
    """One for each item, in order; what came as an error passes through. What was routed is on disk.

    Not `can_wait`: a protocol without a word for "people decide" refuses such a request, before anything is kept.
    Raises Overloaded, Unavailable, or ClientGone.
    """
    at = desk.store.deployments.clock()
    facts, live = facts_of(request, at=at), held.live
    turn = whose_turn(
        stage=live.deployment.stage,
        share=live.deployment.share,
        salt=live.deployment.salt,
        scope=live.scope,
        facts=facts,
    )
    if held.candidate is None:  # not loaded: no key can have it now, so none was to
        turn = replace(turn, propensity=0.0, is_candidates=False)
    trip = _Trip(request, service, desk, held, facts, turn, at)
    uploads = [item for item in items if isinstance(item, Upload)]
    outcomes = iter(await trip.answer(uploads, can_wait=can_wait) if uploads else [])
    return [next(outcomes) if isinstance(item, Upload) else Told(item[0], None, item[1]) for item in items]


async def wait_for_people(request: Request, desk: Rollouts, told: Sequence[Told], *, wait_s: float) -> list[Told]:
    """The same, with labels in the place of what was pending and is there within `wait_s`. Raises ClientGone."""

    async def wait(one: Told) -> Told:
        if one.review is None:
            return one
        stored = await asyncio.to_thread(desk.store.predictions.get, str(one.review["prediction_id"]))
        assert stored is not None
        standing = await wait_for_label(request, desk.store, desk.waiting, stored, wait_s=wait_s)
        return one if standing.state == "pending" else replace(one, review=standing.as_json())

    return list(await asyncio.gather(*map(wait, told)))


@dataclass(frozen=True, slots=True)
class _Trip:
    request: Request
    service: Service
    desk: Rollouts
    held: Held
    facts: Facts
    turn: Turn
    at: float

    async def answer(self, uploads: Sequence[Upload], *, can_wait: bool) -> list[Told]:
        live = self.held.live
        is_peoples = live.deployment.incumbent is None and not self.turn.is_candidates
        if is_peoples and not can_wait:
            raise _not_here()
        is_storable = self.desk.is_storable
        # whoever is not asked now is asked later, from the picture: it is written while the network runs
        is_kept = is_storable and (live.has_shadow or is_peoples)
        keeping = [asyncio.ensure_future(self._keep(upload)) for upload in uploads] if is_kept else []
        try:
            cases = await self._ask(uploads)
        except BaseException:
            for one in keeping:
                one.cancel()
            raise
        if not can_wait and any(case.error is None and case.decided_by == "people" for case in cases):
            raise _not_here()
        kept = await asyncio.gather(*keeping) if keeping else [None] * len(cases)
        return list(await asyncio.gather(*map(self._settle, cases, kept)))

    # asking

    async def _ask(self, uploads: Sequence[Upload]) -> list[Case]:
        """Who decides each, and what was said."""
        turn = self.turn
        cases = [Case(upload=one, in_scope=turn.in_scope, propensity=turn.propensity) for one in uploads]
        if turn.is_candidates:
            assert self.held.candidate is not None
            await self._ask_candidate(cases, self.held.candidate)
        left = [case for case in cases if case.candidate is None or case.decided_by != "candidate"]
        if left and self.held.live.deployment.incumbent is not None:
            await self._ask_incumbent(left)
        elif left:
            await asyncio.gather(*(self._check_picture(case) for case in left))
        asked = self.held.incumbent if left else self.held.candidate
        if asked is not None:
            self.request.state.served = asked
        return cases

    async def _ask_candidate(self, cases: list[Case], served: Served) -> None:
        """Where it gives no answer, the incumbent does: never an error to the caller."""
        try:
            said = await self.service.answer(served, [case.upload for case in cases], self.request.receive)
        except (QueueFull, Unavailable):  # too much is waiting: it sees them later
            return
        for case, answer in zip(cases, said, strict=True):
            if isinstance(answer, BaseException):
                case.has_failed = not isinstance(answer, QueueFull)
                _log.warning("%s gave no answer: %s", served.version, _told(answer))
                continue
            case.candidate = answer
            is_allowed = self.held.live.deployment.stage != "limited" or (
                isinstance(answer, Prediction) and self.held.live.scope.allows(answer.label)
            )
            if is_allowed:
                case.decided_by = "candidate"
            else:
                case.in_scope, case.propensity = False, 0.0

    async def _ask_incumbent(self, cases: list[Case]) -> None:
        served = self.held.incumbent
        if served is None:
            raise Unavailable(
                "model",
                got=f"{self.held.live.deployment.incumbent}, which is not loaded",
                want="the version in use",
                hint="Start the server with its file.",
            )
        said = await self.service.answer(served, [case.upload for case in cases], self.request.receive)
        for case, answer in zip(cases, said, strict=True):
            case.decided_by = "incumbent"
            if isinstance(answer, BaseException):
                case.error = answer
            else:
                case.incumbent = answer

    async def _check_picture(self, case: Case) -> None:
        """People are not asked about what nobody can open."""
        upload, limits = case.upload, self.desk.decode_limits
        try:
            await asyncio.to_thread(decode_picture, upload.content, name=upload.name or "picture", limits=limits)
        except DrivetrainError as exc:
            case.error = exc

    # keeping

    async def _keep(self, upload: Upload) -> str | None:
        """Its sha256; None where it cannot be kept."""
        try:
            return await asyncio.to_thread(self.desk.store.images.put, upload.content)
        except DrivetrainError as exc:
            self.desk.was_not_stored(self.held.live, exc)
            return None

    async def _settle(self, case: Case, kept: str | None) -> Told:
        live, name = self.held.live, case.upload.name
        if case.error is not None:
            if kept is not None and isinstance(case.error, InvalidInput):
                await self._forget(kept)  # no picture at all
            return tell_outcome(name, case.error, self.request)
        if not self.desk.is_storable:
            return await self._unstored(case)
        prediction_id = self.desk.store.predictions.new_id()
        routed, why = self._route(case, prediction_id)
        if kept is None and (why is not None or routed.state == "pending" or routed.wants_label):
            kept = await self._keep(case.upload)
            if kept is None:
                return await self._unstored(case)
        routed = replace(routed, image_sha256=kept)
        stored, answer = await self._stored(case, prediction_id, kept)
        try:
            routed = await self._write(routed, stored, why, answer)
        except DrivetrainError as exc:
            self.desk.was_not_stored(live, exc)
            return await self._unstored(case)
        self.desk.was_stored(live, routed, case.upload.content)
        if self._is_awaited(case):
            return Told(name, None, None, _pending(prediction_id))
        return Told(name, answer, None)

    def _route(self, case: Case, prediction_id: str) -> tuple[Routed, str | None]:
        """The row as it will stand, and for what a person is asked."""
        live, config = self.held.live, self.held.live.config
        candidate = None if case.candidate is None else case.candidate.as_json()
        incumbent = None if case.incumbent is None else case.incumbent.as_json()
        state = self._state_of(case)
        is_audit = is_drawn(prediction_id, salt=live.deployment.salt, share=config.audit_share)
        wish = wish_for_label(
            decided_by=case.decided_by,
            candidate=candidate,
            incumbent=incumbent,
            has_shadow=config.has_shadow,
            is_pending=state == "pending",
            is_audit=is_audit,
            audit_share=config.audit_share,
        )
        routed = Routed(
            prediction_id=prediction_id,
            deployment_id=live.deployment.id,
            at=self.at,
            key=self.facts.key,
            attributes=self.facts.attributes,
            in_scope=case.in_scope,
            propensity=case.propensity,
            decided_by=case.decided_by,
            incumbent=incumbent,
            candidate=candidate,
            state=state,
            wants_label=wish.is_wanted,
            label_probability=wish.probability,
            due_at=self.at + config.due_hours * 3600,
        )
        return routed, wish.why

    def _state_of(self, case: Case) -> Literal["pending", "done", "failed"]:
        """Pending: the candidate, or the incumbent, has still to see it."""
        if case.has_failed:
            return "failed"
        live = self.held.live
        is_unasked = case.candidate is None and (live.has_shadow or self.turn.is_candidates)
        has_other = live.deployment.incumbent is not None and live.has_shadow
        return "pending" if is_unasked or (has_other and case.incumbent is None) else "done"

    async def _stored(self, case: Case, prediction_id: str, kept: str | None) -> tuple[Stored, Answer | None]:
        decided = case.decided
        answer = None if decided is None else replace(decided, prediction_id=prediction_id)
        said: dict[str, Any] = {"decision": "defer"} if answer is None else answer.as_json()
        stored = Stored(
            id=prediction_id,
            at=self.at,
            model=self.held.live.deployment.model,
            version=PEOPLE if answer is None else answer.version,
            caller_id=caller_id_of(self.request),
            request_id=request_id_of(self.request),
            name=case.upload.name,
            sha256=kept or await sha256_of(case.upload.content),
            answer=said,
        )
        return stored, answer

    async def _write(self, routed: Routed, stored: Stored, why: str | None, answer: Answer | None) -> Routed:
        """Return once it is on disk. Raises Unavailable, with nothing of it on disk."""
        store, live = self.desk.store, self.held.live
        doubt = None if answer is None else answer.as_json()
        task = None if why is None else make_task(live, stored.id, why=why, at=self.at, of=doubt)
        if live.is_over:  # it is people's alone, and no evidence of anything
            assert task is not None
            await asyncio.to_thread(self.desk.keep_alone, stored, task)
            return routed
        writing = store.requests.submit(routed, stored, task=task)
        waiting = asyncio.wrap_future(writing)
        done, _ = await asyncio.wait([waiting], timeout=_STORE_MAX_S)
        if not done and writing.cancel():
            raise Unavailable("db", got=f"no answer in {_STORE_MAX_S:.0f} s", want="a database that keeps up")
        return await waiting  # being written now: it ends one way or the other

    async def _forget(self, sha256: str) -> None:
        try:
            await asyncio.to_thread(self.desk.store.images.forget, sha256)
        except DrivetrainError as exc:
            _log.warning("what is no picture stays kept: %s", exc.message)

    async def _unstored(self, case: Case) -> Told:
        """By the incumbent, without the roll-out and without an id: what is not on disk did not happen there."""
        live = self.held.live
        self.desk.metrics.rollouts.unstored.labels(live.deployment.name).inc()
        if live.deployment.incumbent is None:
            error = Unavailable(
                "review",
                got="a database that takes no requests just now",
                want="one that can keep what people are to decide",
                hint="Send it again in a moment.",
            )
            return Told(case.upload.name, None, error)
        if case.incumbent is None:
            await self._ask_incumbent([case])
        outcome = case.error if case.incumbent is None else case.incumbent
        assert outcome is not None
        return tell_outcome(case.upload.name, outcome, self.request)

    def _is_awaited(self, case: Case) -> bool:
        """Whether the caller gets no answer but that of people: also where the candidate left it to them."""
        if case.decided_by == "people":
            return True
        decided = case.decided
        return self.held.live.deployment.incumbent is None and decided is not None and decided.decision == "defer"


def _pending(prediction_id: str) -> dict[str, object]:
    return {"prediction_id": prediction_id, "state": "pending", "href": f"/predictions/{prediction_id}"}


def _not_here() -> InvalidInput:
    return InvalidInput(
        "model",
        got="one whose answers people give, while it is rolled out",
        want="POST /predict, or a version of it by name",
    )


def _told(error: BaseException) -> str:
    if isinstance(error, DeadlinePassed):
        return "no answer in time"
    return error.message if isinstance(error, DrivetrainError) else repr(error)
