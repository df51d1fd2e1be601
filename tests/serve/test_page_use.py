"""What a visitor does beside asking: why, right and wrong, looking back; and the simple upload without a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivetrain.flows.train import TrainResult
from drivetrain.serve.server import RunningServer, start_server
from drivetrain.store.store import Store

from .browsing import HOSTILE, Watched, app_with_store, in_browser, launch, upload
from .fakes import FakeModel, make_app, picture

pytestmark = in_browser


@dataclass
class Site:
    server: RunningServer
    browser: Any
    store: Store
    shapes: dict[str, bytes]

    @property
    def url(self) -> str:
        return self.server.url

    def visit(self, path: str = "/", **given: Any) -> Any:
        page = self.browser.new_page(viewport={"width": 1000, "height": 800}, reduced_motion="reduce", **given)
        page.set_default_timeout(15_000)
        page.goto(self.url + path)
        return page


@pytest.fixture(scope="module")
def site(trained: TrainResult, picture_folder: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    root = picture_folder(per_class=1)
    shapes = {folder.name: next(folder.iterdir()).read_bytes() for folder in root.iterdir()}
    classes = ("amber", HOSTILE, "coral", "dune", "emerald", "fern", "grey")
    with app_with_store(tmp_path_factory.mktemp("site")) as (app, store):
        app.state.registry.load(trained.bundle)
        app.state.registry.add(FakeModel(classes=classes))
        with start_server(app) as server, launch() as browser:
            yield Site(server, browser, store, shapes)


def ask(page: Any, *named: tuple[str, bytes]) -> None:
    page.set_input_files("#files", [upload(name, content) for name, content in named])
    for name, _ in named:
        page.locator(f".card:has-text('{name}') .bars").first.wait_for()


def test_why_is_shown_when_asked_for(site: Site) -> None:
    page = site.visit()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/explain" in request.url else None)
    ask(page, ("circle.png", site.shapes["circle"]))
    assert page.locator(".heat").count() == 0
    assert asked == []
    why = page.get_by_role("button", name="Why?")
    assert why.get_attribute("aria-pressed") == "false"
    why.press("Enter")
    page.locator(".heat").wait_for()
    assert why.get_attribute("aria-pressed") == "true"
    photo, heat = (page.locator(f".preview img{name}").bounding_box() for name in (":not(.heat)", ".heat"))
    assert heat == photo  # the one lies on the other
    assert page.locator(".why p").first.inner_text().startswith("Lit: what speaks for “circle”.")
    page.locator("#announcer", has_text="circle.png: Lit: what speaks for “circle”.").wait_for(state="attached")

    first = page.locator(".heat").get_attribute("src")
    page.get_by_label("And for").select_option("stripes")
    page.locator(".why p", has_text="“stripes”").wait_for()
    assert page.locator(".heat").get_attribute("src") != first
    page.get_by_label("And for").select_option("circle")
    page.locator(".why p", has_text="“circle”").wait_for()
    assert len(asked) == 2  # what was told once is not asked again
    why.press("Enter")
    assert page.locator(".heat").count() == page.locator(".why").count() == 0
    page.close()


def test_why_is_told_of_an_answer_from_before_a_reload(site: Site) -> None:
    page = site.visit()
    ask(page, ("circle.png", site.shapes["circle"]))
    page.wait_for_function("sessionStorage.length")
    page.reload()
    page.locator(".card").wait_for()
    page.get_by_role("button", name="Why?").press("Enter")
    page.locator(".heat").wait_for()
    assert page.locator(".why p").first.inner_text().startswith("Lit: what speaks for “circle”.")
    assert "Of the small picture that this tab kept." in page.locator(".why p").all_inner_texts()
    page.close()


def test_model_that_says_no_why_offers_none(site: Site) -> None:
    page = site.visit("/?model=colours")
    ask(page, ("red.png", picture("red")))
    assert page.get_by_role("button", name="Why?").count() == 0
    assert page.get_by_role("button", name="Wrong").count() == 1
    page.close()


def test_examples_are_pictures_it_was_tested_on(site: Site) -> None:
    page = site.visit()
    examples = page.get_by_role("button", name=re.compile(r"Example \d"))
    assert examples.count() == 2
    assert examples.first.locator("img").evaluate("image => image.naturalWidth") > 0
    examples.nth(1).click()
    card = page.locator(".card:has-text('example 2.png')")
    card.locator(".bars").first.wait_for()
    other = site.visit("/?model=colours")  # it has no file, so no pictures
    assert other.locator(".example").count() == 0
    other.close()
    page.close()


def last_note(site: Site, prediction_id: str) -> tuple[str, str | None, str]:
    note = site.store.feedback.list(prediction_id)[-1]
    return note.verdict, note.label, note.note


def answered_id(page: Any, name: str, content: bytes) -> str:
    with page.expect_response(re.compile("/predict")) as caught:
        ask(page, (name, content))
    return str(caught.value.json()["predictions"][0]["prediction_id"])


def test_right_and_wrong_are_told_to_the_server(site: Site) -> None:
    page = site.visit("/?model=colours")
    asked = answered_id(page, "red.png", picture("red"))
    page.get_by_role("button", name="Right").click()
    page.locator(".thanks", has_text="Noted: right.").wait_for()
    assert last_note(site, asked) == ("right", None, "")
    assert page.evaluate("document.activeElement.textContent") == "Change"
    page.keyboard.press("Enter")

    page.get_by_role("button", name="Wrong").press("Enter")
    dialog = page.get_by_role("dialog", name="What would be right?")
    dialog.wait_for()
    assert page.evaluate("document.activeElement.id") == "feedback-search"
    assert dialog.get_by_role("radio", name="amber", exact=True).count() == 0  # it said that itself
    assert dialog.get_by_role("radio").count() == 7
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Wrong"

    page.keyboard.press("Enter")
    dialog.get_by_role("button", name="Send").click()
    assert "Choose a label first" in dialog.get_by_role("alert").inner_text()
    page.keyboard.type("a")
    page.get_by_label("Search").fill("IMG SRC")
    assert dialog.locator("label.choice:visible").all_inner_texts() == [HOSTILE, "None of these"]
    page.get_by_label("Search").press("Enter")
    page.get_by_label("Anything to add").fill("seen by hand")
    dialog.get_by_role("button", name="Send").click()
    page.locator(".thanks", has_text=f"Noted: {HOSTILE}.").wait_for()
    assert last_note(site, asked) == ("wrong", HOSTILE, "seen by hand")

    for name, told in (("None of these", ("wrong", None, "")), ("I cannot tell", ("unsure", None, ""))):
        page.get_by_role("button", name="Change").click()
        page.get_by_role("button", name="Wrong").click()
        if name == "None of these":
            dialog.get_by_role("radio", name=name).check()
            dialog.get_by_role("button", name="Send").click()
        else:
            dialog.get_by_role("button", name=name).click()
        page.get_by_role("button", name="Change").wait_for()
        assert last_note(site, asked) == told
    page.close()


def test_server_without_memory_asks_for_no_verdict(site: Site) -> None:
    with start_server(make_app()) as forgetful:
        page = site.browser.new_page()
        page.goto(forgetful.url)
        ask(page, ("red.png", picture("red")))
        assert page.get_by_role("button", name="Right").count() == 0
        page.close()


def test_answers_stay_with_the_tab(site: Site) -> None:
    page = site.visit("/?model=colours")
    ask(page, ("one.png", picture("red")))
    ask(page, ("two.png", picture("lime")))
    thumbs = page.locator(".thumb")
    assert [thumb.get_attribute("aria-label") for thumb in thumbs.all()] == [
        f"two.png: I don’t know. I am not sure enough: it may be amber or {HOSTILE}.",
        "one.png: amber, 96\N{NO-BREAK SPACE}% sure",
    ]
    thumbs.first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("one.png")
    page.keyboard.press("ArrowRight")  # the end
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.querySelector('.file-name').textContent") == "one.png"
    assert page.locator(".thumb[tabindex='0']").count() == 1

    kept = page.evaluate("new Promise((done) => setTimeout(() => done(sessionStorage.length), 300))")
    assert kept == 1
    page.reload()
    page.locator(".card").nth(1).wait_for()
    assert page.locator(".card .file-name").all_inner_texts() == ["two.png", "one.png"]
    assert page.locator(".card h3").all_inner_texts() == ["I don’t know", "amber"]
    assert page.locator(".card .preview img").first.evaluate("image => image.naturalWidth") == 16
    assert page.get_by_role("button", name="Right").count() == 2
    other = site.visit("/?model=colours")  # another tab
    assert other.locator(".card").count() == 0
    other.close()

    page.get_by_role("button", name="Clear").click()
    page.reload()
    page.locator("#intake").wait_for()
    assert page.locator(".card").count() == 0
    page.close()


def test_damaged_memory_of_a_tab_is_passed_over(site: Site) -> None:
    page = site.visit("/?model=colours")
    for kept in ("{", '[{"name": 1}]', '[{"name": "a", "thumbnail": "https://example.org/x.jpg", "answer": {}}]'):
        page.evaluate("(kept) => sessionStorage.setItem('drivetrain colours@0123456789ab', kept)", kept)
        watched = Watched(page).listen()
        page.reload()
        page.locator("#intake").wait_for()
        assert page.locator(".card").count() == 0
        watched.check(site.url)
    page.close()


def test_other_model_is_chosen_with_the_keyboard(site: Site) -> None:
    page = site.visit()
    assert page.locator("h1").inner_text() == "shapes"
    choice = page.get_by_label("Model")
    assert choice.locator("option").all_inner_texts() == ["shapes", "colours"]
    with page.expect_navigation():
        choice.select_option("colours")
    assert page.locator("h1").inner_text() == "colours"
    page.locator("#code summary").click()
    assert f"{site.url}/predict?model=colours" in page.locator("#python-one").inner_text()
    ask(page, ("red.png", picture("red")))
    assert page.locator(".card h3").inner_text() == "amber"
    page.close()


def card_texts(page: Any) -> list[list[str]]:
    return [
        [part.inner_text() for part in card.locator("h3, .sure, .reason, .guess, .bars .label, .bars .percent").all()]
        for card in page.locator(".card").all()
    ]


def test_simple_upload_needs_no_script_and_says_the_same(site: Site, tmp_path: Path) -> None:
    files = []
    for colour in ("red", "lime", "blue", "navy", "black"):
        (tmp_path / f"{colour}.png").write_bytes(picture(colour))
        files.append(tmp_path / f"{colour}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files.append(tmp_path / "broken.png")

    plain = site.browser.new_context(java_script_enabled=False).new_page()
    plain.goto(f"{site.url}/?model=colours")
    assert not plain.get_by_role("button", name="Choose pictures").is_visible()
    plain.get_by_label("Pictures", exact=True).set_input_files(files)
    plain.get_by_role("button", name="Ask").click()
    plain.locator(".card").nth(5).wait_for()
    assert plain.locator("h1").inner_text() == "colours"
    assert plain.locator(".card .preview img").first.get_attribute("src").startswith("data:image/jpeg;base64,")
    widths = [row.evaluate("bar => bar.getBoundingClientRect().width") for row in plain.locator(".fill").all()[:3]]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[1] > 0

    scripted = site.visit("/?model=colours")
    assert not scripted.get_by_label("Pictures", exact=True).is_visible()
    scripted.set_input_files("#files", files)
    scripted.locator(".card.is-failed").wait_for()
    scripted.locator(".card.is-deferred").nth(3).wait_for()
    scripted.locator(".card.is-accepted").wait_for()
    assert card_texts(scripted) == card_texts(plain)
    assert len(card_texts(plain)) == 6
    plain.context.close()
    scripted.close()
