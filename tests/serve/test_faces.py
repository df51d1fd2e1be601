"""Health, model, page, static files, error bodies and headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI

from drivetrain.errors import BundleRefused, Conflict, DrivetrainError, InvalidConfig, MissingExtra, NotFound
from drivetrain.serve.app import create_app
from drivetrain.serve.model import PredictorModel
from drivetrain.serve.routes.pages import accuracy_in_words

from .fakes import FakeModel, call, client, make_app, picture, post, settings


def test_health_of_a_ready_server() -> None:
    app = make_app()
    assert call(app, "GET", "/health/live").json() == {"live": True}
    ready = call(app, "GET", "/health/ready")
    assert ready.status_code == 200
    assert ready.json() == {"ready": True, "model": "colours", "version": "colours@0123456789ab"}
    assert call(app, "HEAD", "/health/ready").status_code == 200


def test_server_without_a_model_lives_but_is_not_ready() -> None:
    app = create_app(None, settings())
    assert call(app, "GET", "/health/live").status_code == 200
    for reply in (call(app, "GET", "/health/ready"), call(app, "GET", "/model"), post(app, picture())):
        assert (reply.status_code, reply.json()["code"]) == (503, "unavailable")
    page = call(app, "GET", "/")
    assert page.status_code == 200
    assert "no model loaded" in page.text


def test_server_that_shuts_down_is_not_ready_and_takes_nothing() -> None:
    async def go() -> None:
        app = make_app()
        async with app.router.lifespan_context(app), client(app) as session:
            assert (await session.get("/health/ready")).status_code == 200
        async with client(app) as session:
            ready = await session.get("/health/ready")
            assert ready.status_code == 503
            assert "shutting down" in ready.json()["message"]
            refused = await session.post("/predict", content=picture(), headers={"Content-Type": "image/png"})
            assert refused.status_code == 503
        async with app.router.lifespan_context(app), client(app) as session:
            assert (await session.get("/health/ready")).status_code == 200

    asyncio.run(go())


def test_model_is_described() -> None:
    model = FakeModel()
    assert call(make_app(model), "GET", "/model").json() == {
        "name": model.name,
        "version": model.version,
        "classes": list(model.classes),
        "evaluation": dict(model.evaluation),
        "policy": dict(model.policy),
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/static/x/../../app.py", 404, "not_found"),
        ("GET", "/static/x/app.py", 404, "not_found"),
        ("POST", "/predict/", 404, "not_found"),
        ("GET", "/predict", 405, "method_not_allowed"),
        ("DELETE", "/", 405, "method_not_allowed"),
    ],
)
def test_wrong_addresses_have_the_one_body(method: str, path: str, status: int, code: str) -> None:
    reply = call(make_app(), method, path)
    assert reply.status_code == status
    assert set(reply.json()) == {"code", "message", "field", "request_id"}
    assert reply.json()["code"] == code
    if status == 405:
        assert reply.headers["Allow"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("x", got=1, want="2"), 404),
        (Conflict("x", got=1, want="2"), 409),
        (InvalidConfig("x", got=1, want="2"), 422),
        (BundleRefused("bundle_zip", "x", got=1, want="2"), 422),
        (MissingExtra("x", package="p", extra="e"), 503),
        (DrivetrainError("x", got="secret", want="2"), 500),
        (ZeroDivisionError("secret"), 500),
    ],
)
def test_each_error_has_its_status(error: Exception, status: int) -> None:
    app = make_app()

    async def fail() -> None:
        raise error

    app.add_api_route("/fail", fail)
    reply = call(app, "GET", "/fail")
    assert reply.status_code == status
    assert set(reply.json()) == {"code", "message", "field", "request_id"}
    assert "secret" not in reply.text
    if isinstance(error, DrivetrainError) and status != 500:
        assert reply.json()["message"] == error.message


def test_validation_and_other_http_errors_have_the_one_body() -> None:
    app = make_app()

    async def count(n: int) -> int:
        return n

    app.add_api_route("/count", count)
    reply = call(app, "GET", "/count?n=many")
    assert (reply.status_code, reply.json()["code"], reply.json()["field"]) == (422, "invalid_input", "query.n")


@pytest.mark.parametrize("given", ["abc-1.2_Z", "a" * 64])
def test_sane_request_id_is_kept(given: str) -> None:
    reply = call(make_app(), "GET", "/nothing", headers={"X-Request-ID": given})
    assert reply.headers["X-Request-ID"] == reply.json()["request_id"] == given


@pytest.mark.parametrize("given", ["", "a" * 65, "a b", "<script>", "é".encode("latin-1")])
def test_other_request_id_is_replaced(given: str | bytes) -> None:
    reply = call(
        make_app(), "GET", "/", headers={b"X-Request-ID": given if isinstance(given, bytes) else given.encode()}
    )
    assert re.fullmatch(r"[0-9a-f]{16}", reply.headers["X-Request-ID"])


def test_page_is_strict_about_what_it_loads() -> None:
    reply = call(make_app(), "GET", "/")
    policy = reply.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
    assert "unsafe" not in policy
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"<script(?![^>]*src=)|<style| style=| on\w+=|(src|href|action)=.https?://", reply.text)


def test_page_says_what_the_model_is() -> None:
    page = call(make_app(), "GET", "/").text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Right on 93.1 % of 1,372 pictures held out of its training" in page
    assert "between 90.0 % and 95.5 %" in page
    assert "at most 5 % are wrong" in page
    assert "<li>emerald</li>" in page


def test_names_from_the_model_are_escaped() -> None:
    model = FakeModel(name="<b>x</b>", classes=("<img src=x onerror=alert(1)>", "b", "c", "d", "e", "f", "g"))
    page = call(make_app(model), "GET", "/").text
    assert "<b>x" not in page
    assert "<img src=x" not in page


def test_many_classes_fold_away() -> None:
    model = FakeModel(classes=tuple(f"kind {i}" for i in range(100)))
    page = call(make_app(model), "GET", "/").text
    assert "<summary>76 more</summary>" in page
    assert page.count("<li>kind ") == 100


@pytest.mark.parametrize("evaluation", [{}, {"accuracy": "<b>1</b>"}, {"accuracy": 1, "accuracy_low": 1, "n": True}])
def test_accuracy_that_was_not_measured_is_not_claimed(evaluation: Mapping[str, object]) -> None:
    assert "Nobody has measured it" in accuracy_in_words(evaluation)


def test_an_error_of_few_pictures_is_told_without_an_interval() -> None:
    row = {"name": "h", "mae": 1.25, "mae_low": None, "mae_high": None}
    told = accuracy_in_words({"n": 12, "per_value": [row]}, "regression")
    assert told == (
        "Off by 1.25 on average, on 12 pictures held out of its training; too few to say how far that may be off."
    )


def static_paths(app: FastAPI) -> list[str]:
    return re.findall(r'(?:src|href)="(static/[^"]+)"', call(app, "GET", "/").text)


def test_static_files_are_found_typed_and_cached() -> None:
    app = make_app()
    paths = sorted(set(static_paths(app)))
    assert [path.rpartition("/")[2] for path in paths] == ["mark.svg", "page.css", "page.js"]
    kinds = []
    for path in paths:
        reply = call(app, "GET", f"/{path}")
        assert reply.status_code == 200
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        kinds.append(reply.headers["Content-Type"])
    assert kinds == ["image/svg+xml", "text/css; charset=utf-8", "text/javascript; charset=utf-8"]
    assert call(app, "GET", "/static/older/page.js").headers["Cache-Control"] == "no-cache"


def test_page_is_not_sent_twice() -> None:
    app = make_app()
    tag = call(app, "GET", "/").headers["ETag"]
    again = call(app, "GET", "/", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_loaded_bundle_is_served_with_what_its_manifest_claims() -> None:
    fake = FakeModel()
    manifest = SimpleNamespace(evaluation={"n": 3}, decision={"statement": "so"})
    predictor = SimpleNamespace(
        name=fake.name,
        version=fake.version,
        task=fake.task,
        classes=fake.classes,
        manifest=manifest,
        input_size=1,
        prepare=fake.prepare,
        run=fake.run,
        decide=fake.decide,
    )
    app = create_app(PredictorModel(cast(Any, predictor)), settings())
    described = call(app, "GET", "/model").json()
    assert (described["evaluation"], described["policy"]) == ({"n": 3}, {"statement": "so"})
    assert described["classes"] == list(fake.classes)
    assert post(app, picture(), path="/predict?name=a").json()["label"] == "amber"
