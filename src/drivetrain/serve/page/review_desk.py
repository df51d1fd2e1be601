"""One reviewer's way through the queue, request by request: what the routes of /review do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response

from drivetrain.errors import Conflict, DrivetrainError, InvalidInput, NotFound
from drivetrain.flows import review
from drivetrain.flows.review import ReviewConfig, Sheet, Trouble
from drivetrain.flows.review_status import describe_queue
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.rollout.reviewing import CANNOT_TELL, NONE_OF_THESE
from drivetrain.serve.auth.caller import caller_of
from drivetrain.serve.auth.csrf import read_form_fields
from drivetrain.serve.auth.refusals import Forbidden
from drivetrain.serve.errors import request_id_of
from drivetrain.serve.page.render import render_page
from drivetrain.serve.page.review import DONE, LATE_UNDO, NOTES, ORDERS, Note, say, view_queue
from drivetrain.serve.page.review_picture import WhyDesk, read_picture
from drivetrain.settings import Settings
from drivetrain.store.review_queue import count_waiting
from drivetrain.store.reviews import Order, Task

if TYPE_CHECKING:
    from drivetrain.store.deployments import Deployment
    from drivetrain.store.store import Store

__all__ = ["ReviewDesk"]

_AT_ONCE = 2  # pictures decoded for reviewers: answers come first
_SEARCH_FROM = 10  # labels; fewer are found by the eye
_NO_STORE = {"Cache-Control": "no-store"}
_SAID = {"none": NONE_OF_THESE, "unsure": CANNOT_TELL}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """In which order a person goes through which pictures; it stands in the address."""

    order: Order
    deployment: Deployment | None

    @property
    def query(self) -> str:
        asked = {"order": self.order} | ({} if self.deployment is None else {"rollout": self.deployment.name})
        return f"?{urlencode(asked)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewDesk:
    """The endpoints, and what they share."""

    store: Store
    config: ReviewConfig
    limits: DecodeLimits
    whys: WhyDesk
    explaining: asyncio.Semaphore
    decoding: asyncio.Semaphore

    @classmethod
    def of(cls, store: Store, settings: Settings) -> ReviewDesk:
        limits = DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels)
        return cls(
            store=store,
            config=ReviewConfig(
                undo_s=float(settings.review_undo_s),
                gold_share=settings.review_gold_percent / 100,
                is_set_first=bool(settings.review_set_first),
            ),
            limits=limits,
            whys=WhyDesk(store, limits),
            explaining=asyncio.Semaphore(1),
            decoding=asyncio.Semaphore(_AT_ONCE),
        )

    async def show_queue(self, request: Request) -> Response:
        """What waits, and who does how much."""
        await self.settle(request.app)
        caller, course = caller_of(request), await self._course(request, request.query_params)
        facts = await asyncio.to_thread(
            describe_queue,
            self.store,
            caller.tag,
            deployment=course.deployment,
            with_gold=caller.may("approve"),
        )
        return await self._page(
            request,
            "review.html",
            course=course,
            queue=view_queue(facts, is_alone=caller.kind == "local"),
            orders=ORDERS,
            can_review=caller.may("review"),
        )

    async def take_next(self, request: Request) -> Response:
        """Claim, and go there."""
        await self.settle(request.app)
        course = await self._course(request, request.query_params)
        by = caller_of(request).tag
        task = await asyncio.to_thread(
            review.next_task, self.store, by, config=self.config, order=course.order, deployment=course.deployment
        )
        if task is None:
            return await self._note(request, DONE, course)
        return _go(f"task/{task.id}{course.query}")

    async def show_task(self, request: Request) -> Response:
        """The picture and the short list."""
        course = await self._course(request, request.query_params)
        sheet = await self._look(request)
        if not isinstance(sheet, Sheet):
            return await self._note(request, NOTES[sheet], course)
        return await self._sheet(request, sheet, course)

    async def show_picture(self, request: Request) -> Response:
        """For who holds it, and for admins."""
        sheet = await self._look(request)
        if isinstance(sheet, Sheet):
            sha256: str | None = sheet.image_sha256
        elif caller_of(request).may("admin"):
            task = await asyncio.to_thread(self.store.reviews.get, request.path_params["task_id"])
            sha256 = None if task is None else await asyncio.to_thread(review.find_picture, self.store, task)
        else:
            raise Forbidden("picture", got="one that you do not hold", want="your own claim", hint="Take the next one.")
        async with self.decoding:
            body = await asyncio.to_thread(read_picture, self.store, sha256 or "", limits=self.limits)
        return Response(body, headers=_NO_STORE, media_type="image/jpeg")

    async def answer(self, request: Request) -> Response:
        """Keep it, and go on to the next."""
        fields = await read_form_fields(request.headers, request.receive)
        course = await self._course(request, fields)
        task_id, by = request.path_params["task_id"], caller_of(request).tag
        answer = _SAID.get(fields.get("say", "")) or fields.get("label", "")
        try:
            task = await asyncio.to_thread(
                review.answer_task,
                self.store,
                task_id,
                by,
                answer,
                config=self.config,
                seconds=self._seconds(fields.get("shown", "")),
            )
        except (Conflict, NotFound):
            sheet = await self._look(request)
            return await self._note(request, NOTES["lapsed" if isinstance(sheet, Sheet) else sheet], course)
        self._tell(request.app, [task] if task.state != "open" else [])
        return _go(f"../../next{course.query}")

    async def undo(self, request: Request) -> Response:
        """Take the last answer back, and go there again."""
        fields = await read_form_fields(request.headers, request.receive)
        course = await self._course(request, fields)
        try:
            task = await asyncio.to_thread(review.undo_last, self.store, caller_of(request).tag, config=self.config)
        except Conflict:
            return await self._note(request, LATE_UNDO, course)
        return _go(f"task/{task.id}{course.query}")

    async def release(self, request: Request) -> Response:
        """Give it back, and stop for now."""
        fields = await read_form_fields(request.headers, request.receive)
        course = await self._course(request, fields)
        task_id, by = request.path_params["task_id"], caller_of(request).tag
        await asyncio.to_thread(review.release_task, self.store, task_id, by)
        return _go(f"../../../review{course.query}")

    async def why(self, request: Request) -> Response:
        """Where the model looked: written down first, so that the answer counts as one that was not blind."""
        fields = await read_form_fields(request.headers, request.receive)
        course = await self._course(request, fields)
        sheet = await self._look(request)
        if not isinstance(sheet, Sheet):
            return await self._note(request, NOTES[sheet], course)
        by, request_id = caller_of(request).tag, request_id_of(request)
        version = await asyncio.to_thread(self.whys.find_version, sheet.task)
        heat, words = "", "No model is kept that could say why."
        if version is not None:
            await asyncio.to_thread(review.note_why, self.store, sheet.task.id, by, request_id=request_id)
            try:
                async with self.explaining:
                    heat, where = await asyncio.to_thread(self.whys.explain, version, sheet.image_sha256)
                words = f"Lit: where the model looked.{f' Most of it lies {where}.' if where else ''}"
            except DrivetrainError as exc:
                words = f"The model cannot say why. {exc.message}"
        shown = fields.get("shown", "")
        return await self._sheet(request, sheet, course, heat=heat, words=words, shown=shown)

    async def settle(self, app: FastAPI) -> None:
        """Let stand what can no longer be taken back, and tell who waits for it."""
        self._tell(app, await asyncio.to_thread(review.settle_due, self.store, config=self.config))

    def _tell(self, app: FastAPI, settled: list[Task]) -> None:
        for task in settled if app.state.rollouts is not None else ():
            app.state.rollouts.settled(task)

    async def _look(self, request: Request) -> Sheet | Trouble:
        task_id, by = request.path_params["task_id"], caller_of(request).tag
        return await asyncio.to_thread(review.look_at, self.store, task_id, by, config=self.config)

    async def _course(self, request: Request, given: Any) -> _Course:
        order, name = given.get("order") or "deadline", given.get("rollout") or None
        if order not in dict(ORDERS):
            raise InvalidInput("order", got=str(order)[:80], want=", ".join(dict(ORDERS)))
        deployment = None if name is None else await asyncio.to_thread(self.store.deployments.get, name)
        if name is not None and deployment is None:
            raise InvalidInput("rollout", got=str(name)[:80], want="the name of one that was started")
        return _Course(order=cast(Order, order), deployment=deployment)

    def _seconds(self, shown: str) -> float | None:
        try:
            return self.store.reviews.clock() - float(shown)
        except ValueError:
            return None

    async def _sheet(
        self, request: Request, sheet: Sheet, course: _Course, *, heat: str = "", words: str = "", shown: str = ""
    ) -> Response:
        by, now = caller_of(request).tag, self.store.reviews.clock()
        waiting = await asyncio.to_thread(count_waiting, self.store.reviews, by=by, soon_s=0.0)
        return await self._page(
            request,
            "review_task.html",
            course=course,
            sheet=sheet,
            left_s=max(0, round(sheet.until - now)),
            shown=shown or f"{now:.1f}",
            has_search=len(sheet.labels) >= _SEARCH_FROM,
            can_explain=await asyncio.to_thread(self.whys.find_version, sheet.task) is not None,
            n_more=max(0, waiting.open - waiting.for_others - 1),
            heat=heat,
            why_words=words,
        )

    async def _note(self, request: Request, note: Note, course: _Course) -> Response:
        return await self._page(request, "review_note.html", note.status, course=course, note=note)

    async def _page(
        self, request: Request, template: str, status: int = 200, *, course: _Course, **told: object
    ) -> Response:
        last = await asyncio.to_thread(review.find_undo, self.store, caller_of(request).tag, config=self.config)
        undo = None
        if last is not None:
            left_s = last[1].at + self.config.undo_s - self.store.reviews.clock()
            undo = {"said": say(last[1].answer), "left_s": max(0, round(left_s))}
        reply = render_page(request, template, status, page="review", course=course, undo=undo, **told)
        reply.headers["Cache-Control"] = "no-store"
        return reply


def _go(to: str) -> Response:
    return Response(status_code=303, headers={"Location": to, **_NO_STORE})
