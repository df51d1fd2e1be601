"""The description holds: schemathesis asks what it allows and what it does not, and judges the answers by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from drivetrain.flows.train import TrainResult
from drivetrain.serve.server import start_server

from .fakes import WAIT_S, call, make_app, picture
from .tiny import archive, tiny_app, write

ROUTES = {
    ("POST", "/predict"), ("POST", "/feedback/{prediction_id}"), ("POST", "/explain"),
    ("GET", "/predictions/{prediction_id}"),
    ("GET", "/model"), ("GET", "/models"), ("GET", "/health/live"), ("GET", "/health/ready"), ("GET", "/metrics"),
    ("GET", "/v2"), ("GET", "/v2/health/live"), ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/{name}"), ("GET", "/v2/models/{name}/ready"), ("POST", "/v2/models/{name}/infer"),
    ("GET", "/v2/models/{name}/versions/{version}"), ("GET", "/v2/models/{name}/versions/{version}/ready"),
    ("POST", "/v2/models/{name}/versions/{version}/infer"),
    ("POST", "/v2/repository/index"), ("POST", "/v2/repository/models/{name}/load"),
    ("POST", "/v2/repository/models/{name}/unload"),
}  # fmt: skip
# A description cannot say that bytes must be a picture, so what it allows may still be 422.
UNFIT = {"positive_data_acceptance", "negative_data_rejection", "missing_required_header", "ignored_auth"}


def described(app: FastAPI) -> dict[str, Any]:
    return dict(call(app, "GET", "/openapi.json").json())


def test_every_route_of_the_api_is_described_and_no_page() -> None:
    app = make_app()
    found = {(method.upper(), path) for path, of in described(app)["paths"].items() for method in of}
    assert found == ROUTES


def test_every_route_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
    assert [f"{method} {path}" for method, path in ROUTES if f"`{method} {path}`" not in text] == []


def test_every_operation_names_its_errors_and_its_key() -> None:
    for path, operations in described(make_app())["paths"].items():
        for method, operation in operations.items():
            is_public = path in {"/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}
            assert ("security" in operation) is not is_public, path
            assert {"200", "401", "403", "421", "429", "500"} <= set(operation["responses"]), (method, path)
            for status, response in operation["responses"].items():
                if status >= "300":
                    schema = response["content"]["application/json"]["schema"]
                    assert schema["required"] == (
                        ["error"] if path.startswith("/v2") else ["code", "message", "field", "request_id"]
                    )


def test_predict_describes_its_four_bodies() -> None:
    predict = described(make_app())["paths"]["/predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {
        "image/*",
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }
    assert {"404", "408", "409", "413", "415", "422", "429", "500", "503"} <= set(predict["responses"])


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, trained: TrainResult) -> Iterator[FastAPI]:
    """A model with all that a bundle can hold, under the name `shapes`, and `other` to load and unload."""
    folder = tmp_path_factory.mktemp("openapi")
    write(folder / "models", "other", archive("other"))
    with tiny_app(folder, bundle=trained.bundle, key_rate_limit=0) as app:
        yield app


def judge(app: FastAPI, *, examples: int) -> int:
    """Ask each operation so many right and so many wrong things; how many operations were asked."""
    load_all_checks()
    checks = [check for check in CHECKS.get_all() if check.__name__ not in UNFIT]
    names = {check.__name__ for check in checks}
    assert {"not_a_server_error", "response_schema_conformance", "status_code_conformance"} <= names
    faults: list[str] = []
    with start_server(app) as running:
        schema = schemathesis.openapi.from_url(f"{running.url}/openapi.json")
        operations = [found.ok() for found in schema.get_all_operations()]
        for operation in operations:
            served = app.state.registry.get()
            is_other = "/repository/" in operation.path
            real = {"name": "other"} if is_other else {"name": served.name, "version": served.digest}
            real = {name: value for name, value in real.items() if f"{{{name}}}" in operation.path}
            for mode in schemathesis.GenerationMode:
                try:
                    ask_many(operation, mode, checks, real, examples=examples)
                except hypothesis.errors.Unsatisfiable:
                    assert mode is schemathesis.GenerationMode.NEGATIVE  # nothing about it can be wrong
                except FailureGroup as exc:
                    faults += [f"{operation.label}: {fault}" for fault in exc.exceptions]
    assert faults == []
    return len(operations)


def ask_many(
    operation: Any,
    mode: schemathesis.GenerationMode,
    checks: list[Any],
    real: dict[str, str],
    *,
    examples: int,
) -> None:
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        if "{name}" in operation.path and mode is schemathesis.GenerationMode.POSITIVE:
            case.path_parameters |= real
        case.call_and_validate(checks=checks, timeout=WAIT_S)

    ask()


def test_schemathesis_finds_no_fault(app: FastAPI) -> None:
    assert judge(app, examples=8) == len(ROUTES)


@pytest.mark.slow
def test_schemathesis_finds_no_fault_in_many_tries(app: FastAPI) -> None:
    assert judge(app, examples=200) == len(ROUTES)


def test_docs_page_shows_every_route_without_a_script_or_a_stranger(app: FastAPI) -> None:
    reply = call(app, "GET", "/docs")
    assert reply.status_code == 200
    assert reply.headers["Content-Type"].startswith("text/html")
    assert "unsafe" not in reply.headers["Content-Security-Policy"]
    for _, path in ROUTES:
        assert path in reply.text
    assert not re.search(r"<script|<style| style=| on\w+=", reply.text)
    assert set(re.findall(r"https?://[^/\"'&<\s]+", reply.text)) <= {"http://localhost"}
    for link in re.findall(r'(?:src|href)="([^"#]+)"', reply.text):
        assert call(app, "GET", f"/{link.removeprefix('./')}").status_code == 200, link
    for code in ("shift_p_value", "shifted_by", "prediction_id", "Idempotency-Key"):
        assert code in reply.text


def test_openapi_is_the_same_for_every_caller(tmp_path: Path) -> None:
    app = make_app()
    first = described(app)
    call(app, "POST", "/predict", content=picture(), headers={"Content-Type": "image/png"})
    assert described(app) == first
