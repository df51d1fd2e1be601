"""The pages' routes without a browser: the why, the card, the admin's acts, and who may see what."""

from __future__ import annotations

import base64
import io
import re
import shutil
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drivetrain.flows.train import TrainResult
from drivetrain.runtime.prediction import MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.serve.page.card import render_markdown, view_card
from drivetrain.serve.page.shelf import Leaf
from drivetrain.serve.page.traffic import TrafficWatch
from drivetrain.serve.page.words import decimal, guessed, percent, reason_sentences, sureness

from .browsing import HOSTILE
from .doors import Door, open_door
from .fakes import FakeModel, call, make_app, picture

SECRET = "three green bottles"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    (tmp_path / "models").mkdir()
    with open_door(tmp_path, models=str(tmp_path / "models")) as opened:
        yield opened


@pytest.fixture
def shapes(door: Door, trained: TrainResult, tmp_path: Path) -> Path:
    """The trained bundle beside the fake model, and lying in the folder of models."""
    path = Path(shutil.copy(trained.bundle, tmp_path / "models" / "shapes.dt"))
    door.app.state.registry.load(path)
    return path


@pytest.fixture(scope="module")
def circle(picture_folder: Any) -> bytes:
    return bytes(next((picture_folder(("circle",), per_class=1) / "circle").iterdir()).read_bytes())


def explain(door: Door, content: bytes, query: str = "model=shapes", kind: str = "image/png") -> Any:
    return door.post(f"/explain?{query}", content=content, headers={"Content-Type": kind})


def test_why_is_told_of_bytes_and_of_a_form(door: Door, shapes: Path, circle: bytes) -> None:
    reply = explain(door, circle)
    told = reply.json()
    assert reply.status_code == 200
    assert set(told) == {
        "label", "probability", "share_explained", "width", "height", "where", "frame", "heat", "version"
    }  # fmt: skip
    assert (told["label"], told["width"], told["height"]) == ("circle", 64, 48)
    assert told["share_explained"] == pytest.approx(1.0)
    assert told["version"].startswith("shapes@")
    assert told["frame"] == pytest.approx({"left": 0.125, "top": 0, "right": 0.875, "bottom": 1})
    kind, _, data = told["heat"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as heat:
        assert heat.size == (320, 240)
    form = door.post("/explain?model=shapes", files={"file": ("a.png", circle, "image/png")})
    assert form.json() == told
    other = explain(door, circle, "model=shapes&label=stripes").json()
    assert other["label"] == "stripes"
    assert other["heat"] != told["heat"]
    answer = door.post("/predict?model=shapes", content=circle, headers={"Content-Type": "image/png"}).json()
    assert answer["probability"] == pytest.approx(told["probability"])


def test_why_that_cannot_be_told_is_an_error(door: Door, shapes: Path, circle: bytes) -> None:
    cases = [
        (explain(door, circle, "model=shapes&label=bear"), 422, "invalid_input"),
        (explain(door, circle, "model=shapes&label="), 422, "invalid_input"),
        (explain(door, b"no picture"), 422, "unreadable_picture"),
        (explain(door, b""), 422, "invalid_input"),
        (explain(door, b"{}", kind="application/json"), 415, "unsupported_media_type"),
        (explain(door, circle, "model=bears"), 404, "not_found"),
        (explain(door, circle, "model=colours"), 409, "conflict"),  # it came from no file
        (door.post("/explain?model=shapes", files=[("f", ("a", circle)), ("f", ("b", circle))]), 422, "invalid_input"),
    ]
    assert "Load it from its .dt file" in cases[6][0].json()["message"]
    for reply, status, code in cases:
        assert (reply.status_code, reply.json()["code"]) == (status, code)
        assert str(shapes.parent) not in reply.text


def test_why_of_a_file_that_was_replaced_is_not_told(door: Door, shapes: Path, circle: bytes) -> None:
    shapes.write_bytes(b"PK something else")
    reply = explain(door, circle)
    assert (reply.status_code, reply.json()["code"]) == (409, "conflict")
    assert "shapes.dt" in reply.json()["message"]
    assert "load the model again" in reply.json()["message"]
    assert str(shapes.parent) not in reply.text


def test_examples_are_the_fixtures_that_are_photographs(door: Door, shapes: Path) -> None:
    for number in (1, 2):
        reply = door.get(f"/examples/{number}.png?model=shapes")
        assert (reply.status_code, reply.headers["Content-Type"]) == (200, "image/png")
        with Image.open(io.BytesIO(reply.content)) as image:
            assert image.size == (64, 48)  # also the one that the bundle keeps turned
    for name in ("3.png", "0.png", "1", "..%2F1.png", "000.png"):
        assert door.get(f"/examples/{name}?model=shapes").status_code in {403, 404}
    assert door.get("/examples/1.png?model=colours").status_code == 404


def test_form_without_a_script(door: Door) -> None:
    files = [("file", ("red.png", picture("red"), "image/png")), ("file", (HOSTILE, b"x", "image/png"))]
    reply = door.post("/", files=files)
    assert reply.status_code == 200
    assert '<h3 class="answer">amber</h3>' in reply.text
    assert "I cannot read this file as a picture." in reply.text
    assert "<img src=x" not in reply.text
    empty = door.post("/", files=[("file", ("", b"", "application/octet-stream"))])
    assert empty.status_code == 422
    assert 'role="alert"' in empty.text


def test_form_of_a_signed_in_person_carries_its_token(door: Door) -> None:
    person = door.person("ann", "predict")
    page = person.get("/").text
    token = re.search(r'name="csrf" value="([^"]+)"', page)
    assert token is not None
    assert token[1] == person.csrf()
    files = [("file", ("red.png", picture("red"), "image/png"))]
    assert person.post("/", files=files).status_code == 403
    # httpx sends fields before files, as a browser sends them in the form's order
    accepted = person.post("/", files=files, data={"csrf": token[1]})
    assert accepted.status_code == 200
    assert "Sign out" in accepted.text
    assert "ann" in accepted.text
    order = re.findall(r'name="(csrf|file)"', page[page.index('id="intake"') :])
    assert order[:2] == ["csrf", "file"]  # the gatekeeper looks at the first part of a form


def test_pages_show_only_what_the_visitor_may(door: Door) -> None:
    viewer, admin = door.person("vera", "predict"), door.person("ada", "admin")
    assert 'href="./admin"' not in viewer.get("/").text
    assert viewer.get("/admin").status_code == 403
    assert viewer.get("/admin/parts/keys").status_code == 403
    assert 'href="./admin"' in admin.get("/").text
    assert admin.get("/admin").status_code == 200
    assert "Authorization: Bearer $DRIVETRAIN_KEY" in viewer.get("/").text.replace("&#34;", '"')
    stranger = door.seen_from(door.address)
    asked = stranger.get("/card", headers={"Accept": "text/html"})
    assert (asked.status_code, asked.headers["Location"]) == (303, "login?next=/card")


@pytest.mark.parametrize("with_script", [True, False])
def test_admin_loads_and_unloads(with_script: bool, door: Door, shapes: Path) -> None:
    headers = {"HX-Request": "true"} if with_script else {}

    def act(what: str, name: str) -> Any:
        return door.post(f"/admin/{what}", data={"name": name}, headers=headers)

    digest = door.app.state.registry.get("shapes").digest
    for what, name in (("unload", f"shapes@{digest}"), ("load", "shapes")):
        reply = act(what, name)
        if with_script:
            assert reply.status_code == 200
            assert "<html" not in reply.text
            assert ("answers now." if what == "load" else "answers no more.") in reply.text
        else:
            assert (reply.status_code, reply.headers["Location"]) == (303, "../admin")
        assert ("shapes" in door.app.state.registry.names()) == (what == "load")
    for name in ("../shapes", "nothing", ""):
        refused = act("load", name)
        assert refused.status_code == (200 if with_script else 422 if not name else 404)
        assert 'class="said"' in refused.text
        assert str(shapes.parent) not in refused.text
    assert door.store is not None
    acts = [event.action for event in door.store.audit.list(limit=20)]
    assert "model.load" in acts
    assert "model.unload" in acts


def test_admin_tells_which_file_a_model_came_from(door: Door, shapes: Path) -> None:
    """A model's name and its file's may differ: it is shown by the one and loaded by the other."""
    assert "of-file" not in door.get("/admin/parts/models").text
    door.app.state.registry.unload("shapes")
    shapes.rename(shapes.with_name("summer.dt"))
    assert "shapes answers" not in door.post("/admin/load", data={"name": "shapes"}).text
    assert door.post("/admin/load", data={"name": "summer"}).status_code == 303
    assert '<span class="of-file">file summer.dt</span>' in door.get("/admin/parts/models").text


def test_admin_shows_keys_without_their_secrets_and_acts_without_markup(door: Door) -> None:
    token = door.key("predict")
    assert door.store is not None
    door.store.audit("model.load", by="local", subject=HOSTILE)
    admin = door.person("ada", "admin")
    page = admin.get("/admin").text
    secret = token.rpartition("_")[2]
    assert secret not in page
    assert token.split("_")[1] in page
    assert "<img src=x" not in page
    for part in ("models", "traffic", "keys", "audit"):
        assert admin.get(f"/admin/parts/{part}").status_code == 200
    assert admin.get("/admin/parts/secrets").status_code == 404


def test_admin_counts_what_was_answered() -> None:
    app = make_app()
    for colour in ("red", "red", "blue", "lime"):
        call(app, "POST", "/predict", content=picture(colour), headers={"Content-Type": "image/png"})
    call(app, "GET", "/nothing")
    page = call(app, "GET", "/admin").text
    cells = re.findall(r"<td>([^<]*)</td>", page[page.index("Left to a person") :])
    assert cells[:5] == ["4", "0", "50.0 %", "25.0 %", "0"]
    assert "4xx" in page


def test_traffic_is_read_from_counters() -> None:
    now = [0.0]
    watch = TrafficWatch(clock=lambda: now[0])

    def text(n: int) -> str:
        buckets = [("0.1", n // 2), ("0.2", n), ("+Inf", n)]
        route = 'route="/predict"'
        return "\n".join(
            [
                "# TYPE drivetrain_http_requests counter",
                f'drivetrain_http_requests_total{{{route},method="POST",code="200"}} {n}',
                f'drivetrain_http_requests_total{{{route},method="POST",code="422"}} 3',
                f'drivetrain_http_requests_total{{{route},method="POST",code="503"}} 1',
                "# TYPE drivetrain_http_request_duration_seconds histogram",
                *(f'drivetrain_http_request_duration_seconds_bucket{{{route},le="{le}"}} {k}' for le, k in buckets),
                "",
            ]
        )

    first = watch.look(text(100))
    assert (first.requests, first.refused, first.failed, first.rate, first.line) == (104, 3, 1, None, "")
    assert dict(first.seconds) == pytest.approx({"p50": 0.1, "p95": 0.19, "p99": 0.198})
    now[0] = 10.0
    assert watch.look(text(150)).rate == pytest.approx(5.0)
    now[0] = 20.0
    later = watch.look(text(160))
    assert later.rate == pytest.approx(1.0)
    assert later.line == "0.0,2.0 100.0,18.0"
    assert TrafficWatch().look("").seconds == [("p50", None), ("p95", None), ("p99", None)]


class _Seen(HTMLParser):
    """What a browser would make of it."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]


@pytest.mark.parametrize(
    ("markdown", "wanted"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a <img src=x onerror=alert(1)> b", "&lt;img src=x onerror=alert(1)&gt;"),
        ("[x](javascript:alert(1))", "[x](javascript:alert(1))"),
        ("[x](data:text/html,hi)", "[x](data:text/html,hi)"),
        ("![x](https://example.org/a.png)", '!<a href="https://example.org/a.png" rel='),
        ("[x](https://example.org 'a\" onclick=\"b')", "&quot; onclick=&quot;b"),
        ("# Title", "<h3>Title</h3>"),
        ("---\nlicense: other\n---\n\ntext", "<p>text</p>\n"),
        ("| a |\n| :-: |\n| 1 |", '<div class="scroll" tabindex="0" role="group"'),
    ],
)
def test_card_of_a_stranger_is_harmless(markdown: str, wanted: str) -> None:
    html = str(render_markdown(markdown))
    assert wanted in html
    seen = _Seen()
    seen.feed(html)
    assert seen.tags <= {"p", "a", "h3", "div", "table", "thead", "tbody", "tr", "th", "td"}
    assert seen.attributes <= {"href", "rel", "title", "class", "tabindex", "role", "aria-label"}
    assert all(link.startswith("https://example.org") for link in seen.links)


@pytest.mark.parametrize(
    "evaluation",
    [
        {"n": "many", "per_class": "none", "reliability": 3, "ece": None},
        {"per_class": [1, {"label": 3}, {"label": HOSTILE, "recall": "x", "n": True}], "reliability": [{}, None]},
        {"reliability": [{"confidence": 9, "accuracy": 1, "accuracy_low": 0, "accuracy_high": 1, "n": 1}]},
    ],
)
def test_card_page_of_a_manifest_that_is_not_as_it_should_be(evaluation: Mapping[str, object]) -> None:
    policy = {"promise": "none", "label_set": 3, "statement": 7}
    model = FakeModel(evaluation=evaluation, policy=policy)
    told = view_card(model, Leaf(lineage={"seed": [1], HOSTILE: HOSTILE}))
    assert told.dots == []
    reply = call(make_app(model), "GET", "/card")
    assert reply.status_code == 200
    assert "<img src=x" not in reply.text


def test_card_page_tells_what_the_bundle_holds(door: Door, shapes: Path) -> None:
    page = door.get("/card?model=shapes").text
    for wanted in (
        "held out of its training",
        "Each class",
        "stripes",
        "reliability",
        "What it promises",
        "Apache-2.0",
    ):
        assert wanted in page
    assert door.app.state.registry.get("shapes").version in page
    assert "<h3>shapes</h3>" in page  # its MODEL_CARD.md
    assert door.get("/card?model=nothing").status_code == 404


def prediction(**changed: Any) -> Prediction:
    told: dict[str, Any] = {
        "label": "a", "probability": 0.5, "probabilities": {"a": 0.5, "b": 0.5}, "label_set": ("a", "b"),
        "ood_score": 0.0, "ood_p_value": 0.5, "decision": "defer", "reasons": ("low_confidence",),
    }  # fmt: skip
    return Prediction(**(told | changed))


def test_words_of_answers() -> None:
    labels = tuple("abcde")
    assert reason_sentences(prediction(label_set=labels)) == [
        "I am not sure enough: it may be a, b, c or one of 2 others."
    ]
    assert reason_sentences(prediction(label_set=("a",))) == ["I am not sure enough to decide this by myself."]
    assert reason_sentences(prediction(reasons=())) == ["A person should look at this one."]
    value = ValuePrediction(
        value=3.14159, interval=(3.0, 3.3), values={"h": 3.14159, "w": 20_000.4},
        intervals={"h": (3.0, 3.3), "w": None}, ood_score=0, ood_p_value=1, decision="accept",
    )  # fmt: skip
    assert guessed(value) == "h: 3.142, w: 20,000"
    assert sureness(value) == "likely h between 3 and 3.3"
    some = MultiLabelPrediction(
        labels=(), probabilities={"a": 0.4, "b": 0.1}, decisions={"a": "defer", "b": "absent"},
        ood_score=0, ood_p_value=1, decision="defer", reasons=("low_confidence",),
    )  # fmt: skip
    assert guessed(some) == "none of its labels"
    assert reason_sentences(some) == ["I am not sure about a."]
    assert [percent(p) for p in (1.0, 0.999, 0.5, 0.004, 0.0)] == [
        f"{text}\N{NO-BREAK SPACE}%".replace("_", "\N{NO-BREAK SPACE}") for text in ("100", ">_99", "50", "<_1", "0")
    ]
    assert [decimal(x) for x in (0, 0.000123456, -1234.56, 123456.0)] == ["0", "0.0001235", "-1,235", "123,500"]
