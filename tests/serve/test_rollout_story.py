"""The whole story, as four people live it: a server, its callers, two reviewers, one who approves. In a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from drivetrain.flows.premortem import QUESTIONS
from drivetrain.flows.rollout import verify
from drivetrain.serve.server import RunningServer, start_server

from .browsing import Watched, faults, in_browser, launch
from .doors import PASSWORD
from .rollout_bench import GREEN, HEADERS, NEW, OLD, RED, Bench, begin, poll, rollout_bench

pytestmark = in_browser

TRUTH = {"red": "amber", "green": "blue"}  # what people see; the old one takes all for amber
KEYS = 40  # callers
AT_ONCE = 8


@dataclass
class Story:
    bench: Bench
    server: RunningServer
    browser: Any
    headers: dict[str, str]
    pictures: Path
    n_sent: int = 0
    seen: list[Watched] = field(default_factory=list)

    @property
    def stage(self) -> str:
        found = self.bench.store.deployments.get("colours")
        assert found is not None
        return found.stage

    def person(self, name: str, path: str, width: int = 1280) -> Any:
        """A browser of their own, signed in."""
        context = self.browser.new_context(viewport={"width": width, "height": 844}, reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.goto(f"{self.server.url}/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{self.server.url}/")
        self.seen.append(Watched(page).listen())
        page.goto(f"{self.server.url}{path}")
        return page

    def send(self, n: int, content: bytes = RED, *, is_over: bool = False) -> list[dict[str, Any]]:
        """Callers ask; while it goes on, both models have seen all when this returns."""
        begun, self.n_sent = self.n_sent, self.n_sent + n

        def ask(number: int) -> dict[str, Any]:
            reply = client.post(
                "/predict", content=content, headers={**HEADERS, **self.headers, "X-Drivetrain-Key": f"{number % KEYS}"}
            )
            assert reply.status_code == 200, reply.text
            answer: dict[str, Any] = reply.json()
            return answer

        with httpx.Client(base_url=self.server.url, timeout=30) as client, ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(ask, range(begun, begun + n)))
        deployment = self.bench.store.deployments.get("colours")
        assert deployment is not None
        poll(lambda: is_over or not self.bench.desk.backlog(deployment.id))
        return answers

    def review(self, page: Any) -> int:
        """By the keyboard alone, until nothing waits for this person; how many they answered."""
        page.goto(f"{self.server.url}/review")
        start = page.get_by_role("button", name="Start")
        if start.is_disabled():  # nothing waits
            return 0
        start.focus()
        with page.expect_navigation():
            page.keyboard.press("Enter")
        n = 0
        while True:
            page.wait_for_load_state()
            if page.locator("h1", has_text="All done").count():
                return n
            labels = page.locator("#labels .label span").all_inner_texts()
            with page.expect_navigation():
                page.keyboard.press(str(labels.index(self.truth_of(page.url)) + 1))
            n += 1

    def truth_of(self, address: str) -> str:
        """What is in the picture that this page shows."""
        store = self.bench.store
        task = store.reviews.get(address.split("/task/")[1].partition("?")[0].partition("/")[0])
        assert task is not None
        routed = store.requests.get(task.prediction_id)
        assert routed is not None
        assert routed.image_sha256 is not None
        return TRUTH["green" if store.images.get(routed.image_sha256) == GREEN else "red"]

    def look(self, page: Any, name: str) -> None:
        """No fault on the page; and a picture of it, to be looked at."""
        assert faults(page) == []
        page.screenshot(path=self.pictures / f"{name}.png", full_page=True)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with rollout_bench(
        tmp_path, new={"green": "blue"}, old={}, review_gold_percent=0, review_undo_s=0, key_rate_limit=0
    ) as bench:
        bench.desk.close()  # the server starts it
        for name, roles in (("ann", ["review"]), ("bob", ["review"]), ("cleo", ["approve"])):
            bench.store.users.add(name, password=PASSWORD, roles=["predict", *roles], by="test")
        token = bench.store.keys.create("gate", roles=["predict"], by="test")[1]
        with start_server(bench.app) as server, launch() as browser:
            yield Story(bench, server, browser, {"X-API-Key": token}, tmp_path)


def step(page: Any, reason: str) -> None:
    """Ask for the next step, on the page of the roll-out."""
    page.goto(page.url.partition("/rollouts")[0] + "/rollouts/colours")
    page.locator("summary", has_text="Take the next step").click()
    page.locator("#advance-reason").fill(reason)
    page.locator("form[action$='/advance'] input[type=checkbox]").check()
    with page.expect_navigation():
        page.get_by_role("button", name="Take the next step").click()


def test_from_the_first_shadow_to_the_rollback(story: Story) -> None:
    store = story.bench.store
    begin(store, margin=0.0, bound=None, n_min=100, class_min=1, audit_share=0.02, second_share=1.0)
    story.bench.desk.refresh()
    ann, bob = story.person("ann", "/review"), story.person("bob", "/review", 390)
    cleo = story.person("cleo", "/rollouts/colours")

    # manual: the candidate sees everything and decides nothing
    answers = [*story.send(47), *story.send(12, GREEN)]
    assert {answer["version"] for answer in answers} == {OLD}
    step(cleo, "twelve that differ")
    assert "not left without" in cleo.locator("main").inner_text()
    for name in QUESTIONS:
        cleo.locator(f"#q-{name}").fill("We thought of it.")
    cleo.get_by_role("button", name="Keep the answers").click()
    cleo.get_by_text("8 of 8 are answered.").wait_for()

    # two people, each by themselves
    counts = story.review(ann), story.review(bob)
    assert counts == (len(reviewed(story)),) * 2
    assert counts[0] >= 12
    story.look(bob, "bob-all-done")
    step(cleo, "I cannot wait")
    alert = cleo.get_by_role("alert")
    alert.wait_for()
    assert "41 more" in alert.inner_text()
    assert story.stage == "manual"
    story.look(cleo, "refused")
    story.send(41)
    story.review(ann), story.review(bob)
    step(cleo, "better where they differ")
    assert story.stage == "limited", cleo.locator("main").inner_text()

    # limited, and the first share
    assert {answer["version"] for answer in story.send(100)} == {NEW}
    story.review(ann), story.review(bob)
    step(cleo, "no complaint")
    poll(lambda: story.stage == "expanding")
    shared = [answer["version"] for answer in story.send(100)]
    assert set(shared) <= {NEW, OLD}
    assert shared.count(NEW) < 30
    story.review(ann), story.review(bob)
    step(cleo, "still none")
    now = store.deployments.get("colours")
    assert now is not None
    assert (now.stage, now.share) == ("expanding", 0.25)
    story.look(cleo, "expanding")

    # it goes wrong: by itself it is taken back, while people label
    story.bench.new.says = {"red": "coral", "green": "blue"}
    story.send(30)
    done = threading.Event()
    while story.stage == "expanding" and not done.is_set():
        if not story.review(ann) + story.review(bob):
            done.set()
        done.wait(1.0)  # harm is judged within the second
    poll(lambda: story.stage == "rolled_back")
    assert {answer["version"] for answer in story.send(5, is_over=True)} == {OLD}
    last = store.deployments.ledger(now.id)[-1]
    assert (last["by"], last["action"]) == ("drivetrain", "rollback")
    assert "worse than the incumbent" in last["reason"]
    assert verify(store, "colours") is None

    cleo.reload()
    assert cleo.locator(".stands").inner_text().startswith("Rolled back")
    story.look(cleo, "rolled-back")
    cleo.get_by_role("link", name="The whole report").click()
    cleo.wait_for_load_state()
    assert "drivetrain" in cleo.locator("body").inner_text()
    story.look(cleo, "report")
    for watched in story.seen:
        assert [one for one in watched.complaints if "409" not in one] == []


def reviewed(story: Story) -> list[str]:
    """Requests with a label of both."""
    found = story.bench.store.deployments.get("colours")
    assert found is not None
    outcomes = story.bench.store.requests.outcomes(found.id)
    return [routed.prediction_id for routed, review, _ in outcomes if review == "labelled"]
