"""Two people at the queue, each with a browser: by the keyboard alone, on a phone, zooming, asking why."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from drivetrain.flows.review import ReviewConfig, settle_due
from drivetrain.flows.train import TrainResult
from drivetrain.serve.app import create_app
from drivetrain.serve.server import RunningServer, start_server
from drivetrain.store.deployments import Deployment
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store, open_store

from .browsing import HOSTILE, WAYS, Watched, faults, in_browser, launch
from .doors import PASSWORD
from .fakes import FakeModel, settings
from .reviewing import Told, ask, draw, say, start

pytestmark = in_browser

MANY = (HOSTILE, *(f"kind {number:02}" for number in range(1, 13)), "wolf")


@dataclass
class Moving:
    """Real seconds, and those that were skipped."""

    skipped: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.skipped


@dataclass
class Site:
    server: RunningServer
    browser: Any
    store: Store
    deployment: Deployment
    clock: Moving
    shape: bytes

    def ask(self, **given: Any) -> Task:
        task: Task = ask(self.store, self.deployment, **given)
        return task

    def person(self, name: str, width: int = 1280, scheme: str = "light", **given: Any) -> Watched:
        """A browser of their own, signed in."""
        page = self.browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce", **given
        ).new_page()
        page.set_default_timeout(30_000)
        page.goto(f"{self.server.url}/login")
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{self.server.url}/")
        return Watched(page).listen()

    def empty(self) -> None:
        settle_due(self.store, config=ReviewConfig())  # what is held is not overdue
        self.store.reviews.expire(self.clock() + 1_000_000)


@pytest.fixture(scope="module")
def site(trained: TrainResult, picture_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    clock = Moving()
    shape = next((picture_folder(("circle",), per_class=1) / "circle").iterdir()).read_bytes()
    url = f"sqlite:///{tmp_path_factory.mktemp('site')}/review.db"
    with open_store(url, clock=clock) as store:
        deployment = start(store, trained.bundle, name="shapes")
        for name in ("ann", "bob"):
            store.users.add(name, password=PASSWORD, roles=["predict", "review"], by="test")
        app = create_app(FakeModel(), settings(review_gold_percent=0), store=store)
        app.state.rollouts = Told()  # what obeys roll-outs has its own tests, and takes its share of the cores
        with start_server(app) as server, launch() as browser:
            yield Site(server, browser, store, deployment, clock, shape)


@pytest.fixture(autouse=True)
def _nothing_left(site: Site) -> Iterator[None]:
    yield
    for context in site.browser.contexts:
        context.close()
    site.clock.skipped += 20
    site.empty()


def arrive(page: Any, task: Task) -> None:
    page.wait_for_url(f"**/review/task/{task.id}**")
    page.wait_for_load_state()


def said(site: Site, task: Task) -> list[str]:
    return [one.answer for one in site.store.reviews.answers(task.id)]


@pytest.mark.parametrize(("width", "scheme"), WAYS)
def test_pages_are_sound(width: int, scheme: str, site: Site) -> None:
    for number in range(2):
        site.ask(due_s=1000.0 + number, candidate=say("wolf", classes=MANY), people=2)
    seen = site.person("ann", width, scheme)
    page = seen.page

    def check() -> None:
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("h1").count() == 1
        assert page.locator("nav [aria-current]").all_inner_texts() == ["Review"]

    page.goto(f"{site.server.url}/review")
    check()
    page.get_by_role("button", name="Start").click()
    page.locator("#picture").wait_for()
    page.locator("summary", has_text="Help").click()
    check()
    assert page.locator("#picture").evaluate("image => image.naturalWidth") == 48
    page.get_by_role("button", name="wolf").click()
    page.locator(".undo").wait_for()
    check()
    before = page.locator("#frame").bounding_box()
    page.evaluate("document.getElementById('undo').remove()")
    assert page.locator("#frame").bounding_box() == before  # nothing moves under a finger
    page.get_by_role("button", name="I cannot tell").click()
    page.get_by_role("heading", name="All done").wait_for()
    check()
    seen.check(site.server.url)


def test_two_people_by_the_keyboard(site: Site) -> None:
    first, second = site.ask(due_s=1000.0, people=2), site.ask(due_s=2000.0)
    ann, bob = site.person("ann"), site.person("bob")
    page = ann.page
    page.goto(f"{site.server.url}/review")
    page.get_by_role("button", name="Start").focus()
    page.keyboard.press("Enter")
    arrive(page, first)
    labels = page.locator("#labels .label span").all_inner_texts()
    assert labels == ["grizzly", "black", "circle", "polar", "square", "stripes", "teddy"]
    page.keyboard.press("4")
    arrive(page, second)
    assert said(site, first) == ["polar"]
    assert page.locator(".undo strong").inner_text() == "polar"
    page.keyboard.press("z")
    arrive(page, first)
    assert said(site, first) == []
    page.keyboard.press("9")  # there is no ninth
    page.keyboard.press("?")
    assert page.locator("#help").evaluate("help => help.open")
    page.keyboard.press("?")
    assert not page.locator("#help").evaluate("help => help.open")
    page.keyboard.press("n")
    arrive(page, second)
    page.keyboard.press("u")
    page.get_by_role("heading", name="All done").wait_for()
    assert (said(site, first), said(site, second)) == (["none of these"], ["cannot tell"])

    site.clock.skipped += 11
    bob.page.goto(f"{site.server.url}/review/next")
    arrive(bob.page, first)
    bob.page.keyboard.press("n")
    bob.page.get_by_role("heading", name="All done").wait_for()
    site.clock.skipped += 11
    bob.page.reload()
    task = site.store.reviews.get(first.id)
    assert task is not None
    assert (task.state, task.truth) == ("labelled", "none of these")
    for one in (ann, bob):
        one.check(site.server.url)


def test_a_key_that_is_held_answers_one_picture(site: Site) -> None:
    tasks = [site.ask(due_s=1000.0 * number) for number in (1, 2, 3)]
    page = site.person("ann").page
    page.goto(f"{site.server.url}/review/next")
    arrive(page, tasks[0])
    press = """repeats => { for (const repeat of repeats) {
      document.body.dispatchEvent(new KeyboardEvent("keydown", {key: "1", repeat, bubbles: true})); } }"""
    page.evaluate(press, [False, True, True, False])
    arrive(page, tasks[1])
    assert len(said(site, tasks[0])) == 1
    page.evaluate(press, [True])
    page.wait_for_timeout(100)
    assert said(site, tasks[1]) == []


def test_many_labels_are_searched(site: Site) -> None:
    task = site.ask(candidate=say("wolf", classes=MANY))
    page = site.person("ann").page
    page.goto(f"{site.server.url}/review/next")
    arrive(page, task)
    page.keyboard.press("/")
    page.keyboard.type("KIND 1")
    shown = page.locator("#labels li:visible")
    assert shown.locator("span").all_inner_texts() == ["kind 10", "kind 11", "kind 12"]
    assert shown.locator("kbd").all_inner_texts() == ["1", "2", "3"]
    assert page.locator("#found").inner_text() == "3 labels"
    page.keyboard.press("Escape")
    assert shown.count() == len(MANY) + 3
    page.keyboard.type("img src")
    assert page.locator("#labels li:visible span").all_inner_texts() == [HOSTILE]
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="All done").wait_for()
    assert said(site, task) == [HOSTILE]


def test_few_labels_need_no_search(site: Site) -> None:
    site.ask()
    page = site.person("ann").page
    page.goto(f"{site.server.url}/review/next")
    assert page.locator("#find").count() == 0


def until(page: Any, part: str, low: float, high: float | None = None) -> None:
    """Until the picture is so large (part a), or so far to the right (part e); a busy browser takes its time."""
    least, most = (low - 0.01, low + 0.01) if high is None else (low, high)
    is_so = """([part, least, most]) => {
      const at = new DOMMatrix(getComputedStyle(document.getElementById("canvas")).transform)[part];
      return at >= least && at <= most;
    }"""
    page.wait_for_function(is_so, arg=[part, least, most])


def test_looking_closely(site: Site) -> None:
    site.ask(picture=draw("red", size=(300, 200)))
    page = site.person("ann").page
    page.goto(f"{site.server.url}/review/next")
    page.wait_for_load_state()
    until(page, "a", 1)
    page.keyboard.press("+")
    page.keyboard.press("+")
    until(page, "a", 2.25)
    box = page.locator("#frame").bounding_box()
    middle = -box["width"] * (2.25 - 1) / 2
    until(page, "e", middle - 1, middle + 1)
    page.keyboard.press("ArrowLeft")
    until(page, "e", middle + 79, middle + 81)
    page.keyboard.press("-")
    until(page, "a", 1.5)
    page.keyboard.press("0")
    until(page, "a", 1)

    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.mouse.wheel(0, -300)
    until(page, "a", 2, 4)
    until(page, "e", -20, -10)  # what is below the pointer stays there
    page.mouse.down()
    page.mouse.move(box["x"] - 90, box["y"] + 10, steps=4)
    until(page, "e", -125, -100)
    page.mouse.up()  # dragged: no click
    page.mouse.click(box["x"] + 100, box["y"] + 100)
    until(page, "a", 1)
    page.mouse.click(box["x"] + 100, box["y"] + 100)
    until(page, "a", 2.5)
    for _ in range(3):
        page.get_by_role("button", name="Zoom out").click()
    until(page, "a", 1)  # and no smaller
    page.get_by_role("button", name="Zoom in", exact=True).click()
    until(page, "a", 1.5)
    assert "/review/task/" in page.url  # the link around the picture was never followed


def test_two_fingers_zoom(site: Site) -> None:
    site.ask()
    page = site.person("ann", 390, has_touch=True).page
    page.goto(f"{site.server.url}/review/next")
    page.wait_for_load_state()
    box = page.locator("#frame").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    hand = page.context.new_cdp_session(page)

    def touch(kind: str, *spread: float) -> None:
        points = [{"x": x + side * half, "y": y, "id": place} for half in spread for place, side in enumerate((-1, 1))]
        hand.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 20)
    for half in (30, 40, 50, 60):
        touch("touchMove", half)
    touch("touchEnd")
    until(page, "a", 2.4, 3.6)


def test_why_is_off_until_it_is_asked_for(site: Site) -> None:
    task = site.ask(picture=site.shape)
    seen = site.person("ann")
    page = seen.page
    page.goto(f"{site.server.url}/review/next")
    arrive(page, task)
    assert page.locator("#heat").count() == 0
    assert not any("/why" in one for one in seen.requests)
    assert site.store.audit.list(action="review.why") == []
    why = page.get_by_role("button", name="Why?")
    why.press("Enter")
    heat = page.locator("#heat")
    heat.wait_for()
    assert why.get_attribute("aria-pressed") == "true"
    assert page.locator("#why-words").inner_text().startswith("Lit: where the model looked.")
    assert heat.bounding_box() == page.locator("#picture").bounding_box()  # the one lies on the other
    ratios = [
        one.evaluate("image => image.naturalWidth / image.naturalHeight") for one in (heat, page.locator("#picture"))
    ]
    assert ratios[0] == pytest.approx(ratios[1], rel=0.02)
    assert faults(page) == []
    assert [event.subject for event in site.store.audit.list(action="review.why")] == [task.id]
    why.press("Enter")
    assert not heat.is_visible()
    why.press("Enter")
    assert heat.is_visible()
    assert len([one for one in seen.requests if one.endswith("/why")]) == 1
    page.keyboard.press("1")
    page.get_by_role("heading", name="All done").wait_for()
    assert [one.saw_model for one in site.store.reviews.answers(task.id)] == [True]
    seen.check(site.server.url)


def test_the_bar_and_the_lease_end_in_sight(site: Site) -> None:
    tasks = [site.ask(due_s=1000.0 * number) for number in (1, 2)]
    page = site.person("ann").page
    page.clock.install()
    page.goto(f"{site.server.url}/review/next")
    arrive(page, tasks[0])
    page.keyboard.press("1")
    arrive(page, tasks[1])
    page.locator(".undo").wait_for()
    page.clock.run_for(11_000)
    assert page.locator(".undo").count() == 0
    assert not page.locator("#lapsed").is_visible()
    page.clock.run_for(290_000)
    assert page.get_by_role("alert").inner_text().startswith("Your five minutes with this picture are over.")
    assert faults(page) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_all_of_it_without_a_script(width: int, site: Site) -> None:
    first, second = (site.ask(due_s=1000.0 * number, picture=site.shape) for number in (1, 2))
    page = site.person("ann", width, java_script_enabled=False).page
    page.goto(f"{site.server.url}/review")
    page.get_by_label("First").select_option("risk")
    page.get_by_role("button", name="Start").click()
    arrive(page, first)
    assert not page.locator("#zoom-in").is_visible()
    assert page.get_by_role("link", name="Open the picture by itself").get_attribute("href").endswith("/picture")
    page.get_by_role("button", name="Why?").click()
    page.locator("#heat").wait_for()
    assert page.locator("#why-words").inner_text().startswith("Lit: where the model looked.")
    page.get_by_role("button", name="None of these").click()
    arrive(page, second)
    page.get_by_role("button", name="Undo").click()
    arrive(page, first)
    page.get_by_role("button", name="stripes").click()
    arrive(page, second)
    assert "order=risk" in page.url
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("heading", name="Review").wait_for()
    assert (said(site, first), said(site, second)) == (["stripes"], [])
