"""People at the queue: what they are given, what their answers settle, and what can be taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, NotFound
from drivetrain.flows.review import (
    ReviewConfig,
    Sheet,
    answer_task,
    find_undo,
    list_labels,
    look_at,
    next_task,
    note_why,
    release_task,
    settle_due,
    undo_last,
)
from drivetrain.flows.review_gold import add_gold
from drivetrain.flows.review_status import describe_queue, name_people
from drivetrain.flows.rollout_evidence import gather_evidence
from drivetrain.rollout.reviewing import CANNOT_TELL, NONE_OF_THESE
from drivetrain.store.deployments import Deployment
from drivetrain.store.erasure import forget
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store, open_store

from .review_queue import ask, draw, say, start
from .rollout_traffic import Clock, write_bundle

PLAIN = ReviewConfig(gold_share=0.0)
AT_ONCE = ReviewConfig(gold_share=0.0, undo_s=0.0)


@pytest.fixture
def bears(store: Store, tmp_path: Path) -> Deployment:
    return start(store, write_bundle(tmp_path / "bears.dt"))


def take(store: Store, by: str, config: ReviewConfig = PLAIN, **given: Any) -> Task | None:
    return next_task(store, by, config=config, **given)


def settled(store: Store, clock: Clock, *, after_s: float = 11.0) -> list[tuple[str, str, str | None]]:
    clock.now += after_s
    return [(one.id, one.state, one.truth) for one in settle_due(store, config=PLAIN)]


def test_an_answer_settles_once_it_can_no_longer_be_taken_back(store: Store, bears: Deployment, clock: Clock) -> None:
    given = ask(store, bears)
    assert take(store, "ann") == given
    assert answer_task(store, given.id, "ann", "polar", config=PLAIN, seconds=3.0).state == "open"
    assert [one.answer for one in store.reviews.answers(given.id)] == ["polar"]  # on disk, whatever happens next
    assert settle_due(store, config=PLAIN) == []
    assert take(store, "bob") is None  # it is answered: nobody else is given it meanwhile
    assert settled(store, clock, after_s=9.9) == []
    assert settled(store, clock, after_s=0.2) == [(given.id, "labelled", "polar")]
    assert settled(store, clock) == []
    assert [(review, truth) for _, review, truth in store.requests.outcomes(bears.id)] == [("labelled", "polar")]


def test_an_answer_is_settled_after_a_restart(store: Store, database_url: str, bears: Deployment, clock: Clock) -> None:
    given = ask(store, bears)
    take(store, "ann")
    answer_task(store, given.id, "ann", "polar", config=PLAIN)
    clock.now += 4000.0  # nobody was there to settle it, and the claim is long over
    with open_store(database_url, clock=clock) as again:
        assert [one.truth for one in settle_due(again, config=PLAIN)] == ["polar"]
        assert take(again, "bob") is None


def test_undo(store: Store, bears: Deployment, clock: Clock) -> None:
    first, second = ask(store, bears, due_s=1000.0), ask(store, bears, due_s=2000.0)
    take(store, "ann")
    answer_task(store, first.id, "ann", "polar", config=PLAIN)
    assert take(store, "ann") == second
    clock.now += 5
    last = find_undo(store, "ann", config=PLAIN)
    assert last is not None
    assert (last[0], last[1].answer) == (first, "polar")
    assert undo_last(store, "ann", config=PLAIN) == first
    assert store.reviews.answers(first.id) == []
    assert take(store, "bob") == second  # what ann held besides is free
    assert take(store, "ann") == first
    answer_task(store, first.id, "ann", "black", config=PLAIN)
    assert settled(store, clock) == [(first.id, "labelled", "black")]


def test_what_cannot_be_taken_back(store: Store, bears: Deployment, clock: Clock) -> None:
    def undo(by: str, config: ReviewConfig = PLAIN) -> None:
        with pytest.raises(Conflict, match="undo: got an answer that stands by now, or none"):
            undo_last(store, by, config=config)

    given = ask(store, bears)
    undo("ann")
    take(store, "ann")
    answer_task(store, given.id, "ann", "polar", config=PLAIN)
    undo("bob")  # not his
    clock.now += 4
    undo("ann", ReviewConfig(undo_s=3.0))
    clock.now += 6
    undo("ann")
    assert settled(store, clock, after_s=0.0) == [(given.id, "labelled", "polar")]
    undo("ann")
    with pytest.raises(Conflict, match="whose answer stands"):  # two tabs: the one that came too late
        store.reviews.take_back(given.id, "ann", since=0.0, lease_s=300.0)


def test_nothing_is_held_where_it_would_come_too_late(store: Store, bears: Deployment, clock: Clock) -> None:
    soon, later = ask(store, bears, due_s=50.0), ask(store, bears, due_s=100.0)
    for task, state in ((soon, "labelled"), (later, "open")):
        assert take(store, "ann") == task
        assert answer_task(store, task.id, "ann", "polar", config=PLAIN).state == state
    assert answer_task(store, (take_new(store, bears)).id, "ann", "polar", config=AT_ONCE).state == "labelled"


def take_new(store: Store, bears: Deployment) -> Task:
    task = ask(store, bears)
    assert take(store, "ann") == task
    return task


def test_two_people_and_a_third(store: Store, bears: Deployment, clock: Clock) -> None:
    given = ask(store, bears, people=2)
    for by, answer in (("ann", "polar"), ("bob", "black")):
        assert take(store, by) == given
        answer_task(store, given.id, by, answer, config=PLAIN)
        assert settled(store, clock) == []
        assert take(store, by) is None
    assert describe_queue(store, "ann").for_others == 1
    assert describe_queue(store, "cem").for_you == 1
    assert take(store, "cem") == given
    answer_task(store, given.id, "cem", "black", config=PLAIN)
    assert settled(store, clock) == [(given.id, "labelled", "black")]


@pytest.mark.parametrize(
    ("said", "state", "truth"),
    [
        (["polar", "polar"], "labelled", "polar"),
        (["polar", "black", "teddy"], "unclear", None),
        ([CANNOT_TELL, CANNOT_TELL], "unclear", None),
        ([NONE_OF_THESE, NONE_OF_THESE], "labelled", NONE_OF_THESE),
    ],
)
def test_what_people_come_to(
    said: list[str], state: str, truth: str | None, store: Store, bears: Deployment, clock: Clock
) -> None:
    given = ask(store, bears, people=2)
    told: list[tuple[str, str, str | None]] = []
    for number, answer in enumerate(said):
        take(store, f"person {number}")
        answer_task(store, given.id, f"person {number}", answer, config=PLAIN)
        told += settled(store, clock)
    assert told == [(given.id, state, truth)]


def test_the_order_that_is_asked_for(store: Store, bears: Deployment) -> None:
    soon = ask(store, bears, due_s=3000.0, risk=0.1)
    risky = ask(store, bears, due_s=5000.0, risk=0.9, why="disagreement")
    drawn = ask(store, bears, due_s=7000.0, risk=0.2, why="audit")
    for by, order, wanted in (("ann", "deadline", soon), ("bob", "risk", risky), ("cem", "audit", drawn)):
        assert take(store, by, order=order) == wanted
        release_task(store, wanted.id, by)


def test_of_one_rollout(store: Store, bears: Deployment, tmp_path: Path, clock: Clock) -> None:
    ask(store, bears)
    nobody = Deployment(
        id="0" * 26, name="cats", model="cats", candidate=bears.candidate, salt="s", stage="manual", share=0.0,
        started_at=clock.now, started_by="ann",
    )  # fmt: skip
    assert take(store, "ann", deployment=nobody) is None
    assert take(store, "ann", deployment=bears) is not None
    assert describe_queue(store, "ann", deployment=nobody).open == 0
    assert describe_queue(store, "ann", deployment=bears).open == 1


def test_the_lease(store: Store, bears: Deployment, clock: Clock) -> None:
    given = ask(store, bears)
    take(store, "ann")
    sheet = look_at(store, given.id, "ann", config=PLAIN)
    assert isinstance(sheet, Sheet)
    assert (sheet.task, sheet.until, sheet.n_answers) == (given, clock.now + 300, 0)
    assert look_at(store, given.id, "bob", config=PLAIN) == "taken"
    clock.now += 300
    assert look_at(store, given.id, "ann", config=PLAIN) == "lapsed"
    with pytest.raises(Conflict, match="not claimed, or no longer"):
        answer_task(store, given.id, "ann", "polar", config=PLAIN)
    assert take(store, "bob", ReviewConfig(gold_share=0.0, lease_s=60.0)) == given
    assert look_at(store, given.id, "ann", config=PLAIN) == "taken"
    clock.now += 60
    assert look_at(store, given.id, "bob", config=PLAIN) == "lapsed"


def test_why_a_task_cannot_be_looked_at(store: Store, bears: Deployment, clock: Clock) -> None:
    def seen(task: Task, by: str = "ann") -> object:
        return look_at(store, task.id, by, config=PLAIN)

    assert look_at(store, "nope", "ann", config=PLAIN) == "unknown"
    given = ask(store, bears)
    assert seen(given) == "lapsed"  # free
    take(store, "bob")
    answer_task(store, given.id, "bob", "polar", config=PLAIN)
    assert seen(given, "bob") == "answered"
    settled(store, clock)
    assert seen(given) == "settled"
    late = ask(store, bears, due_s=5.0)
    store.reviews.expire(clock.now + 6)
    assert seen(late) == "overdue"
    gone = ask(store, bears)
    assert take(store, "ann") == gone
    forget(store, image=store.requests.get(gone.prediction_id).image_sha256)  # type: ignore[union-attr]
    assert seen(gone) == "erased"
    assert store.reviews.get(gone.id).state == "unclear"  # type: ignore[union-attr]


def test_a_picture_that_is_not_there_holds_up_nobody(store: Store, bears: Deployment) -> None:
    lost = ask(store, bears, due_s=10.0, is_kept=False)
    given = ask(store, bears, due_s=20.0)
    assert take(store, "ann") == given
    assert look_at(store, lost.id, "ann", config=PLAIN) == "lapsed"  # it was let go
    assert store.reviews.get(lost.id).state == "open"  # type: ignore[union-attr]  # the folder may come back


def test_the_short_list(store: Store, bears: Deployment) -> None:
    classes = ("teddy", "Asian", "black", "polar", "grizzly")
    new = say("teddy", label_set=("teddy", "polar"), classes=classes)
    old = say("black", label_set=("black",), classes=classes)
    task = ask(store, bears, candidate=new, incumbent=old)
    of_bundle = ["circle", "square"]  # what the candidate's own bundle knows
    everything = ["Asian", "black", "circle", "grizzly", "polar", "square", "teddy"]
    leading = ["black", "polar", "teddy"]  # of both models, so that neither leads
    assert list_labels(store, task, is_set_first=False) == tuple(everything)
    assert list_labels(store, task, is_set_first=True) == (*leading, "Asian", "circle", "grizzly", "square")
    assert set(of_bundle) < set(everything)
    take(store, "ann")
    shown = [look_at(store, task.id, "ann", config=ReviewConfig(is_set_first=first)) for first in (True, False)]
    assert [sheet.labels[0] for sheet in shown if isinstance(sheet, Sheet)] == ["black", "Asian"]


def test_only_what_the_list_holds_is_an_answer(store: Store, bears: Deployment) -> None:
    task = ask(store, bears)
    take(store, "ann")
    for wrong in ("walrus", "", "Polar"):
        with pytest.raises(InvalidInput, match=r"answer: got .*; want a label of the list"):
            answer_task(store, task.id, "ann", wrong, config=PLAIN)
    with pytest.raises(NotFound):
        answer_task(store, "nope", "ann", "polar", config=PLAIN)
    assert answer_task(store, task.id, "ann", NONE_OF_THESE, config=AT_ONCE).truth == NONE_OF_THESE


def test_whoever_asked_why_did_not_answer_blind(store: Store, bears: Deployment) -> None:
    tasks = [ask(store, bears, due_s=1000.0 * i) for i in (1, 2)]
    for task, by in zip(tasks, ("ann", "bob"), strict=True):
        assert take(store, by) == task
    note_why(store, tasks[0].id, "ann")
    for task, by in zip(tasks, ("ann", "bob"), strict=True):
        answer_task(store, task.id, by, "polar", config=PLAIN, seconds=-3.0 if by == "ann" else 99_999.0)
    kept = [store.reviews.answers(task.id)[0] for task in tasks]
    assert [(one.saw_model, one.seconds) for one in kept] == [(True, 0.0), (False, 3600.0)]


def test_what_is_allowed() -> None:
    for wrong in ({"lease_s": 0.0}, {"undo_s": -1.0}, {"gold_share": 1.5}):
        with pytest.raises(InvalidConfig, match="review: got"):
            ReviewConfig(**wrong)


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    folder = tmp_path / "gold"
    for label, colours in {"circle": ("red", "blue"), "square": ("lime",), NONE_OF_THESE: ("black",)}.items():
        (folder / label).mkdir(parents=True)
        for colour in colours:
            (folder / label / f"{colour}.png").write_bytes(draw(colour))
    return folder


ALL_GOLD = ReviewConfig(gold_share=1.0, undo_s=0.0)


def test_pictures_of_known_label(store: Store, bears: Deployment, gold: Path, clock: Clock) -> None:
    added = add_gold(store, gold)
    assert (added.rollout, added.n_known, added.unreadable) == (bears.name, 0, ())
    assert added.by_label == {"circle": 2, NONE_OF_THESE: 1, "square": 1}
    again = add_gold(store, gold, rollout=bears.name)
    assert (again.by_label, again.n_known) == ({}, 4)
    assert take(store, "ann", ALL_GOLD) is None  # they come with the others, never alone
    real = ask(store, bears)
    assert describe_queue(store, "ann").open == 1 == store.reviews.open_count(bears.id)
    for by in ("ann", "bob"):
        seen = []
        while (task := take(store, by, ALL_GOLD)) is not None and task.gold is not None:
            assert take(store, by, ALL_GOLD) == task  # asked again, it is the same
            sheet = look_at(store, task.id, by, config=ALL_GOLD)
            assert isinstance(sheet, Sheet)
            assert sheet.labels[:2] in (("circle", "square"), ("square", "circle"))
            answer = answer_task(store, task.id, by, "circle", config=ALL_GOLD)
            assert answer.state == "open"  # the next person sees it too
            seen.append(task.gold)
        assert sorted(seen) == ["circle", "circle", NONE_OF_THESE, "square"]
        assert task == real
        store.reviews.release(real.id, by)
    facts = describe_queue(store, "ann", with_gold=True)
    assert facts.gold is not None
    assert [(row.name, row.agreement.same.hits, row.agreement.same.n) for row in facts.gold] == [
        ("ann", 2, 4),
        ("bob", 2, 4),
    ]
    assert describe_queue(store, "ann").gold is None
    evidence = gather_evidence(store, bears)
    assert evidence.n == 0  # the one real request waits; none of the four, nor of their eight answers, counts
    assert len(list(store.requests.outcomes(bears.id))) == 1
    assert store.reviews.pairs(bears.id) == []


def test_gold_comes_at_its_share(store: Store, bears: Deployment, gold: Path) -> None:
    add_gold(store, gold)
    ask(store, bears)
    people = [f"person {number}" for number in range(60)]
    counts = {}
    for share in (0.0, 0.3, 1.0):
        tasks = []
        for by in people:
            task = take(store, by, ReviewConfig(gold_share=share))
            assert task is not None
            tasks.append(task)
            store.reviews.release(task.id, by)
        counts[share] = sum(task.gold is not None for task in tasks)
    assert counts[0.0] == 0
    assert 8 <= counts[0.3] <= 30  # names are fixed, so it never varies
    assert counts[1.0] == 60


def test_gold_can_be_taken_back(store: Store, bears: Deployment, gold: Path, clock: Clock) -> None:
    add_gold(store, gold)
    ask(store, bears)
    held = ReviewConfig(gold_share=1.0)
    task = take(store, "ann", held)
    assert task is not None
    answer_task(store, task.id, "ann", "square", config=held)
    assert undo_last(store, "ann", config=held) == task
    answer_task(store, task.id, "ann", "circle", config=held)
    assert settled(store, clock) == []
    assert store.reviews.gold_pairs("ann") == [("circle", task.gold)]
    assert take(store, "bob", held) == task


def test_gold_that_is_refused(store: Store, bears: Deployment, gold: Path) -> None:
    with pytest.raises(NotFound, match="roll-out: got cats"):
        add_gold(store, gold, rollout="cats")
    (gold / "circle").rename(gold / "hexagon")
    with pytest.raises(InvalidInput, match="the class 'hexagon'; want classes among circle, square"):
        add_gold(store, gold)
    (gold / "hexagon").rename(gold / "circle")
    (gold / "square" / "broken.png").write_bytes(b"no picture")
    assert add_gold(store, gold).unreadable == ("square/broken.png",)
    (gold / "square" / "red.png").write_bytes(draw("red"))
    with pytest.raises(Conflict, match=r"square/red.png as 'square'; want 'circle'"):
        add_gold(store, gold)


def test_gold_needs_one_rollout(store: Store, gold: Path) -> None:
    with pytest.raises(InvalidInput, match="those that go on are: none"):
        add_gold(store, gold)


def test_what_the_overview_tells(store: Store, bears: Deployment, clock: Clock) -> None:
    clock.now = 1_700_006_400.0 + 50_000  # in the middle of a day
    ann = store.users.add("Ann", password="three green bottles", roles=["review"], by="test")
    yesterday = clock.now - 80_000
    clock.now = yesterday
    for by in (f"user:{ann.id}", "user:gone"):
        ask(store, bears, people=2)
        task = take(store, by)
        assert task is not None
        answer_task(store, task.id, by, "polar", config=AT_ONCE, seconds=4.0)
    clock.now = yesterday + 80_000
    ask(store, bears, due_s=3000.0)
    ask(store, bears, due_s=-5.0)
    facts = describe_queue(store, f"user:{ann.id}")
    assert (facts.open, facts.for_others, facts.for_you, facts.due_soon, facts.late) == (3, 0, 3, 1, 1)
    assert facts.oldest_s == 80_000.0
    assert facts.yours_today == 0
    assert [(row.name, row.is_you, row.today, row.week, row.seconds) for row in facts.load] == [
        ("Ann", True, 0, 1, 4.0),
        ("user:gone", False, 0, 1, 4.0),
    ]
    assert [(row.rollout, row.agreement.same.n) for row in facts.agreement] == [(bears.name, 1)]
    assert name_people(store)[f"user:{ann.id}"] == "Ann"


def test_agreement_is_told(store: Store, bears: Deployment, clock: Clock) -> None:
    for said in (("polar", "polar"), ("black", "black"), ("polar", "black")):
        task = ask(store, bears, people=2)
        for by, answer in zip(("ann", "bob"), said, strict=True):
            assert take(store, by) == task
            answer_task(store, task.id, by, answer, config=AT_ONCE)
        if said[0] != said[1]:
            take(store, "cem")
            answer_task(store, task.id, "cem", "polar", config=AT_ONCE)
    (row,) = describe_queue(store, "ann").agreement
    assert (row.agreement.same.hits, row.agreement.same.n) == (2, 3)
    assert row.agreement.kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
