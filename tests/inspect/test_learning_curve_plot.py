import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.inspect.learning_curve_plot import render_learning_curve
from drivetrain.trust.learning_curve import LearningCurve, fit_learning_curve

TEMPLATES = Path(__file__).parents[2] / "src" / "drivetrain" / "inspect" / "templates"
VOID = {"line", "circle", "polygon", "polyline"}


def make_curve(*, is_share: bool = True, label: str = "hat", scale: float = 1.0, repeats: int = 3) -> LearningCurve:
    rng = np.random.default_rng(0)
    sizes = (100, 200, 300, 400)
    errors = 0.03 + 1.2 * np.array(sizes, dtype=float) ** -0.4
    if not is_share:
        losses = (
            scale * rng.gamma(2, 0.5, size=500) * errors[None, :, None] * rng.normal(1, 0.02, size=(repeats, 4, 500))
        )
        return fit_learning_curve(losses, sizes, score="mean absolute error", is_share=False)
    losses = np.repeat((rng.random(500) < errors[:, None])[None].astype(float), repeats, axis=0)
    class_losses = np.full((4, 500, 2), np.nan)
    class_losses[:, :300, 0] = np.linspace(1, 0.1, 4)[:, None]
    return fit_learning_curve(
        losses, sizes, score="accuracy", is_share=True, class_losses=class_losses, classes=[label, "absent"]
    )


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def find(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def test_it_tells_the_answer_and_its_numbers() -> None:
    curve = make_curve()
    page = Page(render_learning_curve(curve))
    assert f"{curve.sentence}." in page.text
    assert f"{curve.class_sentence}." in page.text
    assert f"learned from all 500 {100 * curve.now.score:.1f} % 95 % interval {100 * curve.now.low:.1f} %" in page.text
    assert f"with twice as many about {100 * curve.twice.score:.1f} %" in page.text
    assert "3 times over all of them" in page.text
    assert "1 time over all of them" in Page(render_learning_curve(make_curve(repeats=1))).text


def test_every_dot_stands_where_its_numbers_are() -> None:
    curve = make_curve()
    page = Page(render_learning_curve(curve))
    circles, ticks = (
        page.find("circle"),
        re.findall(r'<text class="end" x="-8" y="([\d.]+)">(\d+)<', render_learning_curve(curve)),
    )
    (y0, low), (y1, high) = [(float(y) - 4, int(tick)) for y, tick in (ticks[0], ticks[-1])]
    for circle, point in zip(circles, [*curve.points, curve.twice], strict=True):
        assert float(circle["cx"]) == pytest.approx(point.n / 1000 * 400, abs=0.06)
        there = low + (float(circle["cy"]) - y0) / (y1 - y0) * (high - low)
        assert there == pytest.approx(100 * point.score, abs=0.1)
    titles = re.findall(r"<title>(.*?)</title>", render_learning_curve(curve))
    assert titles[0].startswith(f"100 pictures: {100 * curve.points[0].score:.1f}")


@pytest.mark.parametrize("scale", [1e-3, 1, 4e4])
def test_errors_of_any_size_have_ticks_around_all_there_is(scale: float) -> None:
    curve = make_curve(is_share=False, scale=scale)
    html = render_learning_curve(curve)
    ticks = [float(tick) for tick in re.findall(r'<text class="end" x="-8" y="[\d.]+">([\d.]+)<', html)]
    assert 3 <= len(ticks) <= 9
    seen = [*curve.points, *curve.curve]
    assert min(ticks) <= min(point.low for point in seen) * 1.001
    assert max(ticks) >= max(point.high for point in seen) * 0.999
    assert all(0 <= float(circle["cy"]) <= 280 for circle in Page(html).find("circle"))
    assert "class by class" not in html


def test_a_curve_without_width_still_has_two_ticks() -> None:
    flat = fit_learning_curve(np.full((1, 2, 30), 2.0), (10, 20), score="mean absolute error", is_share=False)
    html = render_learning_curve(flat)
    assert len(re.findall(r'<text class="end" x="-8"', html)) >= 2
    assert "nan" not in html


def test_names_of_classes_are_escaped_and_those_without_pictures_left_out() -> None:
    html = render_learning_curve(make_curve(label="<script>alert(1)</script>"))
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 2  # in the sentence, in the table
    assert "absent" not in html


def test_only_so_many_classes_are_listed() -> None:
    curve = make_curve()
    many = replace(curve, classes=tuple(replace(curve.classes[0], label=f"c{number}") for number in range(90)))
    assert Page(render_learning_curve(many)).find("tr")[1:] == [{}] * 60


@pytest.fixture
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("no Chromium at /usr/bin/chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_follows_the_scheme(chromium: Any, scheme: str, tmp_path: Path) -> None:
    style = (TEMPLATES / "report.css").read_text("utf-8")
    body = render_learning_curve(make_curve(label="x" * 80))
    head = '<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    (tmp_path / "c.html").write_text(f"{head}<style>{style}</style><main>{body}</main>", "utf-8")
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.goto((tmp_path / "c.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    band = page.locator("polygon.band").first.evaluate("element => getComputedStyle(element).fill")
    assert band == {"light": "rgb(13, 106, 115)", "dark": "rgb(86, 191, 196)"}[scheme]
    # no word of the plot lies on another
    boxes = page.locator("svg.plot text").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(box => [box.left, box.top, box.right, box.bottom])"
    )
    assert [
        (one, other)
        for at, one in enumerate(boxes)
        for other in boxes[:at]
        if one[0] < other[2] - 1 and other[0] < one[2] - 1 and one[1] < other[3] - 2 and other[1] < one[3] - 2
    ] == []
    context.close()
