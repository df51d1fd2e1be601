"""/review without a script: two people and a third, leases, undo, what is shown and to whom."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from drivetrain.flows.review import ReviewConfig, answer_task, next_task
from drivetrain.flows.review_gold import add_gold
from drivetrain.rollout.reviewing import CANNOT_TELL, NONE_OF_THESE
from drivetrain.serve.server import start_server
from drivetrain.store.erasure import forget

from .browsing import HOSTILE
from .doors import FAR, open_door
from .fakes import WAIT_S, call, make_app
from .reviewing import BEARS, Queue, Reviewer, draw, open_queue, say

KNOWN = ["circle", "square"]  # what the candidate's own bundle knows
ROUTES = [
    ("GET", "/review/next"),
    ("GET", "/review/task/x"),
    ("GET", "/review/task/x/picture"),
    ("POST", "/review/undo"),
    ("POST", "/review/task/x/answer"),
    ("POST", "/review/task/x/why"),
    ("POST", "/review/task/x/release"),
]


def told(answer: str) -> str:
    """As the bar with the last answer has it."""
    return f'<span class="you-said">You said</span> <strong>{answer}</strong>'


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    with open_queue(tmp_path) as opened:
        yield opened


def test_two_people_who_differ_call_a_third(queue: Queue) -> None:
    task = queue.ask(people=2)
    ann, bob, cem = (queue.person(name) for name in ("ann", "bob", "cem"))
    ann.next()
    assert (ann.task_id, ann.heading) == (task.id, "What is this?")
    assert bob.next().status_code == 200
    assert bob.heading == "All done"  # ann has it
    ann.answer("polar")
    assert ann.heading == "All done"
    assert told("polar") in ann.text
    bob.next()
    assert bob.heading == "All done"  # it can still be taken back
    queue.wait(11)
    bob.next()
    assert bob.task_id == task.id
    bob.answer("black")
    queue.wait(11)
    ann.next()
    assert ann.heading == "All done"  # each person once
    assert queue.told.settled_tasks == []
    cem.next()
    assert cem.task_id == task.id
    cem.answer("black")
    queue.wait(9)
    cem.next()
    assert queue.told.settled_tasks == []
    queue.wait(2)
    cem.next()
    assert [(one.id, one.state, one.truth) for one in queue.told.settled_tasks] == [(task.id, "labelled", "black")]
    names = {f"user:{user.id}": user.name for user in queue.store.users.list()}
    answers = queue.store.reviews.answers(task.id)
    assert [(names[one.by], one.answer) for one in answers] == [("ann", "polar"), ("bob", "black"), ("cem", "black")]


def test_next_at_once_and_undo(queue: Queue) -> None:
    first, second = (queue.ask(due_s=1000.0 * i) for i in (1, 2))
    ann = queue.person("ann")
    ann.next()
    queue.wait(7)
    ann.answer("black")
    assert ann.task_id == second.id
    assert queue.store.reviews.answers(first.id)[0].seconds == 7.0
    queue.wait(5)
    ann.press("undo")
    assert ann.task_id == first.id
    assert queue.store.reviews.answers(first.id) == []
    assert "You said" not in ann.text
    ann.press("answer", say="unsure")
    assert ann.task_id == second.id
    assert told("I cannot tell") in ann.text
    queue.wait(10)
    ann.press("undo")  # a page that stood open
    assert ann.page is not None
    assert (ann.page.status_code, ann.heading) == (409, "It stands by now")
    assert [one.answer for one in queue.store.reviews.answers(first.id)] == [CANNOT_TELL]
    ann.next()
    assert "You said" not in ann.text
    ann.press("answer", say="none")
    assert [one.answer for one in queue.store.reviews.answers(second.id)] == [NONE_OF_THESE]


def test_undo_can_be_turned_off(tmp_path: Path) -> None:
    with open_queue(tmp_path, review_undo_s=0) as queue:
        task = queue.ask()
        ann = queue.person("ann")
        ann.next()
        ann.answer("black")
        assert "You said" not in ann.text
        assert [(one.id, one.truth) for one in queue.told.settled_tasks] == [(task.id, "black")]


def test_a_lease_ends(queue: Queue) -> None:
    queue.ask()
    ann, bob = queue.person("ann"), queue.person("bob")
    ann.next()
    page = ann.page
    queue.wait(299)
    assert ann.get(f"/review/task/{ann.task_id}").status_code == 200
    queue.wait(1)
    assert ann.get(f"/review/task/{ann.task_id}").status_code == 409
    assert ann.heading == "Your five minutes are over"
    ann.page = page  # the page that stood open
    assert ann.answer("black").status_code == 409
    assert ann.heading == "Your five minutes are over"
    bob.next()
    ann.page = page
    ann.answer("black")
    assert ann.heading == "Somebody else has it"
    assert queue.store.reviews.answers(bob.task_id) == []
    bob.answer("polar")
    queue.wait(11)
    bob.next()
    ann.page = page
    ann.answer("black")
    assert ann.heading == "Others were faster"
    assert bob.get(f"/review/task/{ann.page.url.path.split('/')[3]}").status_code == 409
    assert bob.heading == "You answered this one"


def test_stop_gives_it_back(queue: Queue) -> None:
    task = queue.ask()
    ann, bob = queue.person("ann"), queue.person("bob")
    ann.next()
    ann.press("release")
    assert ann.heading == "Review"
    bob.next()
    assert bob.task_id == task.id


def test_pictures_that_nobody_can_look_at(queue: Queue) -> None:
    ann = queue.person("ann")
    task = queue.ask(picture=draw("red"))
    ann.next()
    page = ann.page
    forget(queue.store, image=queue.store.requests.get(task.prediction_id).image_sha256)  # type: ignore[union-attr]
    assert ann.get(f"/review/task/{task.id}").status_code == 410
    assert ann.heading == "This picture is gone"
    ann.page = page
    assert ann.answer("black").status_code == 410
    late = queue.ask()
    ann.next()
    queue.store.reviews.expire(queue.clock.now + 100_000)
    assert ann.get(f"/review/task/{late.id}").status_code == 410
    assert ann.heading == "Too late for this one"
    assert ann.get("/review/task/nope").status_code == 404
    assert ann.heading == "No such picture"
    assert "Next picture" in ann.text


def test_nothing_of_what_a_model_said_is_shown(queue: Queue) -> None:
    """The page is the same whichever label of its set a model took, and however sure it was."""
    ann = queue.person("ann")
    pages = []
    for label, sure in (("polar", 0.99), ("black", 0.41)):
        answer = say(label, label_set=("polar", "black"), decision="defer", reasons=["low_confidence"])
        task = queue.ask(candidate={**answer, "probability": sure}, incumbent=say(label, label_set=("polar",)))
        ann.next()
        assert ann.labels == ["black", "polar", "circle", "grizzly", "square", "teddy"]
        pages.append(ann.text.replace(task.id, "ID"))
        ann.press("release")
        queue.store.reviews.expire(queue.clock.now + 100_000)
    assert pages[0] == pages[1]


def test_the_list_can_be_in_the_order_of_the_alphabet(tmp_path: Path) -> None:
    with open_queue(tmp_path, review_set_first=0) as queue:
        queue.ask(candidate=say("teddy"))
        ann = queue.person("ann")
        ann.next()
        assert ann.labels == sorted([*BEARS, *KNOWN])


def test_picture_is_for_who_holds_it(queue: Queue) -> None:
    task = queue.ask(picture=draw("red", size=(300, 200)))
    ann, bob, boss = queue.person("ann"), queue.person("bob"), queue.person("boss", "admin")
    path = f"/review/task/{task.id}/picture"
    for anyone in (ann, bob):
        assert anyone.door.get(path).status_code == 403
    ann.next()
    reply = ann.door.get(path)
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "image/jpeg")
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert b"anna" not in reply.content  # made anew: what the camera wrote stays behind
    with Image.open(io.BytesIO(reply.content)) as image:
        assert image.size == (300, 200)
    assert bob.door.get(path).status_code == 403
    assert boss.door.get(path).status_code == 200
    assert boss.door.get("/review/task/nope/picture").status_code == 404
    queue.wait(300)
    assert ann.door.get(path).status_code == 403


def test_damaged_picture_can_be_answered(queue: Queue) -> None:
    queue.ask(picture=b"no picture")
    ann = queue.person("ann")
    assert ann.next().status_code == 200
    assert ann.door.get(f"/review/task/{ann.task_id}/picture").status_code == 422
    ann.press("answer", say="unsure")
    assert ann.heading == "All done"


@pytest.mark.parametrize("action", ["answer", "undo", "why", "release"])
def test_forms_of_other_sites_change_nothing(action: str, queue: Queue) -> None:
    for due_s in (1000.0, 2000.0):
        queue.ask(due_s=due_s)
    ann = queue.person("ann")
    ann.next()
    ann.answer("black")
    task = ann.task_id
    path = "/review/undo" if action == "undo" else f"/review/task/{task}/{action}"
    for fields in ({"label": "polar"}, {"label": "polar", "csrf": "0" * 43}):
        assert ann.door.post(path, data=fields).status_code == 403
    crossed = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert ann.door.post(path, data={"label": "polar", "csrf": ann.door.csrf()}, headers=crossed).status_code == 403
    assert queue.store.reviews.load(0.0)[0][1] == 1
    assert queue.store.reviews.answers(task) == []
    assert queue.store.audit.list(action="review.why") == []
    ann.next()
    assert ann.task_id == task  # still hers


def test_who_may_come_here(queue: Queue) -> None:
    caller, approver = queue.person("caller", "predict"), queue.person("approver", "approve")
    for method, path in [("GET", "/review"), *ROUTES]:
        sent = {"data": {"csrf": caller.door.csrf()}} if method == "POST" else {}
        assert caller.door.ask(method, path, **sent).status_code == 403
    for method, path in ROUTES:
        sent = {"data": {"csrf": approver.door.csrf()}} if method == "POST" else {}
        assert approver.door.ask(method, path, **sent).status_code == 403
    queue.ask()
    assert approver.get("/review").status_code == 200
    assert "Start" not in approver.text
    assert "Start" in queue.person("ann").get("/review").text
    stranger = queue.door.seen_from(FAR)
    reply = stranger.get("/review/next", headers={"Accept": "text/html"})
    assert (reply.status_code, reply.headers["Location"]) == (303, "../login?next=/review/next")
    assert stranger.post("/review/undo").status_code == 401
    program = queue.door.with_key("review")
    assert program.get("/review").status_code == 200


def test_without_a_store_there_is_no_queue() -> None:
    app = make_app()
    for method, path in [("GET", "/review"), *ROUTES]:
        reply = call(app, method, path)
        assert (reply.status_code, reply.json()["code"]) == (404, "not_found")
        assert "a server without memory" in reply.json()["message"]


def test_who_asked_why_is_written_down(queue: Queue) -> None:
    """This bundle's network has no maps, so it says none; that it was asked counts all the same."""
    first, second = queue.ask(due_s=1000.0), queue.ask(due_s=2000.0)
    ann = queue.person("ann")
    ann.next()
    shown = re.search(r'name="shown" value="([0-9.]+)"', ann.text)
    queue.wait(4)
    ann.press("why")
    assert "The model cannot say why." in ann.text
    assert shown
    assert f'name="shown" value="{shown[1]}"' in ann.text  # the time goes on
    assert [event.subject for event in queue.store.audit.list(action="review.why")] == [first.id]
    ann.answer("black")
    ann.answer("black")
    kept = [queue.store.reviews.answers(task.id)[0] for task in (first, second)]
    assert [(one.saw_model, one.seconds) for one in kept] == [(True, 4.0), (False, 0.0)]


def test_the_course_is_kept(queue: Queue) -> None:
    risky = queue.ask(due_s=9000.0, risk=0.9)
    soon = queue.ask(due_s=1000.0, risk=0.1)
    least = queue.ask(due_s=9000.0, risk=0.05)
    ann = queue.person("ann")
    assert '<option value="risk" selected>' in ann.get("/review?order=risk&rollout=bears").text
    assert "Of the roll-out <strong>bears</strong>" in ann.text
    ann.next("?order=risk&rollout=bears")
    assert ann.task_id == risky.id
    ann.answer("black")
    assert ann.task_id == soon.id
    ann.press("undo")
    assert ann.page is not None
    assert ann.page.url.query == b"order=risk&rollout=bears"
    ann.press("release")
    assert ann.page.url.query == b"order=risk&rollout=bears"
    ann.next()
    assert ann.task_id == soon.id
    assert least.id not in str(ann.page.url)
    assert ann.door.get("/review?order=luck").status_code == 422
    assert ann.door.get("/review/next?rollout=cats").status_code == 422


def test_answers_that_are_not_on_the_list(queue: Queue) -> None:
    task = queue.ask(candidate=say(HOSTILE, classes=(HOSTILE, 'a "b" & c')))
    ann = queue.person("ann")
    ann.next()
    assert HOSTILE not in ann.text
    for wrong in ("walrus", ""):
        sent = {"csrf": ann.door.csrf(), "label": wrong}
        assert ann.door.post(f"/review/task/{task.id}/answer", data=sent).status_code == 422
    ann.answer('a "b" & c')
    assert [one.answer for one in queue.store.reviews.answers(task.id)] == ['a "b" & c']


def gold(queue: Queue, folder: Path) -> None:
    for label, colour in (("circle", "red"), ("square", "lime")):
        (folder / label).mkdir(parents=True)
        (folder / label / "1.png").write_bytes(draw(colour))
    add_gold(queue.store, folder)


def test_pictures_of_known_label_are_mixed_in(tmp_path: Path) -> None:
    seen = {}
    for share in (0, 50):
        (tmp_path / str(share)).mkdir()
        with open_queue(tmp_path / str(share), review_gold_percent=share) as queue:
            gold(queue, tmp_path / f"gold {share}")
            task = queue.ask()
            tasks = []
            for number in range(8):
                person = queue.person(f"person {number}")
                person.next()
                tasks.append(person.task_id)
                person.press("release")
            assert tasks.count(task.id) < 8 or share == 0
            seen[share] = 8 - tasks.count(task.id)
    assert seen[0] == 0
    assert 1 <= seen[50] <= 7


def test_how_well_people_see_is_for_who_approves(tmp_path: Path) -> None:
    with open_queue(tmp_path) as queue:
        gold(queue, tmp_path / "gold")
        real = queue.ask()
        ann, boss = queue.person("ann"), queue.person("boss", "review", "approve")
        by = f"user:{queue.store.users.find('ann').id}"
        task = next_task(queue.store, by, config=ReviewConfig(gold_share=1.0))
        assert task is not None
        assert task.gold is not None
        assert ann.get(f"/review/task/{task.id}").status_code == 200
        assert "gold" not in ann.text.lower()
        assert ann.labels[:2] in (["circle", "square"], ["square", "circle"])
        ann.answer(task.gold)
        queue.wait(11)
        assert "known" not in ann.get("/review").text
        assert "Where the label is known" in boss.get("/review").text
        assert re.search(r"<th scope=\"row\">ann</th><td>1</td><td>100\.0.% \(\d+ to 100\)</td>", boss.text)
        assert queue.told.settled_tasks == []
        assert [one.prediction_id for one, *_ in queue.store.requests.outcomes(queue.deployment.id)] == [
            real.prediction_id
        ]


def test_the_overview(queue: Queue) -> None:
    ann, bob = queue.person("ann"), queue.person("bob")
    assert "Nothing waits." in ann.get("/review").text
    assert re.search(r"<button[^>]* disabled>Start</button>", ann.text)
    for said in (("black", "black"), ("polar", "black")):
        task = queue.ask(people=2, due_s=3000.0)
        for person, label in zip((ann, bob), said, strict=True):
            person.next()
            assert person.task_id == task.id
            person.answer(label)
            queue.wait(120)
    text = ann.get("/review").text
    assert "Nothing waits for you." in text
    assert "1 picture you answered already: another person has to look." in text
    for what, number in (("Waiting", "1"), ("Due within the hour", "1"), ("Your answers today", "2")):
        assert re.search(rf"<dt>{what}</dt><dd><strong>{number}</strong>", text)
    assert re.search(r"<dt>Oldest waits</dt><dd><strong>4.min</strong>", text)
    assert re.search(r'<th scope="row">ann \(you\)</th><td>2</td><td>2</td><td>0\.0.s</td>', text)
    assert re.search(r'<th scope="row">bears</th><td>2</td><td>50\.0.% \(\d+ to \d+\)</td><td>0\.00</td>', text)
    queue.wait(3000)
    assert "1 picture is past due" in ann.get("/review").text


def test_who_sits_at_this_machine_is_told_that_one_is_not_two(queue: Queue) -> None:
    queue.ask(people=2)
    me = Reviewer(queue.door)
    me.next()
    me.answer("black")
    assert "drivetrain user add" in me.get("/review").text


def test_pages_are_not_kept(queue: Queue) -> None:
    queue.ask()
    ann = queue.person("ann")
    for path in ("/review", "/review/next", "/review/task/nope"):
        assert ann.get(path).headers["Cache-Control"] == "no-store"


def test_a_running_server_settles_by_itself(tmp_path: Path) -> None:
    with open_queue(tmp_path, review_undo_s=1) as queue:
        task = queue.ask()
        assert next_task(queue.store, "local", config=ReviewConfig()) == task
        answer_task(queue.store, task.id, "local", "black", config=ReviewConfig(undo_s=1.0))
        with start_server(queue.door.app):
            queue.wait(2)  # nobody comes to the pages
            deadline = time.monotonic() + WAIT_S
            while not queue.told.settled_tasks and time.monotonic() < deadline:
                time.sleep(0.01)
        assert [(one.id, one.truth) for one in queue.told.settled_tasks] == [(task.id, "black")]


def test_without_a_rollout_nothing_waits(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        assert door.get("/review").status_code == 200
        assert "Nothing waits." in door.get("/review").text
