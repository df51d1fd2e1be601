"""The pages of roll-outs in a browser: light and dark, wide and narrow, by keyboard, without a script, kept fresh."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivetrain.flows.premortem import QUESTIONS
from drivetrain.flows.rollout import hold, rollback
from drivetrain.serve.server import RunningServer, start_server
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store

from .browsing import HOSTILE, WAYS, Watched, app_with_store, faults, in_browser, launch
from .fakes import FakeModel
from .rolling import HARD, begin, begin_limited, made

pytestmark = in_browser


@dataclass
class Site:
    server: RunningServer
    browser: Any
    store: Store
    over: Deployment

    @property
    def url(self) -> str:
        return self.server.url

    def visit(self, path: str, width: int = 1280, scheme: str = "light", **given: Any) -> Watched:
        viewport = {"width": width, "height": 844}
        page = self.browser.new_page(viewport=viewport, color_scheme=scheme, reduced_motion="reduce", **given)
        page.set_default_timeout(20_000)
        watched = Watched(page).listen()
        page.goto(self.url + path)
        return watched


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("rollouts")
    with app_with_store(folder, FakeModel(), db=f"sqlite:///{folder}/page.db") as (app, store):
        over = begin_limited(store, folder, name="first-try")
        rollback(store, over.id, by="bob", reason=f"dark pictures {HOSTILE}")
        with start_server(app) as server, launch() as browser:
            yield Site(server, browser, store, over)


@pytest.fixture
def deployment(site: Site, tmp_path: Path) -> Iterator[Deployment]:
    """One in its manual stage that lacks something of everything."""
    begun = begin(
        site.store, tmp_path, objective=f"find {HOSTILE} by night", premortem={"miss": HOSTILE},
        seed=10 + len(site.store.deployments.list()), prior=(3.0, 97.0), prior_from=f"a hunch of {HOSTILE}", **HARD,
    )  # fmt: skip
    clock = made().Clock()
    clock.now = site.store.deployments.clock() - 240 * 600
    traffic = made().Traffic(site.store, clock, begun, gap_s=600.0)
    traffic.send(50, attributes={"site": HOSTILE})
    traffic.send(4, candidate=None)
    traffic.send(5, truth="square", attributes={"site": "north"})
    traffic.send(170, truth=None, wants_label=False)
    site.store.alerts.open(begun.id, "sample_ratio", f"61 of 100 {HOSTILE}")
    yield begun
    now = site.store.deployments.get(begun.id)
    if now is not None and now.ended_at is None:
        rollback(site.store, begun.id, by="the test", reason="it is over")


@pytest.mark.parametrize(("width", "scheme"), WAYS)
def test_every_page_of_roll_outs(site: Site, deployment: Deployment, width: int, scheme: str) -> None:
    paths = ["/rollouts", "/rollouts/shapes", f"/rollouts/{site.over.id}", "/rollouts/shapes/log", "/versions"]
    for path in paths:
        seen = site.visit(path, width, scheme)
        seen.page.evaluate("document.querySelectorAll('main details').forEach((one) => { one.open = true; })")
        assert faults(seen.page) == [], path
        assert seen.page.evaluate("document.documentElement.scrollWidth") == width, path
        assert seen.page.locator("h1").count() == 1
        assert seen.page.locator("nav [aria-current]").all_inner_texts() == ["Roll-outs"]
        seen.check(site.url)
        seen.page.close()


@pytest.mark.parametrize(("width", "scheme"), WAYS)
def test_the_report(site: Site, deployment: Deployment, width: int, scheme: str) -> None:
    seen = site.visit("/rollouts/shapes/report", width, scheme)
    assert faults(seen.page) == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    colour = seen.page.locator(".ladder .is-now").evaluate("one => getComputedStyle(one, '::before').backgroundColor")
    assert colour in {"rgb(13, 106, 115)", "rgb(86, 191, 196)"}  # its style came through the server's policy
    seen.check(site.url)
    seen.page.get_by_role("link", name="Back to the roll-out").click()
    assert seen.page.locator("h1").inner_text() == "shapes"
    seen.page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_manager_sees_what_matters_without_scrolling(site: Site, deployment: Deployment, width: int) -> None:
    seen = site.visit("/rollouts/shapes", width)
    for part in (".ladder", ".stands", ".decides", ".far", ".harm-state >> nth=0"):
        box = seen.page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] < 844, part
    heights = seen.page.evaluate(
        "[...document.querySelectorAll('.ladder li')].map(one => parseFloat(getComputedStyle(one, '::before').height))"
    )
    assert heights == sorted(set(heights))  # a ladder: each step is higher than the one before
    assert len(heights) == 7
    seen.page.close()


def test_the_whole_story_by_keyboard(site: Site, deployment: Deployment) -> None:
    seen = site.visit("/rollouts")
    page = seen.page
    page.get_by_role("link", name="shapes").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/rollouts/shapes")

    for _ in range(80):  # to the first act, past what comes before it
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip().startswith("Take the next step"):
            break
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("bob")
    page.keyboard.press("Tab")
    page.keyboard.type("by day it is good")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "Not enough: needs" in alert.inner_text()
    assert page.locator("#advance-reason").input_value() == "by day it is good"
    seen.complaints.clear()  # of a status that is not 200

    page.locator("summary", has_text="Hold").press("Enter")
    page.locator("#hold-by").fill("bob")
    page.locator("#hold-reason").fill("a holiday")
    page.get_by_role("checkbox", name="I want it to stop where it is.").press("Space")
    page.locator("#hold-reason").press("Tab")
    page.get_by_role("button", name="Hold").press("Enter")
    page.get_by_role("status").filter(has_text="It is on hold.").wait_for()
    assert "Manual, held" in page.locator(".stands").inner_text()
    page.close()


def test_an_act_without_its_reason_is_not_sent(site: Site, deployment: Deployment) -> None:
    seen = site.visit("/rollouts/shapes", 390)
    seen.page.locator("summary", has_text="Roll back").click()
    seen.page.locator("#rollback-by").fill("bob")
    before = len(seen.requests)
    seen.page.get_by_role("button", name="Roll back").click()
    assert seen.page.evaluate("document.activeElement.id") == "rollback-reason"
    assert [one for one in seen.requests[before:] if "rollback" in one] == []
    seen.page.close()


def test_it_works_without_a_script(site: Site, deployment: Deployment) -> None:
    context = site.browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto(site.url + "/rollouts/shapes")
    for name in QUESTIONS:
        if name != "miss":
            page.locator(f"#q-{name}").fill("We thought of it.")
    page.locator("#premortem-by").fill("bob")
    page.get_by_role("button", name="Keep the answers").click()
    page.get_by_text("8 of 8 are answered.").wait_for()
    page.locator("summary", has_text="Close it").click()
    page.locator("#alert-1-by").fill("bob")
    page.locator("#alert-1-reason").fill("a holiday")
    page.get_by_role("checkbox", name="I looked into it").check()
    page.get_by_role("button", name="Close the alert").click()
    page.get_by_text("The alert is closed.").wait_for()
    page.locator("summary", has_text="Roll back").click()
    page.locator("#rollback-by").fill("bob")
    page.locator("#rollback-reason").fill("enough")
    page.get_by_role("checkbox", name="I want the new model taken back now.").check()
    page.get_by_role("button", name="Roll back").click()
    page.get_by_text("It decides nothing any more.").wait_for()
    assert page.locator(".stands").inner_text() == "Rolled back."
    context.close()


def test_numbers_come_anew_and_a_move_loads_the_page_again(site: Site, deployment: Deployment) -> None:
    seen = site.visit("/rollouts/shapes")
    page = seen.page
    counted = page.locator(".facts strong").first
    before = counted.inner_text()
    site.store.reviews.expire(site.store.deployments.clock())
    clock = made().Clock()
    clock.now = site.store.deployments.clock()
    made().Traffic(site.store, clock, deployment, gap_s=0.0).send(3)
    page.wait_for_function("before => document.querySelector('.facts strong').textContent !== before", arg=before)
    assert counted.inner_text() == str(int(before) + 3)
    page.locator("summary", has_text="Roll back").click()
    page.locator("#rollback-reason").fill("something is off")
    hold(site.store, deployment.id, by="ann", reason="lunch")
    page.get_by_text("It has moved on since you loaded this page.").wait_for()
    assert page.locator("#rollback-reason").input_value() == "something is off"  # nobody took the form away
    assert "Manual, held" in page.locator(".stands").inner_text()
    page.get_by_role("link", name="Load it again").click()
    page.locator("summary", has_text="Resume").wait_for()
    seen.check(site.url)
    page.close()


def test_what_nobody_writes_in_is_loaded_again_by_itself(site: Site, deployment: Deployment) -> None:
    seen = site.visit("/rollouts/shapes?done=alerts")
    hold(site.store, deployment.id, by="ann", reason="lunch")
    seen.page.locator("summary", has_text="Resume").wait_for()
    assert re.search(r"/rollouts/\w+$", seen.page.url)  # and what was said of an act before is gone
    seen.page.close()


def test_nothing_is_asked_while_nobody_looks(site: Site, deployment: Deployment) -> None:
    page = site.browser.new_page()
    page.set_default_timeout(20_000)
    page.clock.install()
    page.goto(site.url + "/rollouts")
    with page.expect_request("**/rollouts?part=now"):
        page.clock.run_for(6_000)
    page.evaluate("Object.defineProperty(document, 'visibilityState', { get: () => window.seen, configurable: true })")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("window.seen = 'hidden'")
    page.clock.run_for(60_000)
    assert asked == []
    with page.expect_request("**/rollouts?part=now"):
        page.evaluate("window.seen = 'visible'; document.dispatchEvent(new Event('visibilitychange'))")
    page.close()
