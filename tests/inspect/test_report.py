import datetime
import hashlib
import io
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.errors import InvalidInput
from drivetrain.imaging.thumbnail import make_thumbnail
from drivetrain.inspect.interpretation import Interpretation
from drivetrain.inspect.report import Report, render_report, write_report
from drivetrain.inspect.report_values import p_value
from drivetrain.inspect.report_view import percent
from drivetrain.trust.evaluation import evaluate_predictions

NOON = datetime.datetime(2026, 5, 3, 12, tzinfo=datetime.UTC)
SAFE_ATTRIBUTES = {"href": r"#[a-z0-9-]+", "src": r"data:image/(jpeg|png|webp);base64,[A-Za-z0-9+/=]+"}
VOID = {"meta", "img", "line", "rect", "circle"}


class Page(HTMLParser):
    """What a report holds: its elements with attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert not self.open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r" ([,.;)])", r"\1", " ".join(" ".join(self.words).split()))

    def find(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [
            found
            for name, found in self.elements
            if name == tag and all(value in found.get(key, "").split() for key, value in attributes.items())
        ]


def make_report(classes: list[str] | None = None, *, k: int = 3, n: int = 90, **changes: Any) -> Report:
    names = classes or [f"class-{i}" for i in range(k)]
    k = len(names)
    rng = np.random.default_rng(0)
    labels = np.arange(n) % k
    scores = rng.gumbel(size=(n, k)) + 2.5 * np.eye(k)[labels]
    probs = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    accepted = probs.max(axis=1) > 0.6
    parts: dict[str, Any] = {
        "name": "pets",
        "created_at": NOON,
        "evaluation": evaluate_predictions(
            probs, labels, classes=names, accepted=accepted, flagged=rng.random(n) < 0.05
        ),
        "interpretation": Interpretation(
            probs=probs, labels=labels, paths=[f"{names[i]}/{at}.jpg" for at, i in enumerate(labels)], classes=names
        ),
        "policy_statement": "Decides alone at 60 % or more.",
    }
    return Report(**(parts | changes))


def with_pictures(report: Report) -> dict[str, bytes]:
    image = make_thumbnail(Image.new("RGB", (16, 16), "teal"))
    return dict.fromkeys(report.interpretation.paths, image)


def test_headline_is_the_accuracy_in_plain_words() -> None:
    report = make_report()
    told = report.evaluation
    low, high = percent(told.accuracy_low, unit=""), percent(told.accuracy_high)
    sentence = f"{percent(told.accuracy)} of 90 pictures it had never seen (95 % interval {low} to {high})"
    assert sentence.replace("\N{NO-BREAK SPACE}", " ") in Page(render_report(report)).text


def test_every_part_of_the_report_is_told() -> None:
    report = make_report(
        pictures="validation pictures",
        root="/somewhere/pets",
        facts={"backbone": "lite0"},
        timings=[("features", 75.4), ("fit", 0.5)],
        unreadable=[("cat/x.jpg", "truncated")],
        notes=["Few dogs."],
    )
    text = Page(render_report(report)).text
    for said in (
        *("of 90 validation pictures", "Decides alone at 60 %", "Paths start from /somewhere/pets", "backbone lite0"),
        *(
            "features 1 min 15 s",
            "fit 0.5 s",
            "1 min 15 s in all",
            "1 file left out",
            "cat/x.jpg truncated",
            "Few dogs.",
        ),
        *("3 May 2026, 12:00 UTC", "pets"),
    ):
        assert said in text


def test_deferral_is_told_with_counts_and_interval() -> None:
    report = make_report()
    told = report.evaluation.deferral
    text = Page(render_report(report)).text
    assert f"decided alone {percent(told.coverage)} {told.n_accepted} of 90".replace("\xa0", " ") in text
    assert f"wrong among those {percent(told.error)} {told.n_wrong} of {told.n_accepted};".replace("\xa0", " ") in text
    assert f"left to a person {percent(1 - told.coverage)} {90 - told.n_accepted} of 90".replace("\xa0", " ") in text


def test_few_pictures_have_no_drawn_interval() -> None:
    few, many = (render_report(make_report(n=n)) for n in (29, 90))
    assert (few.count("too few pictures for an interval"), many.count("too few pictures for an interval")) == (3, 0)


@pytest.mark.parametrize(
    ("value", "shown"), [(0.5, "0.50"), (0.01, "0.01"), (0.0031, "0.003"), (0.0004, "< 0.001"), (0.0, "< 0.001")]
)
def test_a_p_value_never_reads_as_nothing(value: float, shown: str) -> None:
    assert p_value(value) == shown


@pytest.mark.parametrize("k", [2, 60])
def test_matrix_prints_every_count(k: int) -> None:
    report = make_report(k=k, n=10 * k)
    page = Page(render_report(report))
    shown = page.find("td", **{"class": "right"}) + page.find("td", **{"class": "wrong"})
    counts = report.interpretation.confusion_matrix()
    assert len(shown) == np.count_nonzero(counts)
    i, j = np.argwhere(counts * (1 - np.eye(k, dtype=int)))[0]
    assert f"{counts[i, j]} of 10 class-{i} called class-{j}" in {cell["title"] for cell in shown}
    assert len(page.find("svg", **{"class": "interval"})) == 2 * k + 1
    assert bool(page.find("div", **{"class": "large"})) == (k == 60)


def test_every_link_leads_somewhere() -> None:
    report = make_report()
    page = Page(render_report(make_report(thumbnails=with_pictures(report))))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = {link["href"].removeprefix("#") for link in page.find("a")}
    assert len(links) > 10
    assert links <= ids


def test_cells_lead_to_their_pictures() -> None:
    report = make_report()
    page = Page(render_report(make_report(thumbnails=with_pictures(report))))
    counts = report.interpretation.confusion_matrix()
    assert len(page.find("section", **{"class": "panel"})) == np.count_nonzero(counts)
    assert len(page.find("img")) == 90 + 24  # all behind the cells, and the worst again
    wrong_only = Page(render_report(report))
    assert len(wrong_only.find("section", **{"class": "panel"})) == np.count_nonzero(counts) - 3
    assert not wrong_only.find("img")


def test_a_crowded_cell_says_how_many_are_left_out() -> None:
    report = make_report(k=2, n=400)
    shown = Page(render_report(make_report(k=2, n=400, thumbnails=with_pictures(report))))
    left_out = report.interpretation.confusion_matrix()[0, 0] - 60
    assert left_out > 0
    assert f"{left_out} more not shown here." in shown.text


def test_top_losses_are_told_with_their_full_path() -> None:
    report = make_report(root="/data/pets/")
    worst = report.interpretation.top_losses(1)[0]
    page = Page(render_report(report))
    assert page.find("p", **{"class": "path"})[0]["data-full"].startswith("/data/pets/class-")
    assert (
        f"{worst.prediction} {percent(worst.probability, 0)} in truth {worst.label} ".replace("\xa0", " ") in page.text
    )
    assert f"loss {worst.loss:.2f} {worst.path}" in page.text
    windows = Page(render_report(make_report(root="C:\\pets")))
    assert windows.find("p", **{"class": "path"})[0]["data-full"].startswith("C:\\pets\\class-")


def test_hostile_names_stay_text() -> None:
    hostile = ["<script>alert(1)</script>", '" onmouseover="alert(2)', "{{ 7*7 }}"]
    first = make_report(hostile)
    report = make_report(
        hostile,
        name="</title><script>alert(3)</script>",
        root="'><script>",
        thumbnails=with_pictures(first),
        facts={"<b>": "<img src=x onerror=alert(4)>"},
        timings=[("<i>", 1.0)],
        unreadable=[("</code><script>", "<svg onload=alert(5)>")],
        notes=["<script>alert(6)</script>"],
        policy_statement="<script>alert(7)</script>",
        pictures="<script>",
    )
    page = Page(render_report(report))
    assert len(page.find("script")) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text


def test_no_request_leaves_the_page() -> None:
    report = make_report()
    page = Page(render_report(make_report(thumbnails=with_pictures(report))))
    checked = 0
    for _, attributes in page.elements:
        for name, pattern in SAFE_ATTRIBUTES.items():
            if name in attributes:
                assert re.fullmatch(pattern, attributes[name])
                checked += 1
        assert not {"srcset", "action", "poster", "data", "xlink:href"} & set(attributes)
    assert checked > 100
    assert not page.find("link")
    assert not re.search(r"https?:|@import|url\(", page.html)


def test_the_browser_runs_only_our_script() -> None:
    html = render_report(make_report())
    script = html.split("<script>")[1].split("</script>")[0]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = Page(html).find("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_absent_classes_empty_parts_and_nothing_accepted_are_told() -> None:
    probs = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0]])
    names = ["a", "b", "c"]
    report = make_report(
        evaluation=evaluate_predictions(
            probs, np.array([0, 0]), classes=names, accepted=np.zeros(2, bool), flagged=np.ones(2, bool)
        ),
        interpretation=Interpretation(probs=probs, labels=np.array([0, 0]), paths=["1", "2"], classes=names),
    )
    text = Page(render_report(report)).text
    assert "every picture could be read" in text
    assert "wrong among those – 0 of 0 " in text
    assert "Where the time went" not in text


def test_an_evaluation_of_other_pictures_is_refused() -> None:
    with pytest.raises(InvalidInput, match="want the 30 pictures and 3 classes of the evaluation"):
        make_report(evaluation=make_report(n=30).evaluation)


def test_a_thumbnail_that_is_no_picture_is_refused() -> None:
    for bad in (b"<svg onload=alert(1)>", b"RIFF0000WAVE"):
        with pytest.raises(InvalidInput, match="JPEG, PNG or WebP bytes"):
            render_report(make_report(thumbnails={"class-0/0.jpg": bad}))


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_thumbnails_of_each_kind_come_out_as_they_went_in(kind: str) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, kind)
    page = Page(render_report(make_report(thumbnails={"class-0/0.jpg": out.getvalue()})))
    head, data = page.find("img")[0]["src"].split(",")
    assert head == f"data:image/{kind};base64"
    assert b64decode(data) == out.getvalue()


def test_write_report_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, make_report(name="first"))
    write_report(path, make_report(name="second"))
    assert "<h1>second</h1>" in path.read_text("utf-8")
    assert list(path.parent.iterdir()) == [path]


def test_a_report_that_cannot_be_put_in_place_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(path, make_report())
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_name_that_is_not_utf8_still_makes_a_report(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", make_report(unreadable=[("caf\udce9.jpg", "truncated")]))
    assert "caf\\udce9.jpg" in (tmp_path / "r.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.9032, "90.3 %"), (1.0, "100 %"), (0.0, "0 %"), (0.9999, "> 99.9 %"), (0.0001, "< 0.1 %"), (None, "–")],
)
def test_percent_never_rounds_to_certainty(share: float | None, shown: str) -> None:
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_percent_heeds_digits_and_unit() -> None:
    assert percent(0.256, 0, unit="") == "26"
    assert percent(0.999, 0, unit="") == "> 99".replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "CMYK", "1"])
def test_thumbnail_is_a_small_rgb_jpeg_of_the_whole_picture(mode: str) -> None:
    source = Image.new("RGB", (400, 200), "teal").convert(mode)
    shown = Image.open(io.BytesIO(make_thumbnail(source, side=100)))
    assert (shown.format, shown.mode, shown.size) == ("JPEG", "RGB", (100, 50))
    assert source.size == (400, 200)


def test_thumbnail_shows_transparency_as_white() -> None:
    shown = Image.open(io.BytesIO(make_thumbnail(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))))
    assert shown.getpixel((4, 4)) == (255, 255, 255)


def test_thumbnail_keeps_no_metadata_and_does_not_enlarge() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    Image.new("RGB", (20, 10)).save(out, "JPEG", comment=b"secret remark", exif=exif, icc_profile=b"secret profile")
    small = make_thumbnail(Image.open(out))
    assert b"secret" in out.getvalue()
    assert b"secret" not in small
    assert Image.open(io.BytesIO(small)).size == (20, 10)


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
def test_clicking_a_cell_shows_its_pictures(chromium: Any, tmp_path: Path) -> None:
    hostile = ["<script>alert(1)</script>", "cat", "dog"]
    report = make_report(hostile, thumbnails=with_pictures(make_report(hostile)))
    write_report(tmp_path / "report.html", report)
    url = (tmp_path / "report.html").as_uri()
    for javascript in (True, False):
        context = chromium.new_context(viewport={"width": 390, "height": 844}, java_script_enabled=javascript)
        page = context.new_page()
        trouble: list[str] = []
        asked: list[str] = []
        page.on("console", lambda message, into=trouble: into.append(message.text))
        page.on("pageerror", lambda error, into=trouble: into.append(str(error)))
        page.on("dialog", lambda dialog, into=trouble: into.append(dialog.message))
        page.on("request", lambda request, into=asked: into.append(request.url))
        page.goto(url)
        counts = report.interpretation.confusion_matrix()
        assert page.locator(".panel:visible").count() == 0
        for i, j in ((1, 2), (1, 1)):
            page.locator(f'.matrix a[href="#cell-{i}-{j}"]').click()
            shown = page.locator(".panel:visible")
            assert shown.count() == 1
            assert shown.locator("h3").inner_text().startswith(f"{counts[i, j]} of 30 cat called {hostile[j]}")
            assert shown.locator("img:visible").count() == counts[i, j]
        if javascript:
            assert shown.locator("img").first.evaluate("image => image.naturalWidth") == 16
        page.locator(".panel:visible .close").click()
        assert page.locator(".panel:visible").count() == 0
        if javascript:
            assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert not trouble
        assert all(one == url or one.startswith(("data:", url + "#")) for one in asked)
        context.close()
