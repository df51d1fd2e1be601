"""A real browser, told apart from a person's by nothing but its speed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from drivetrain.serve.app import create_app
from drivetrain.store.store import Store, open_store

from .fakes import FakeModel, settings

CHROMIUM = Path("/usr/bin/chromium")
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
HOSTILE = "<img src=x onerror=alert(1)>"
AXE = Path(__file__).parent / "vendor" / "axe.min.js"

in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no {CHROMIUM}"),
]


# each width and each scheme always; the other two combinations where there is time
WAYS = [
    (1280, "light"),
    (390, "dark"),
    pytest.param(1280, "dark", marks=pytest.mark.slow),
    pytest.param(390, "light", marks=pytest.mark.slow),
]


@dataclass
class Watched:
    """A page, and all that its browser complained of or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def listen(self) -> Watched:
        page = self.page
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        return self

    def check(self, url: str) -> None:
        """No complaint, and nothing asked of anyone but `url`."""
        assert self.complaints == []
        assert self.requests
        assert [one for one in self.requests if not one.startswith((url, "blob:", "data:"))] == []


@contextmanager
def launch() -> Iterator[Any]:
    """Chromium with a camera that shows a test picture."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGS)
        yield browser
        browser.close()


@contextmanager
def app_with_store(folder: Path, *models: FakeModel, **changed: object) -> Iterator[tuple[FastAPI, Store]]:
    """An app that remembers, in `folder`."""
    store = open_store(f"sqlite:///{folder}/page.db")
    try:
        app = create_app(None, settings(**changed), store=store)
        for model in models:
            app.state.registry.add(model)
        yield app, store
    finally:
        store.close()


def upload(name: str, content: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": content}


def faults(page: Any) -> list[str]:
    """What axe finds wrong, a line each."""
    # evaluated beside the page's own scripts, which its policy does not reach
    page.evaluate(AXE.read_text("utf-8") + "\n;undefined")
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['html'][:200]} ({node.get('failureSummary', '')[:300]})"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
