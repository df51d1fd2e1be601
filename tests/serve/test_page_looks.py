"""Every page, light and dark, wide and narrow: nothing that axe finds wrong, nothing too wide, nothing from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drivetrain.flows.train import TrainResult
from drivetrain.serve.server import RunningServer, start_server

from .browsing import HOSTILE, WAYS, Watched, app_with_store, faults, in_browser, launch, upload
from .fakes import FakeModel, picture

pytestmark = in_browser


@dataclass
class Site:
    """A server with two models, one from a file, and a folder with a third."""

    server: RunningServer
    browser: Any

    @property
    def url(self) -> str:
        return self.server.url

    def visit(self, path: str, width: int, scheme: str) -> Watched:
        page = self.browser.new_page(
            viewport={"width": width, "height": 844}, color_scheme=scheme, reduced_motion="reduce"
        )
        watched = Watched(page).listen()
        page.goto(self.url + path)
        return watched


@pytest.fixture(scope="module")
def site(trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    (folder / "spare.dt").write_bytes(trained.bundle.read_bytes())
    classes = ("amber", HOSTILE, "coral", "dune", "emerald", "fern", "grey")
    with app_with_store(folder, models=str(folder)) as (app, store):
        app.state.registry.load(trained.bundle)
        app.state.registry.add(FakeModel(name=f"x {HOSTILE}", version=f"x {HOSTILE}@0123456789ab", classes=classes))
        store.audit("model.load", by="local", subject=HOSTILE)
        with start_server(app) as server, launch() as browser:
            yield Site(server, browser)


@pytest.mark.parametrize(("width", "scheme"), WAYS)
@pytest.mark.parametrize(
    "path", ["/", "/card", "/docs", "/admin", "/login", "/card?model=x+%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"]
)
def test_page_that_is_read(path: str, width: int, scheme: str, site: Site) -> None:
    seen = site.visit(path, width, scheme)
    seen.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert faults(seen.page) == []
    assert seen.page.evaluate("document.documentElement.scrollWidth") == width
    assert seen.page.locator("h1").count() == 1
    here = {"/": "Try it", "/card": "Model card", "/docs": "API", "/admin": "Admin"}.get(path.partition("?")[0])
    assert seen.page.locator("nav [aria-current]").all_inner_texts() == ([here] if here else [])
    seen.check(site.url)
    seen.page.close()


@pytest.mark.parametrize(("width", "scheme"), WAYS)
def test_answers_with_all_that_hangs_on_them(
    width: int, scheme: str, site: Site, trained: TrainResult, picture_folder: Any, tmp_path: Path
) -> None:
    shape = next((picture_folder(("circle",), per_class=1, root=tmp_path) / "circle").iterdir())
    seen = site.visit("/", width, scheme)
    page = seen.page
    page.set_input_files("#files", [upload(f"{HOSTILE}.png", shape.read_bytes()), upload("broken.heic", b"no")])
    page.locator(".card.is-failed").wait_for()
    page.get_by_role("button", name="Why?").first.click()
    page.locator(".heat").wait_for()
    photo, heat = (page.locator(f".is-explained .preview img{of}").bounding_box() for of in (":not(.heat)", ".heat"))
    assert heat == pytest.approx(photo, abs=1)  # the one lies on the other
    assert photo["width"] / photo["height"] == pytest.approx(64 / 48, rel=0.02)  # no empty bands around it
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.get_by_role("button", name="Wrong").first.click()
    page.get_by_role("dialog", name="What would be right?").wait_for()
    assert faults(page) == []
    seen.check(site.url)
    page.close()

    strange = site.visit("/?model=x+%3Cimg+src%3Dx+onerror%3Dalert(1)%3E", width, scheme)
    names = ("black", "navy", "lime", "red")
    strange.page.set_input_files("#files", [upload(f"{name}.png", picture(name)) for name in names])
    strange.page.locator(".card.is-deferred").nth(2).wait_for()
    strange.page.locator(".card.is-accepted").wait_for()
    assert faults(strange.page) == []
    assert strange.page.evaluate("document.documentElement.scrollWidth") == width
    strange.check(site.url)
    strange.page.close()


def test_camera_dialog(site: Site) -> None:
    seen = site.visit("/", 1280, "light")
    page = seen.page
    page.context.grant_permissions(["camera"])
    page.get_by_role("button", name="Take a photo").click()
    snap = page.get_by_role("button", name="Take the photo")
    page.locator("#snap:not([disabled])").wait_for()
    assert page.evaluate("document.activeElement.id") == "snap"
    page.locator("#viewfinder").evaluate("video => video.readyState >= 2 || new Promise(d => video.onloadeddata = d)")
    assert faults(page) == []
    snap.click()
    card = page.locator(".card:has-text('photo ')")
    card.locator(".actions").wait_for()
    assert card.locator(".preview img").evaluate("image => image.naturalWidth") >= 320
    assert page.evaluate("document.getElementById('viewfinder').srcObject") is None  # the light goes out
    page.get_by_role("button", name="Take a photo").click()
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#camera").is_visible()
    seen.check(site.url)
    page.close()
