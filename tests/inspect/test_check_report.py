from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drivetrain.data.datasheet import QUESTIONS
from drivetrain.inspect.check_report import CheckReport, choose_examples, render_check_report, write_check_report
from drivetrain.inspect.findings import Finding, count_of, join_names, share_of

HOSTILE = "<script>alert(1)</script>`a`"


def thumbnail() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 12), "teal").save(out, "JPEG")
    return out.getvalue()


def finding(**changes: Any) -> Finding:
    parts: dict[str, Any] = {
        "code": "copies",
        "severity": "warning",
        "what": "2 files repeat.",
        "why": "Because.",
        "next_step": "Use `--quarantine`.",
        "count": 2,
        "groups": (("a/1.jpg", "a/2.jpg"),),
    }
    return Finding(**(parts | changes))


def report(*findings: Finding, **changes: Any) -> CheckReport:
    paths = choose_examples(findings)
    parts: dict[str, Any] = {
        "name": "pets",
        "root": "/data/pets",
        "findings": findings,
        "counts": {"train": {"a": 4, "b": 2}, "test": {"a": 1, "b": 0}},
        "styles": {"a": {"dark": 0.25}, "b": {"dark": 0.0}},
        "thumbnails": {path: thumbnail() for path in paths},
        "labels": dict.fromkeys(paths, "a"),
        "splits": dict.fromkeys(paths, "train"),
        "open_questions": tuple(QUESTIONS)[:2],
    }
    return CheckReport(**(parts | changes))


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_tells_all() -> None:
    page = Page(render_check_report(report(finding(details=("a and b: 2",)), notes=["Few."], skipped=["flips: no"])))
    for said in (
        *("7 readable pictures · 2 classes · train, test", "1 warning", "2 files repeat.", "Because.", "a and b: 2"),
        *("Left out: flips: no", "Few.", "25 %", "even its bright parts are dim", "Paths start from /data/pets"),
        *("2 questions in datasheet.md wait", QUESTIONS["Motivation"]),
    ):
        assert said in page.text, said
    assert [attributes["title"] for tag, attributes in page.elements if tag == "p" and "title" in attributes] == [
        "/data/pets/a/1.jpg",
        "/data/pets/a/2.jpg",
    ]
    assert "<code>--quarantine</code>" in page.html


def test_nothing_found_is_told() -> None:
    text = Page(render_check_report(report(open_questions=(), styles={}))).text
    assert "Nothing was found that would harm a model." in text
    assert "Every question in datasheet.md has an answer." in text
    assert "by the checks that were made" in Page(render_check_report(report(skipped=["x"]))).text


def test_many_examples_are_bounded_and_counted() -> None:
    many = tuple((f"a/{number}.jpg",) for number in range(500))
    bad = finding(groups=many, details=tuple("d" for _ in many))
    assert len(choose_examples([bad])) == 12
    assert len(choose_examples([finding(groups=many, severity="note")])) == 6
    page = Page(render_check_report(report(bad)))
    assert sum(tag == "img" for tag, _ in page.elements) == 12
    assert "488 more not shown here" in page.text
    assert "488 more, all with --json" in page.text
    one = finding(groups=(tuple(f"a/{number}.jpg" for number in range(20)),))
    assert "and 14 more" in Page(render_check_report(report(one))).text


def test_hostile_names_stay_text() -> None:
    bad = finding(
        what=HOSTILE, why=HOSTILE, next_step=HOSTILE, details=(HOSTILE,), groups=((f"{HOSTILE}.jpg", "'\" onload=x"),)
    )
    changes = {
        "name": f"</title>{HOSTILE}", "root": HOSTILE, "notes": [HOSTILE], "skipped": [HOSTILE, "one ` alone"],
        "counts": {HOSTILE: {HOSTILE: 1}}, "styles": {HOSTILE: {"dark": 1.0}}, "open_questions": (),
    }  # fmt: skip
    page = Page(render_check_report(report(bad, **changes)))
    assert not [tag for tag, _ in page.elements if tag in {"script", "link", "iframe", "object"}]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") >= 9
    assert "one ` alone" in page.text


def test_no_request_leaves_the_page() -> None:
    page = Page(render_check_report(report(finding())))
    for _, attributes in page.elements:
        assert re.fullmatch(r"data:image/jpeg;base64,[\w+/=]+", attributes.get("src", "data:image/jpeg;base64,x"))
        assert re.fullmatch(r"#[\w-]+", attributes.get("href", "#x"))
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {a["href"][1:] for tag, a in page.elements if tag == "a"} <= ids
    assert not re.search(r"https?:|@import|url\(", page.html)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")
    assert "script" not in policy


def test_a_name_that_is_not_utf8_still_makes_a_page(tmp_path: Path) -> None:
    write_check_report(tmp_path / "c.html", report(finding(groups=(("caf\udce9.jpg",),)), thumbnails={}))
    write_check_report(tmp_path / "c.html", report(finding(details=("caf\udce9.jpg",))))
    assert "caf\\udce9.jpg" in (tmp_path / "c.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [(0, 5, "none"), (5, 5, "all"), (1, 1000, "< 1 %"), (999, 1000, "> 99 %"), (3, 4, "75 %"), (0, 0, "none")],
)
def test_shares_never_round_to_none_or_all(part: int, whole: int, said: str) -> None:
    assert share_of(part, whole) == said


def test_words() -> None:
    assert (count_of(1, "picture"), count_of(1200, "class", "classes")) == ("1 picture", "1,200 classes")
    assert join_names(["a"]) == "'a'"
    assert join_names(["a", "b", "c"]) == "'a', 'b' and 'c'"
    assert join_names(list("abcdefgh")) == "'a', 'b', 'c', 'd', 'e', 'f' and 2 more"


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
def test_the_page_fits_a_phone_and_asks_nothing(chromium: Any, scheme: str, tmp_path: Path) -> None:
    wide = finding(groups=(tuple(f"{'x' * 60}/{number}.jpg" for number in range(9)),), details=("y" * 300,))
    one = finding(severity="error", groups=(("a/1.jpg",), ("a/2.jpg",)))
    write_check_report(tmp_path / "c.html", report(wide, one, labels={}, root="/" + "z" * 200))
    context = chromium.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    asked: list[str] = []
    trouble: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: trouble.append(message.text))
    page.goto((tmp_path / "c.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".finding").count() == 2
    assert page.locator("img").first.evaluate("image => image.naturalWidth") == 16
    assert not trouble
    assert all(url.startswith(("file:", "data:")) for url in asked)
    context.close()
