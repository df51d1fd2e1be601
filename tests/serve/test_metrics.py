"""What is counted: every answer a client sees, under names that stay, also over several processes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from drivetrain.runtime.batch_types import Meter
from drivetrain.runtime.prediction import MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.serve.access import outcome_of
from drivetrain.serve.metrics import CLASSES_SHOWN, Metrics
from drivetrain.serve.server import start_server

from .fakes import WAIT_S, BlockingModel, BrokenModel, FakeModel, call, client, make_app, picture, post, until

VERSION = FakeModel.version
OF_MODEL = {"model_name": "colours", "model_version": VERSION}
FAMILIES = {
    "drivetrain_http_requests": "counter",
    "drivetrain_http_request_duration_seconds": "histogram",
    "drivetrain_http_requests_in_progress": "gauge",
    "drivetrain_inference_requests": "counter",
    "drivetrain_inference_items": "counter",
    "drivetrain_inference_batches": "counter",
    "drivetrain_inference_batch_size": "histogram",
    "drivetrain_inference_pending_items": "gauge",
    "drivetrain_inference_queue_duration_seconds": "histogram",
    "drivetrain_inference_preprocess_duration_seconds": "histogram",
    "drivetrain_inference_compute_duration_seconds": "histogram",
    "drivetrain_inference_postprocess_duration_seconds": "histogram",
    "drivetrain_model_info": "gauge",
    "drivetrain_model_ready": "gauge",
    "drivetrain_predictions": "counter",
    "drivetrain_prediction_confidence": "histogram",
    "drivetrain_out_of_domain": "counter",
    "drivetrain_abstained": "counter",
    "drivetrain_feedback": "counter",
    "drivetrain_rollout_requests": "counter",
    "drivetrain_rollout_unstored": "counter",
    "drivetrain_rollout_shadows": "counter",
    "drivetrain_rollout_rollbacks": "counter",
    "drivetrain_rollout_backlog": "gauge",
    "drivetrain_rollout_stage": "gauge",
    "drivetrain_rollout_share": "gauge",
    "drivetrain_webhooks": "counter",
}


def value(text: str, name: str, **labels: str) -> float | None:
    """Of the one sample with this name and these labels, whatever others it has."""
    found = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) < 2, found
    return found[0] if found else None


def page(app: FastAPI) -> str:
    reply = call(app, "GET", "/metrics")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return reply.text


def prediction(label: str = "a", **changed: Any) -> Prediction:
    given = {
        "label": label,
        "probability": 0.75,
        "probabilities": {"a": 0.75, "b": 0.25},
        "label_set": ("a",),
        "ood_score": 1.0,
        "ood_p_value": 0.5,
        "decision": "accept",
    }
    return Prediction(**{**given, **changed})


def test_the_names_and_kinds_are_these_and_no_others() -> None:
    families = text_string_to_metric_families(page(make_app()))
    ours = {family.name: family.type for family in families if not family.name.startswith("process_")}
    assert ours == FAMILIES


def test_one_process_tells_its_memory() -> None:
    assert (value(page(make_app()), "process_resident_memory_bytes") or 0) > 1e6


def test_answers_are_counted_by_route_method_and_code() -> None:
    app = make_app()
    for status, reply in (
        (200, post(app, picture())),
        (422, post(app, b"no picture")),
        (415, post(app, b"x", kind="text/plain")),
        (422, post(app, b"{", kind="application/json")),  # what cannot be parsed is an answer too
        (404, call(app, "GET", "/nowhere?secret=1")),
        (405, call(app, "DELETE", "/predict")),
        (404, call(app, "GET", "/static/x/none.css")),
    ):
        assert reply.status_code == status
    text, total = page(app), "drivetrain_http_requests_total"
    predict = {"route": "/predict", "method": "POST"}
    assert value(text, total, **predict, code="200") == 1
    assert value(text, total, **predict, code="422") == 2
    assert value(text, total, **predict, code="415") == 1
    assert value(text, total, route="unmatched", method="GET", code="404") == 1
    assert value(text, total, route="/predict", method="DELETE", code="405") == 1
    assert value(text, total, route="/static/{version}/{name}", code="404") == 1
    assert value(text, "drivetrain_http_request_duration_seconds_count", route="/predict") == 5
    assert value(text, "drivetrain_http_requests_in_progress") == 1  # the one that reads them
    requests = "drivetrain_inference_requests_total"
    assert value(text, requests, **OF_MODEL, outcome="success") == 1
    invalid = [s.value for f in text_string_to_metric_families(text) for s in f.samples if s.name == requests]
    assert sum(invalid) == 4
    assert "secret" not in text
    assert "nowhere" not in text


def test_what_is_refused_before_its_route_is_counted_there_all_the_same() -> None:
    app = make_app()
    reply = call(app, "POST", "/predict", content=picture(), headers={"Host": "elsewhere.example"})
    assert reply.status_code >= 400
    text = page(app)
    code = str(reply.status_code)
    assert value(text, "drivetrain_http_requests_total", route="/predict", method="POST", code=code) == 1


def test_a_fault_of_ours_is_counted_as_500_and_error() -> None:
    app = make_app(BrokenModel())
    assert post(app, picture(), path="/predict?name=bug").status_code == 500
    text = page(app)
    assert value(text, "drivetrain_http_requests_total", route="/predict", code="500") == 1
    assert value(text, "drivetrain_inference_requests_total", **OF_MODEL, outcome="error") == 1
    assert value(text, "drivetrain_inference_items_total", **OF_MODEL, outcome="error") == 1


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\x16\x03\x01 this is no HTTP\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 20_000, "431"),
    ],
)
def test_what_is_no_http_is_answered_and_counted(sent: bytes, code: str) -> None:
    app = make_app()
    with start_server(app) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as raw:
            raw.sendall(sent)
            answer = raw.recv(65_536)
            assert answer.startswith(f"HTTP/1.1 {code} ".encode())
            assert b'"request_id"' in answer
        text = httpx.get(f"{running.url}/metrics").text
    assert value(text, "drivetrain_http_requests_total", route="malformed", code=code) == 1


def test_a_method_of_the_clients_making_is_no_series() -> None:
    app = make_app()
    call(app, "BREW", "/predict")
    assert value(page(app), "drivetrain_http_requests_total", route="/predict", method="OTHER") == 1


def test_a_client_that_left_is_told_apart() -> None:
    model = BlockingModel()
    app = make_app(model)

    async def go() -> None:
        async with client(app) as session:
            sent = asyncio.create_task(session.post("/predict", content=picture(), headers={"Content-Type": "image/x"}))
            await until(lambda: model.begun.acquire(blocking=False))
            sent.cancel()
            await asyncio.wait([sent])
        model.release.set()

    asyncio.run(go())
    text = page(app)
    assert value(text, "drivetrain_http_requests_total", route="/predict", code="499") == 1
    assert value(text, "drivetrain_inference_requests_total", outcome="canceled") == 1


@pytest.mark.parametrize(
    ("code", "may_retry", "outcome"),
    [
        ("200", False, "success"),
        ("422", False, "invalid"),
        ("413", False, "invalid"),
        ("401", False, "rejected"),
        ("429", True, "rejected"),
        ("408", False, "timeout"),
        ("503", True, "timeout"),
        ("503", False, "error"),
        ("499", False, "canceled"),
        ("500", False, "error"),
        ("broken", False, "error"),
    ],
)
def test_an_outcome_is_what_the_client_was_told(code: str, may_retry: bool, outcome: str) -> None:
    assert outcome_of(code, may_retry=may_retry) == outcome


def test_a_picture_is_counted_with_its_stages_and_its_answer() -> None:
    app = make_app()
    assert "unknown" in post(app, picture("blue")).json()["reasons"]
    assert post(app, picture("red")).json()["decision"] == "accept"
    text = page(app)
    assert value(text, "drivetrain_inference_items_total", **OF_MODEL, outcome="success") == 2
    assert value(text, "drivetrain_inference_batches_total", **OF_MODEL) == 2
    assert value(text, "drivetrain_inference_batch_size_sum", **OF_MODEL) == 2
    assert value(text, "drivetrain_inference_pending_items", **OF_MODEL) == 0
    for stage in ("queue", "preprocess", "compute", "postprocess"):
        assert value(text, f"drivetrain_inference_{stage}_duration_seconds_count", **OF_MODEL) == 2
    assert value(text, "drivetrain_predictions_total", **OF_MODEL, predicted_class="amber") == 2
    assert value(text, "drivetrain_prediction_confidence_count", **OF_MODEL) == 2
    assert value(text, "drivetrain_out_of_domain_total", **OF_MODEL) == 1
    assert value(text, "drivetrain_abstained_total", **OF_MODEL) == 1


def test_only_so_many_classes_are_series() -> None:
    metrics = Metrics()
    names = [f"class {i}" for i in range(CLASSES_SHOWN + 50)]
    meter: Meter = metrics.meter("many", "many@1")
    for name in names:
        meter.finished("success", prediction(name, probabilities=dict.fromkeys(names, 0.1)))
    text = metrics.render().decode()
    counted = {
        sample.labels["predicted_class"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "drivetrain_predictions_total"
    }
    assert counted == {**dict.fromkeys(names[:CLASSES_SHOWN], 1), "other": 50}


def test_labels_are_each_counted_and_values_are_not() -> None:
    metrics = Metrics()
    meter = metrics.meter("m", "m@1")
    rest: dict[str, Any] = {"ood_score": 1.0, "ood_p_value": 0.5, "decision": "defer"}
    several = MultiLabelPrediction(
        labels=("a", "b"), probabilities={"a": 0.9, "b": 0.6, "c": 0.1}, decisions={}, **rest
    )
    meter.finished("success", several)
    meter.finished("success", ValuePrediction(value=1.0, interval=None, values={"v": 1.0}, intervals={}, **rest))
    meter.finished("timeout", None)
    text = metrics.render().decode()
    assert value(text, "drivetrain_predictions_total", predicted_class="a") == 1
    assert value(text, "drivetrain_predictions_total", predicted_class="b") == 1
    assert value(text, "drivetrain_predictions_total", predicted_class="c") is None
    assert value(text, "drivetrain_prediction_confidence_count", model_name="m") == 2
    assert value(text, "drivetrain_abstained_total", model_name="m") == 2
    assert value(text, "drivetrain_inference_items_total", model_name="m", outcome="timeout") == 1


def test_half_a_surrogate_pair_in_a_name_does_not_break_the_page() -> None:
    metrics = Metrics()
    metrics.meter("x\ud800", "x\ud800@1").finished("success", prediction("\udfff", probabilities={"\udfff": 1.0}))
    assert value(metrics.render().decode(), "drivetrain_predictions_total", predicted_class="?") == 1


def test_a_model_that_has_gone_falls_to_nought() -> None:
    metrics, one, two = Metrics(), FakeModel(), FakeModel(version="colours@fedcba987654")
    for model in (one, two):
        model.digest = model.version.rpartition("@")[2]  # type: ignore[attr-defined]
    metrics.tell_models([(one, True)])  # type: ignore[list-item]
    metrics.tell_models([(two, False)])  # type: ignore[list-item]
    text = metrics.render().decode()
    assert value(text, "drivetrain_model_info", digest="0123456789ab") == 0
    assert value(text, "drivetrain_model_info", digest="fedcba987654", model_version=two.version) == 1
    assert value(text, "drivetrain_model_ready", model_version=one.version) == 0
    assert value(text, "drivetrain_model_ready", model_version=two.version) == 0
    metrics.tell_models([(two, True)])  # type: ignore[list-item]
    assert value(metrics.render().decode(), "drivetrain_model_ready", model_version=two.version) == 1


def test_a_running_server_tells_of_its_models() -> None:
    app = make_app()
    with start_server(app) as running:

        def is_told() -> bool:
            text = httpx.get(f"{running.url}/metrics").text
            return value(text, "drivetrain_model_ready", **OF_MODEL) == 1

        asyncio.run(until(is_told))


WORKER = """
import sys
from pathlib import Path
from drivetrain.serve.metrics import Metrics, share_metrics
share_metrics(Path(sys.argv[1]), slot=int(sys.argv[2]))
metrics = Metrics()
metrics.request_begun()
metrics.request_begun()
metrics.request_ended(route="/predict", method="POST", code="200", seconds=0.02)
metrics.meter("m", "m@1").pending(int(sys.argv[3]))
if sys.argv[4:] == ["show"]:
    print(metrics.render().decode())
"""


def test_several_processes_count_together_and_one_that_starts_again_goes_on(tmp_path: Path) -> None:
    def run(*args: str) -> str:
        command = [sys.executable, "-c", WORKER, str(tmp_path), *args]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    run("0", "3")
    run("1", "4")
    text = run("0", "5", "show")  # the same slot once more: counters go on; what waits is that process's own
    total = {"route": "/predict", "method": "POST", "code": "200"}
    assert value(text, "drivetrain_http_requests_total", **total) == 3
    assert value(text, "drivetrain_http_request_duration_seconds_count", route="/predict") == 3
    assert value(text, "drivetrain_http_request_duration_seconds_bucket", route="/predict", le="0.025") == 3
    assert value(text, "drivetrain_inference_pending_items", model_name="m") == 3 + 4 + 5
    assert sorted(path.name for path in tmp_path.iterdir() if "counter" in path.name) == [
        "counter_0.db",
        "counter_1.db",
    ]
    for path in tmp_path.glob("gauge_live*_0.db"):  # what the supervisor does when worker 0 has died
        path.unlink()
    text = run("1", "0", "show")
    assert value(text, "drivetrain_http_requests_total", **total) == 4
    assert value(text, "drivetrain_inference_pending_items", model_name="m") == 4
