"""The page, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from drivetrain.serve.server import RunningServer, start_server

from .fakes import FakeModel, make_app, picture

CHROMIUM = Path("/usr/bin/chromium")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
HOSTILE = "<img src=x onerror=alert(1)>"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}"),
]


@pytest.fixture
def running() -> Iterator[RunningServer]:
    model = FakeModel(classes=("amber", HOSTILE, "coral", "dune", "emerald", "fern", "grey"))
    with start_server(make_app(model)) as server:
        yield server


@pytest.fixture
def page() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
        browser.close()


def upload(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def test_pictures_become_cards(page: Any, running: RunningServer) -> None:
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(running.url)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose pictures").press("Enter")
    chooser.value.set_files(
        [upload("red.png", picture("red")), upload(HOSTILE, picture("lime")), upload("broken.heic", b"no picture")]
    )
    page.locator(".is-accepted").wait_for()
    page.locator(".is-deferred").wait_for()
    page.locator(".is-failed").wait_for()

    names = page.locator(".file-name").all_inner_texts()
    assert names == ["red.png", HOSTILE, "broken.heic"]
    accepted, deferred, failed = (page.locator(f".is-{state}") for state in ("accepted", "deferred", "failed"))
    assert accepted.locator("h3").inner_text() == "amber"
    assert accepted.locator(".detail > .bars li").count() == 5
    assert accepted.locator(".bars .percent").first.inner_text() == "96\N{NO-BREAK SPACE}%"
    assert accepted.locator("summary").inner_text() == "2 more"
    assert deferred.locator("h3").inner_text() == "I don’t know"
    assert deferred.locator(".reason").inner_text() == f"I am not sure enough: it may be amber or {HOSTILE}."
    assert deferred.locator(".guess").inner_text() == "If I had to guess: amber"
    assert "cannot read this file" in failed.locator(".reason").inner_text()
    assert failed.locator(".tile").inner_text() == "HEIC"
    shares = page.evaluate("[...document.querySelectorAll('.is-accepted .fill')].map((e) => e.offsetWidth)")
    assert shares[:5] == sorted(shares[:5], reverse=True)
    assert shares[0] > shares[1]

    spoken = page.locator("#announcer", has_text=re.compile("3 pictures answered|red.png"))
    spoken.wait_for(state="attached")
    assert page.locator("#tally").inner_text() == "1 decided, 1 for a person, 1 without an answer"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.locator("#code summary").click()
    assert f"{running.url}/predict" in page.locator("#curl-one").inner_text()

    page.get_by_role("button", name="Clear").click()
    assert page.locator(".card").count() == 0
    assert complaints == []
    assert requests
    assert all(url.startswith((running.url, "blob:")) for url in requests)


def test_page_takes_a_drop_and_a_paste(page: Any, running: RunningServer) -> None:
    page.goto(running.url)
    give = """([kind, name]) => {
        const canvas = document.createElement('canvas'); canvas.width = canvas.height = 16;
        return new Promise((done) => canvas.toBlob((blob) => {
            const data = new DataTransfer(); data.items.add(new File([blob], name, {type: 'image/png'}));
            const event = kind === 'drop'
                ? new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})
                : new ClipboardEvent('paste', {clipboardData: data, bubbles: true});
            document.body.dispatchEvent(event); done();
        }));
    }"""
    for kind in ("drop", "paste"):
        page.evaluate(give, [kind, f"{kind}.png"])
        page.locator(f".card:has-text('{kind}.png') .bars").first.wait_for()


def test_two_warnings_are_two_sentences(page: Any) -> None:
    """What is unlike anything known, and what is only new in its style; and both at once."""
    with start_server(make_app()) as running:
        page.goto(running.url)
        said = {}
        for colour in ("black", "blue", "navy", "lime"):
            page.set_input_files("#files", [upload(f"{colour}.png", picture(colour))])
            card = page.locator(f".card.is-deferred:has-text('{colour}.png')")
            card.wait_for()
            said[colour] = card.locator(".reason").all_inner_texts()
            headline = "I may be wrong" if colour == "black" else "I don’t know"
            assert card.locator("h3").inner_text() == headline
    assert said == {
        "black": [
            "This is the right kind of thing, in a style I have not seen. "
            "It is darker and blurrier than the pictures I know."
        ],
        "blue": ["This does not look like anything I was trained on."],
        "navy": [
            "This does not look like anything I was trained on.",
            "It is greyer than the pictures I know. If it shows something I should know, that may be why.",
        ],
        "lime": ["I am not sure enough: it may be amber or blue."],
    }


def test_picture_over_the_limit_is_told_before_it_is_sent(page: Any) -> None:
    with start_server(make_app(image_max_bytes=1000)) as running:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        page.goto(running.url)
        page.set_input_files("#files", [upload("big.png", bytes(1001))])
        assert "at most 1 kB" in page.locator(".is-failed .reason").inner_text()
        assert "POST" not in sent
