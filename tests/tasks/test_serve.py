"""The server and its page with a model of labels, and one of values."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image

from drivetrain.bundle.archive import parse_bundle
from drivetrain.runtime.predictor import Predictor
from drivetrain.serve.app import create_app
from drivetrain.serve.model import PredictorModel
from drivetrain.serve.routes.pages import accuracy_in_words
from drivetrain.serve.server import start_server
from drivetrain.settings import load_settings
from drivetrain.task import Task

from .forge import tiny_parts

BOTH: tuple[Task, ...] = ("multilabel", "regression")
CHROMIUM = Path("/usr/bin/chromium")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


def app_of(task: Task) -> FastAPI:
    predictor = Predictor(parse_bundle(io.BytesIO(tiny_parts(task).archive())))
    return create_app(PredictorModel(predictor), load_settings(environ={}, flags={"threads": 2}))


def picture(*colour: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), colour).save(out, "PNG")
    return out.getvalue()


def call(app: FastAPI, method: str, path: str, **given: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=30
        ) as session:
            return await session.request(method, path, **given)

    return asyncio.run(send())


def test_openapi_describes_what_is_answered() -> None:
    for task in BOTH:
        app = app_of(task)
        answer = call(
            app, "POST", "/predict", content=picture(240, 60, 60), headers={"Content-Type": "image/png"}
        ).json()
        schema = call(app, "GET", "/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]
        kinds = schema["content"]["application/json"]["schema"]["anyOf"]
        fits = [kind for kind in kinds if set(kind["required"]) <= answer.keys() <= set(kind["properties"])]
        assert len(fits) == 1, task
        enum = fits[0]["properties"]["decision"]["enum"]
        assert answer["decision"] in enum


def test_the_model_says_its_task() -> None:
    for task in BOTH:
        described = call(app_of(task), "GET", "/model").json()
        assert (described["task"], described["classes"]) == (task, list(tiny_parts(task).manifest["classes"]))
        assert described["policy"]["statement"] == tiny_parts(task).manifest["decision"]["statement"]


def test_the_page_says_what_the_model_is() -> None:
    labels = call(app_of("multilabel"), "GET", "/").text.replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(
        r"Every label right on \d\d\.\d % of 200 pictures held out .* Its mean F1 is 0\.9\d, of 1\.", labels
    )
    assert "It looks for 2 labels" in labels
    assert "<li>bright</li><li>red</li>" in labels
    values = call(app_of("regression"), "GET", "/").text
    assert re.search(r"Off by 0\.\d+ on average, on 200 pictures held out of its training; likely between 0\.1", values)
    assert "It measures 1 value" in values
    assert "<li>" not in values  # nobody named it


@pytest.mark.parametrize("task", BOTH)
@pytest.mark.parametrize(
    "evaluation", [{}, None, 7, {"per_value": []}, {"per_value": [{"mae": "<b>"}], "n": 3}, {"exact": float("nan")}]
)
def test_what_was_not_measured_is_not_claimed(task: Task, evaluation: Any) -> None:
    assert accuracy_in_words(evaluation, task).startswith("Nobody has measured it")


@pytest.fixture
def page() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield browser.new_page(viewport={"width": 390, "height": 844}, reduced_motion="reduce")
        browser.close()


def show(page: Any, url: str, **pictures: bytes) -> list[str]:
    """Give the page these pictures, wait for the answers; gives what the browser complained of."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(url)
    files = [{"name": f"{name}.png", "mimeType": "image/png", "buffer": data} for name, data in pictures.items()]
    page.set_input_files("#files", files)
    page.locator(".card.is-accepted, .card.is-deferred").nth(len(files) - 1).wait_for()
    return complaints


@pytest.mark.browser
def test_labels_on_the_page(page: Any) -> None:
    with start_server(app_of("multilabel")) as server:
        complaints = show(
            page, server.url, both=picture(250, 150, 150), none=picture(70, 90, 110), unsure=picture(110, 150, 127),
        )  # fmt: skip
        cards = {name: page.locator(f".card:has-text('{name}.png')") for name in ("both", "none", "unsure")}
        assert set(cards["both"].locator("h3").inner_text().split(", ")) == {"bright", "red"}
        assert cards["both"].locator(".sure").inner_text() == "sure of every label"
        assert cards["both"].locator(".mark.is-present").count() == 2
        assert cards["none"].locator("h3").inner_text() == "None of its labels"
        assert cards["none"].locator(".mark.is-absent").count() == 2
        unsure = cards["unsure"]
        assert unsure.locator("h3").inner_text() == "I know some of it"
        assert unsure.locator(".reason").inner_text() == "I am not sure about bright."
        assert unsure.locator(".bars li").first.locator(".label").inner_text() == "bright"  # what is open comes first
        assert unsure.locator(".mark.is-defer").get_attribute("aria-label") == "a person should look"
        assert page.locator("#tally").inner_text() == "2 decided, 1 for a person"
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert complaints == []


@pytest.mark.browser
def test_values_on_the_page(page: Any) -> None:
    with start_server(app_of("regression")) as server:
        complaints = show(page, server.url, grey=picture(130, 120, 125))
        card = page.locator(".card")
        assert re.fullmatch(r"4\.9\d*", card.locator("h3").inner_text())
        assert re.fullmatch(r"likely between 4\.\d+ and 5\.\d+", card.locator(".sure").inner_text())
        assert card.locator(".bars").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert complaints == []
