"""The pages of a model of labels and of models that measure: looks, words, and no bar that passes for an answer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.flows.train import TrainResult
from drivetrain.serve.server import RunningServer, start_server
from drivetrain.store.store import Store

from .browsing import WAYS, Watched, app_with_store, faults, in_browser, launch, upload
from .fakes import FakeModel, picture
from .tiny import task_model
from .values import TwoValues

pytestmark = in_browser

LABELS, VALUE = "labels", "value"


@dataclass
class Site:
    server: RunningServer
    browser: Any
    store: Store

    def visit(self, path: str, width: int = 1000, scheme: str = "light", **given: Any) -> Watched:
        page = self.browser.new_page(
            viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce", **given
        )
        page.set_default_timeout(15_000)
        watched = Watched(page).listen()
        page.goto(self.server.url + path)
        return watched


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with app_with_store(tmp_path_factory.mktemp("site")) as (app, store):
        for name, task in ((LABELS, "multilabel"), (VALUE, "regression")):
            app.state.registry.add(task_model(task, name))
        app.state.registry.add(TwoValues())
        app.state.registry.add(FakeModel())
        with start_server(app) as server, launch() as browser:
            yield Site(server, browser, store)


def ask(page: Any, *colours: str) -> None:
    page.set_input_files("#files", [upload(f"{colour}.png", picture(colour)) for colour in colours])
    page.locator(".card.is-accepted, .card.is-deferred").nth(len(colours) - 1).wait_for()


@pytest.mark.parametrize(("width", "scheme"), WAYS)
@pytest.mark.parametrize("name", [LABELS, VALUE, "sizes"])
def test_pages_of_every_task(name: str, width: int, scheme: str, site: Site) -> None:
    seen = site.visit(f"/?model={name}", width, scheme)
    ask(seen.page, "red", "grey", "blue")
    assert faults(seen.page) == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    seen.page.get_by_role("button", name="Wrong").first.click()
    seen.page.get_by_role("dialog").wait_for()
    assert faults(seen.page) == []
    seen.page.goto(f"{site.server.url}/card?model={name}")
    assert seen.page.locator("h1").inner_text() == name
    assert faults(seen.page) == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    seen.check(site.server.url)
    seen.page.close()


def test_card_of_labels_tells_its_limits(site: Site) -> None:
    seen = site.visit(f"/card?model={LABELS}")
    promise = seen.page.get_by_role("group", name="What it promises")
    assert promise.locator("thead th").all_inner_texts() == ["Label", "There, above", "Not there, below", "Promised"]
    assert promise.locator("tbody th").all_inner_texts() == ["bright", "red"]
    seen.page.close()


def test_unknown_picture_gets_no_confident_bar(site: Site) -> None:
    """Its bars had the colour and size of an answer's."""
    page = site.visit("/?model=colours").page
    ask(page, "red", "blue", "lime")
    known, unknown, unsure = (page.locator(f".card:has-text('{name}.png')") for name in ("red", "blue", "lime"))
    look = "bar => { const s = getComputedStyle(bar); return [s.backgroundColor, bar.parentElement.offsetHeight]; }"
    (answer, tall), (doubt, low), (guess, _) = (
        card.locator(".fill").first.evaluate(look) for card in (known, unknown, unsure)
    )
    assert len({answer, doubt, guess}) == 3
    assert low < tall
    assert unknown.locator(".guess").inner_text() == "What I would say if I had to: amber"
    assert unsure.locator(".guess").inner_text() == "If I had to guess: amber"
    page.close()


@pytest.mark.parametrize(("scheme", "colour"), [("light", "white"), ("dark", "black")])
def test_picture_like_the_page_has_a_line_around_it(scheme: str, colour: str, site: Site) -> None:
    page = site.visit("/?model=colours", scheme=scheme).page
    ask(page, colour, "red")
    for place in (f".card:has-text('{colour}.png') .preview", ".thumb >> nth=0"):
        with Image.open(io.BytesIO(page.locator(place).screenshot())) as shot:
            row = np.asarray(shot.convert("L"), dtype=int)[shot.height // 2, :8]  # from the edge inwards
        assert abs(row[:4] - row[-1]).max() >= 10, place
    page.close()


def test_captions_stay_after_answers(site: Site, trained: TrainResult, tmp_path: Path) -> None:
    with app_with_store(tmp_path) as (app, _):
        app.state.registry.load(trained.bundle)
        with start_server(app) as server:
            page = site.browser.new_page()
            page.goto(server.url)
            ask(page, "red")
            assert page.locator("#examples-title").is_visible()
            page.close()


def test_two_values_are_told_once_with_and_without_a_script(site: Site, tmp_path: Path) -> None:
    files = []
    for colour in ("red", "blue"):
        (tmp_path / f"{colour}.png").write_bytes(picture(colour))
        files.append(tmp_path / f"{colour}.png")
    page = site.visit("/?model=sizes").page
    ask(page, "red", "blue")
    plain = site.browser.new_context(java_script_enabled=False).new_page()
    plain.goto(f"{site.server.url}/?model=sizes")
    plain.get_by_label("Pictures", exact=True).set_input_files(files)
    plain.get_by_role("button", name="Ask").click()
    plain.locator(".card").nth(1).wait_for()
    told = [
        [part.inner_text() for part in view.locator(".card h3, .sure, .reason, .guess, .numbers span").all()]
        for view in (page, plain)
    ]
    assert told[0] == told[1]
    rows = ["height", "3.5", "3 to 4", "width", "-20,000", "how far off is not known"]
    unknown = ["I don’t know", "This does not look like anything I was trained on.", "What I would say if I had to:"]
    assert told[0] == ["height: 3.5, width: -20,000", *rows, *unknown, *rows]
    plain.context.close()
    page.close()


def test_wrong_asks_for_every_value(site: Site) -> None:
    page = site.visit("/?model=sizes").page
    ask(page, "red")
    page.get_by_role("button", name="Wrong").click()
    dialog = page.get_by_role("dialog", name="What would be right?")
    dialog.get_by_label("The true height").fill("3.25")
    assert page.evaluate("document.activeElement.id") == "feedback-number-0"
    dialog.get_by_role("button", name="Send").click()
    assert dialog.get_by_role("alert").inner_text() == "Give every value, or none of them."
    dialog.get_by_label("The true width").fill("-7")
    dialog.get_by_role("button", name="Send").click()
    page.locator(".thanks", has_text="Noted: 3.25;-7.").wait_for()
    assert site.store.feedback.counts()["wrong"] == 1
    page.close()
