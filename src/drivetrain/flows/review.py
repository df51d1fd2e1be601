"""One person at the queue of reviews: the next picture, the short list, the answer, the undo.

An answer is on disk when it is told, and held for some seconds before it settles anything: until then nothing has used
it, so it can be taken back. Then `settle_due` lets it stand. Nothing that the model said is told before.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from drivetrain.errors import Conflict, InvalidConfig, InvalidInput
from drivetrain.rollout.reviewing import CANNOT_TELL, NONE_OF_THESE, settle
from drivetrain.rollout.share import place_of
from drivetrain.store.deployments import Deployment
from drivetrain.store.review_queue import count_answers, find_held, find_holder, find_last, was_noted
from drivetrain.store.reviews import Order, ReviewAnswer, State, Task
from drivetrain.store.store import Store

__all__ = [
    "ReviewConfig",
    "Sheet",
    "Trouble",
    "answer_task",
    "find_picture",
    "find_undo",
    "list_labels",
    "look_at",
    "next_task",
    "note_why",
    "release_task",
    "settle_due",
    "undo_last",
]

# why a person cannot look at a task now
Trouble = Literal["unknown", "settled", "overdue", "answered", "taken", "lapsed", "erased"]

_NEAR_DUE_S = 60.0  # an answer so shortly before its time stands at once: held, it might come too late
_TRIED_MAX = 100  # tasks whose picture is gone that are passed over in one search
_SECONDS_MAX = 3600.0  # who took longer was elsewhere
_WHY = "review.why"
_log = logging.getLogger("drivetrain.flows")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewConfig:
    """How pictures are handed out."""

    lease_s: float = 300.0  # a picture is one person's alone for so long
    undo_s: float = 10.0  # an answer can be taken back for so long; 0: it stands at once
    gold_share: float = 0.05  # of the pictures that a person sees: those whose label is known
    is_set_first: bool = True  # the labels that a model thinks possible lead the short list

    def __post_init__(self) -> None:
        if self.lease_s <= 0 or self.undo_s < 0 or not 0 <= self.gold_share <= 1:
            got = f"lease {self.lease_s:g} s, undo {self.undo_s:g} s, gold {self.gold_share:g}"
            raise InvalidConfig("review", got=got, want="above 0, at least 0, 0 to 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a person is given: a picture and labels to choose from. Nothing that a model said of it."""

    task: Task
    until: float  # it is theirs so long, seconds since 1970
    labels: tuple[str, ...]
    n_answers: int  # that this person gave before
    image_sha256: str


def next_task(
    store: Store, by: str, *, config: ReviewConfig, order: Order = "deadline", deployment: Deployment | None = None
) -> Task | None:
    """The next picture for this person, theirs for `lease_s`; None where nothing waits for them.

    Now and then it is one whose label is known, of the model that would have been next, so that nobody can tell.
    """
    deployment_id = None if deployment is None else deployment.id
    skip: list[str] = []
    while len(skip) < _TRIED_MAX:
        task = store.reviews.claim(
            by, order=order, lease_s=config.lease_s, skip=skip, is_gold=False, deployment_id=deployment_id
        )
        if task is None:
            return None
        if find_picture(store, task) is not None:
            return _exchange(store, by, task, config=config)
        _log.warning("the picture of the review %s is not there: passed over", task.id)
        store.reviews.release(task.id, by)
        skip.append(task.id)
    return None


def _exchange(store: Store, by: str, task: Task, *, config: ReviewConfig) -> Task:
    """The task, or in its place one whose label is known. Told by a hash: asked again, it is the same."""
    place = place_of(f"{by}:{count_answers(store.reviews, by)}", salt="gold")
    stored = store.predictions.get(task.prediction_id)
    if place >= config.gold_share or stored is None:
        return task
    gold = store.reviews.claim(by, order="deadline", lease_s=config.lease_s, is_gold=True, model=stored.model)
    if gold is None:
        return task
    if find_picture(store, gold) is None:
        store.reviews.release(gold.id, by)
        return task
    store.reviews.release(task.id, by)
    return gold


def look_at(store: Store, task_id: str, by: str, *, config: ReviewConfig) -> Sheet | Trouble:
    """What this person sees of a task that they hold, or why they see nothing."""
    task = store.reviews.get(task_id)
    if task is None:
        return "unknown"
    has_answered = any(one.by == by for one in store.reviews.answers(task_id))
    picture = find_picture(store, task)
    if task.state != "open" or has_answered:
        if has_answered:
            return "answered"
        return "overdue" if task.state == "overdue" else "erased" if picture is None else "settled"
    holder = find_holder(store.reviews, task_id)
    if holder is None or holder[0] != by:
        return "lapsed" if holder is None else "taken"
    if picture is None:
        return "erased"
    return Sheet(
        task=task,
        until=holder[1],
        labels=list_labels(store, task, is_set_first=config.is_set_first),
        n_answers=count_answers(store.reviews, by),
        image_sha256=picture,
    )


def answer_task(
    store: Store,
    task_id: str,
    by: str,
    answer: str,
    *,
    config: ReviewConfig,
    seconds: float | None = None,
) -> Task:
    """Keep what a person says. It settles nothing for `undo_s`, unless the task is due by then.

    `answer` is a label of the short list, NONE_OF_THESE or CANNOT_TELL. Raises InvalidInput for another, Conflict where
    the task is no longer theirs.
    """
    task = store.reviews.get(task_id)
    known = () if task is None else list_labels(store, task, is_set_first=False)
    if task is not None and answer not in (*known, NONE_OF_THESE, CANNOT_TELL):
        raise InvalidInput("answer", got=answer[:80], want="a label of the list, or one of the two below it")
    is_near = task is not None and task.due_at is not None and task.due_at < store.reviews.clock() + _NEAR_DUE_S
    return store.reviews.answer(
        task_id,
        by,
        answer,
        settle=lambda said: _settle(task, said),
        seconds=None if seconds is None else min(max(0.0, seconds), _SECONDS_MAX),
        saw_model=was_noted(store.reviews, action=_WHY, by=by, subject=task_id),
        hold_s=0.0 if is_near else config.undo_s,
    )


def find_undo(store: Store, by: str, *, config: ReviewConfig) -> tuple[Task, ReviewAnswer] | None:
    """This person's last answer, while it can be taken back."""
    return find_last(store.reviews, by, since=store.reviews.clock() - config.undo_s)


def undo_last(store: Store, by: str, *, config: ReviewConfig) -> Task:
    """Take back the last answer; its task is theirs again, and what they hold besides is free. Raises Conflict."""
    last = find_undo(store, by, config=config)
    if last is None:
        raise Conflict("undo", got="an answer that stands by now, or none", want=f"one of the last {config.undo_s:g} s")
    since = store.reviews.clock() - config.undo_s
    task = store.reviews.take_back(last[0].id, by, since=since, lease_s=config.lease_s)
    for held in find_held(store.reviews, by):
        if held != task.id:
            store.reviews.release(held, by)
    return task


def release_task(store: Store, task_id: str, by: str) -> None:
    """Leave a picture to others."""
    store.reviews.release(task_id, by)


def settle_due(store: Store, *, config: ReviewConfig) -> list[Task]:
    """Let stand what can no longer be taken back; returns the tasks that this settled, for who must be told."""
    return store.reviews.settle_held(before=store.reviews.clock() - config.undo_s, settle=_settle)


def note_why(store: Store, task_id: str, by: str, *, request_id: str = "") -> None:
    """Write down that this person had the model's view shown, before it is: their answer is then not blind."""
    store.audit(_WHY, by=by, subject=task_id, request_id=request_id)


def find_picture(store: Store, task: Task) -> str | None:
    """The sha256 of the picture; None where it is gone, or was never kept."""
    routed, stored = store.requests.get(task.prediction_id), store.predictions.get(task.prediction_id)
    sha256 = routed.image_sha256 if routed is not None else None if stored is None else stored.sha256
    image = None if sha256 is None else store.images.find(sha256)
    return None if image is None or image.forgotten_at is not None else image.sha256


def list_labels(store: Store, task: Task, *, is_set_first: bool) -> tuple[str, ...]:
    """The short list: what the models think possible, both sets as one, then the others; each part by the alphabet.

    Neither part is marked, and neither model comes before the other.
    """
    answers, classes = _answers_of(store, task)
    leading = {label for answer in answers for label in answer.get("label_set", ())} if is_set_first else set()
    known = {label for answer in answers for label in answer.get("probabilities", ())} | set(classes)
    return (*sorted(leading & known, key=_by_alphabet), *sorted(known - leading, key=_by_alphabet))


def _answers_of(store: Store, task: Task) -> tuple[list[Mapping[str, Any]], list[str]]:
    """What models said of the picture, and the classes that the roll-out's candidate knows."""
    stored, routed = store.predictions.get(task.prediction_id), store.requests.get(task.prediction_id)
    given = [None if stored is None else stored.answer]
    if routed is not None:
        given = [routed.candidate, routed.incumbent]
    deployment = None if task.deployment_id is None else store.deployments.get(task.deployment_id)
    version = None if deployment is None else store.versions.get(deployment.candidate)
    classes = [] if version is None else version.facts.get("classes", [])
    return [one for one in given if one], list(classes)


def _by_alphabet(label: str) -> tuple[str, str]:
    return label.casefold(), label


def _settle(task: Task | None, said: list[str]) -> tuple[State, str | None]:
    """One whose label is known stays open for everybody: it is never settled, and counts nowhere."""
    assert task is not None  # the store looked it up
    if task.gold is not None:
        return "open", None
    verdict = settle(said, people=task.people)
    return verdict.state, verdict.label
