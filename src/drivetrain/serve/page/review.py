"""What the pages of the review queue say: ages and shares in words, and why a picture cannot be looked at now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivetrain.flows.review import Trouble
from drivetrain.flows.review_status import QueueFacts
from drivetrain.rollout.reviewing import CANNOT_TELL, NONE_OF_THESE, Agreement
from drivetrain.serve.page.words import share

__all__ = ["DONE", "LATE_UNDO", "NOTES", "ORDERS", "Note", "QueueView", "age", "say", "view_queue"]

_DASH = "–"
_SPACE = "\N{NO-BREAK SPACE}"

ORDERS = (
    ("deadline", "what is due soonest"),
    ("risk", "what is likeliest wrong"),
    ("audit", "what was drawn by chance"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A page in place of a picture."""

    status: int
    title: str
    words: str
    button: str = "Next picture"


NOTES: dict[Trouble, Note] = {
    "unknown": Note(status=404, title="No such picture", words="Nobody was asked about a picture of this address."),
    "settled": Note(
        status=409, title="Others were faster", words="This picture has its label. Thank you all the same."
    ),
    "overdue": Note(
        status=410, title="Too late for this one", words="The time for an answer to this picture is over. It is closed."
    ),
    "answered": Note(
        status=409,
        title="You answered this one",
        words="Each person answers a picture once. It can be taken back while its bar is shown, and not after.",
    ),
    "taken": Note(
        status=409,
        title="Somebody else has it",
        words="You had this picture for five minutes; then it went to another person.",
    ),
    "lapsed": Note(
        status=409,
        title="Your five minutes are over",
        words="A picture is yours for five minutes, so that none is forgotten. Take the next one: it may be the same.",
    ),
    "erased": Note(
        status=410,
        title="This picture is gone",
        words="It was erased, or cannot be found. Nobody has to answer for it.",
    ),
}
DONE = Note(
    status=200,
    title="All done",
    words="No picture waits for you. Come back later, or leave this page open and look again.",
    button="Look again",
)
LATE_UNDO = Note(
    status=409, title="It stands by now", words="An answer can be taken back while its bar is shown, and not after."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """The overview, every word chosen."""

    lead: str
    notes: Sequence[str]
    facts: Sequence[tuple[str, str, str]]  # what, number, its meaning
    load: Sequence[Sequence[str]]
    agreement: Sequence[Sequence[str]]
    gold: Sequence[Sequence[str]] | None
    has_work: bool


def view_queue(facts: QueueFacts, *, is_alone: bool) -> QueueView:
    """`is_alone`: nobody has to say who they are, so there is one person, whoever sits there."""
    notes = []
    if facts.for_others:
        who = "another person has to look" + (". Add people with drivetrain user add" if is_alone else "")
        notes.append(f"{_count(facts.for_others, 'picture')} you answered already: {who}.")
    if facts.late:
        verb = "is" if facts.late == 1 else "are"
        notes.append(f"{_count(facts.late, 'picture')} {verb} past due: answers to them come too late.")
    return QueueView(
        lead=_lead(facts),
        notes=notes,
        facts=[
            ("Waiting", f"{facts.open:,}", f"{facts.for_you:,} of them for you" if facts.for_others else ""),
            ("Oldest waits", age(facts.oldest_s), ""),
            ("Due within the hour", f"{facts.due_soon:,}", ""),
            ("Your answers today", f"{facts.yours_today:,}", "since midnight, UTC"),
        ],
        load=[
            [row.name + (" (you)" if row.is_you else ""), f"{row.today:,}", f"{row.week:,}", _took(row.seconds)]
            for row in facts.load
        ],
        agreement=[[row.rollout, *_agreement(row.agreement)] for row in facts.agreement],
        gold=None if facts.gold is None else [[row.name, *_agreement(row.agreement)[:2]] for row in facts.gold],
        has_work=facts.for_you > 0,
    )


def age(seconds: float | None) -> str:
    """In one unit: 40 s, 3 min, 2 h, 4 days."""
    if seconds is None:
        return _DASH
    if seconds < 60:
        return f"{seconds:.0f}{_SPACE}s"
    if seconds < 5400:
        return f"{seconds / 60:.0f}{_SPACE}min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.0f}{_SPACE}h"
    return f"{seconds / 86_400:.0f}{_SPACE}days"


def say(answer: str) -> str:
    """What a person said, as the page tells it back."""
    return {NONE_OF_THESE: "None of these", CANNOT_TELL: "I cannot tell"}.get(answer, answer)


def _lead(facts: QueueFacts) -> str:
    if not facts.open:
        return "Nothing waits. New pictures come here as soon as a person is needed."
    if not facts.for_you:
        return "Nothing waits for you."
    return f"{_count(facts.for_you, 'picture')} {'waits' if facts.for_you == 1 else 'wait'} for a person to look."


def _agreement(told: Agreement) -> list[str]:
    """How many, how often the same, kappa."""
    same = told.same
    if same.share is None:
        return ["0", _DASH, _DASH]
    between = f"{share(same.share)} ({100 * same.low:.0f} to {100 * same.high:.0f})"
    kappa = _DASH if told.kappa is None else f"{told.kappa:.2f}"
    return [f"{same.n:,}", between, kappa]


def _took(seconds: float | None) -> str:
    return _DASH if seconds is None else f"{seconds:.1f}{_SPACE}s"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
