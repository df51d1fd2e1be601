"""`--html`: the page, whole and by itself."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from drivetrain.flows.evaluate import EvaluateConfig, EvaluateResult, evaluate
from drivetrain.flows.evaluate_learned import Learned
from drivetrain.flows.evaluate_page import write_page
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.settings import load_settings
from drivetrain.trust.belief import Prior
from drivetrain.trust.evaluation import measure_deferral
from drivetrain.trust.promise_check import Part, check_parts, check_promise

SECTIONS = ("groups", "worse", "foreign", "against")


@pytest.fixture(scope="module")
def result(
    model: Predictor, other: Path, data: Path, foreign: Path, tmp_path_factory: pytest.TempPathFactory
) -> EvaluateResult:
    config = EvaluateConfig(by="site", ood=foreign, corrupt=True, sample=4, prior=Prior(wins=8, losses=4))
    settings = load_settings(environ={}, flags={"cache_dir": tmp_path_factory.mktemp("cache")})
    return evaluate(model, data, progress=SilentProgress(), config=config, against=load(other), settings=settings)


@pytest.fixture(scope="module")
def page(result: EvaluateResult, model: Predictor, data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "deep" / "page.html"
    write_page(path, result, model, data, progress=SilentProgress())
    return path.read_text("utf-8")


def words(html: str) -> str:
    return " ".join(
        re.sub(r"<[^>]+>", " ", re.sub(r"(?s)<(style|script)>.*?</\1>", " ", html)).replace("&nbsp;", " ").split()
    )


def test_each_part_is_a_section_and_in_the_contents(page: str) -> None:
    for name in (*SECTIONS, "confusion", "reliability", "classes"):
        assert f'<section id="{name}">' in page
        assert f'href="#{name}"' in page
    told = words(page)
    assert "Who is served worse, by site" in told
    assert "4 of the 54 pictures, made worse in 9 ways" in told
    assert "20 pictures of something else" in told
    assert "What looked least strange to it It decided none of them by itself: every one was left to a person." in told
    assert "Is it better than other?" in told
    assert "the probability that the model is the better one was 89" in told.replace("\N{NO-BREAK SPACE}", " ")
    assert told.count("is served worse: right") == 1
    assert "in a style it has not seen" in told


def test_names_of_other_people_are_escaped_and_nothing_is_asked_of_the_network(page: str) -> None:
    assert "hut &lt;b&gt;" in page
    assert "hut <b>" not in page
    links = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in links)
    assert sum(link.startswith("data:") for link in links) >= 9 * 6 + 14
    assert "default-src 'none'" in page


def test_the_plots_show_the_numbers(page: str, result: EvaluateResult) -> None:
    assert page.count('class="kind"') == 9
    assert result.corruptions is not None
    kind = result.corruptions.of_kind("small_subject")
    points = " ".join(f"{50.0 * at:.1f},{150 * (1 - (row.accuracy.share or 0)):.1f}" for at, row in enumerate(kind))
    assert f'<polyline class="accuracy" points="{points}"/>' in page.replace("-0.0", "0.0")
    assert page.count('<rect class="known"') > 3
    assert page.count('<rect class="foreign"') > 0


def test_without_questions_there_is_the_report_alone(model: Predictor, data: Path, tmp_path: Path) -> None:
    plain = evaluate(model, data, progress=SilentProgress())
    write_page(tmp_path / "page.html", plain, model, data, progress=SilentProgress())
    html = (tmp_path / "page.html").read_text("utf-8")
    assert '<section id="confusion">' in html
    assert not any(f'<section id="{name}">' in html for name in SECTIONS)
    assert ".kinds" not in html


def test_a_broken_promise_and_learned_pictures_are_told(
    model: Predictor, data: Path, result: EvaluateResult, tmp_path: Path
) -> None:
    told = check_promise(measure_deferral(np.ones(292, np.bool_), np.arange(292) < 24), max_error=0.05)
    learned = Learned(is_fresh=np.arange(54) >= 7, n_trained_on=7, n_calibrated_on=0, is_made_of=False)
    plain = replace(result, promise=told, learned=learned, notes=tuple(learned.tell()))
    write_page(tmp_path / "page.html", plain, model, data, progress=SilentProgress())
    html = (tmp_path / "page.html").read_text("utf-8")
    assert f'<p class="verdict broken">{told.sentence}</p>' in html
    assert "of 54 pictures, 7 of which trained it" in words(html)
    assert "7 of 54 pictures trained it, and its numbers flatter it" in words(html)
    parts = [Part("b", measure_deferral(np.ones(200, np.bool_), np.arange(200) < 80))]
    by_class = check_parts("classes", parts, max_error=0.05)
    write_page(
        tmp_path / "page.html", replace(plain, part_promises=(by_class,)), model, data, progress=SilentProgress()
    )
    assert f'<p class="verdict broken">{by_class.sentence}</p>' in (tmp_path / "page.html").read_text("utf-8")
    kept = check_promise(measure_deferral(np.ones(292, np.bool_), np.arange(292) < 2), max_error=0.05)
    write_page(tmp_path / "page.html", replace(plain, promise=kept), model, data, progress=SilentProgress())
    assert f'<p class="verdict">{kept.sentence}</p>' in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_follows_the_scheme(page: str, tmp_path: Path, scheme: str, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("no Chromium at /usr/bin/chromium")
    (tmp_path / "page.html").write_text(page, "utf-8")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        shown = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}).new_page()
        asked: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto((tmp_path / "page.html").as_uri())
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        ground = shown.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
        line = shown.evaluate("getComputedStyle(document.querySelector('polyline.silent')).stroke")
        assert line == ("rgb(189, 75, 41)" if scheme == "light" else "rgb(238, 134, 97)")
        assert all(url.startswith(("file:", "data:")) for url in asked)
        browser.close()
