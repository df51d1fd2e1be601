"""The Open Inference Protocol, version 2: the paths, the JSON, the bytes, the errors."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from drivetrain.arrays import FloatArray

from .fakes import BlockingModel, BrokenModel, call, make_app, picture, settings
from .tiny import CLASSES, SIDE, archive, task_model, tiny_app, write

LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/tiny/infer"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    with tiny_app(tmp_path_factory.mktemp("v2"), image_max_bytes=100_000, request_max_pictures=4) as app:
        yield app


def digest(app: FastAPI) -> str:
    return str(app.state.registry.get().digest)


def pixels(n: int = 2, *, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(n, 3, SIDE, SIDE)).astype(np.float32)


def image_input(*pictures: bytes, **parameters: object) -> dict[str, Any]:
    data = [base64.b64encode(one).decode() for one in pictures]
    given = {"parameters": parameters} if parameters else {}
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data, **given}


def pixel_input(values: FloatArray, *, flat: bool = False) -> dict[str, Any]:
    data = values.ravel().tolist() if flat else values.tolist()
    return {"name": "pixels", "datatype": "FP32", "shape": list(values.shape), "data": data}


def infer(app: FastAPI, *inputs: dict[str, Any], path: str = INFER, **more: object) -> httpx.Response:
    return call(app, "POST", path, json={"inputs": list(inputs), **more})


def binary(app: FastAPI, head: dict[str, Any], tail: bytes, path: str = INFER) -> httpx.Response:
    raw = json.dumps(head).encode()
    return call(app, "POST", path, content=raw + tail, headers={LENGTH: str(len(raw))})


def outputs(reply: httpx.Response) -> dict[str, list[Any]]:
    assert reply.status_code == 200, reply.text
    return {one["name"]: one["data"] for one in reply.json()["outputs"]}


def near(values: Any) -> Any:
    """Sums of a few numbers depend on where in memory they lie, in their last bit."""
    if isinstance(values, dict):
        return {name: near(one) for name, one in values.items() if name not in ("answer", "prediction_id")}
    if isinstance(values, list) and values and isinstance(values[0], float):
        return pytest.approx(values, rel=1e-6)
    return pytest.approx(values, rel=1e-6) if isinstance(values, float) else values


def same(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert {name: one for name, one in got.items() if name != "answer"} == near(wanted)


def counted(app: FastAPI, route: str) -> float:
    """Requests to a route that were answered 200."""
    labels = {"route": route, "method": "GET", "code": "200"}
    return float(app.state.metrics.registry.get_sample_value("drivetrain_http_requests_total", labels) or 0)


def refused(reply: httpx.Response, status: int, text: str) -> None:
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}
    assert text in reply.json()["error"]


# paths


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("has_version", [False, True])
def test_every_path_with_and_without_version_and_slash(app: FastAPI, slash: str, has_version: bool) -> None:
    base = f"/v2/models/tiny/versions/{digest(app)}" if has_version else "/v2/models/tiny"
    assert call(app, "GET", f"{base}{slash}").json()["name"] == "tiny"
    assert call(app, "GET", f"{base}/ready{slash}").json() == {"name": "tiny", "ready": True}
    assert outputs(infer(app, image_input(picture()), path=f"{base}/infer{slash}"))["label"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_server_paths(app: FastAPI, slash: str) -> None:
    server = call(app, "GET", f"/v2{slash}").json()
    assert server["name"] == "drivetrain"
    assert set(server) == {"name", "version", "extensions"}
    assert {"binary_tensor_data", "classification", "model_repository"} == set(server["extensions"])
    before = counted(app, "/v2/health/live")
    assert call(app, "GET", f"/v2/health/live{slash}").json() == {"live": True}
    assert counted(app, "/v2/health/live") == before + 1
    assert call(app, "GET", f"/v2/health/ready{slash}").json() == {"ready": True}


def test_metadata_names_both_inputs_and_every_output(app: FastAPI) -> None:
    described = call(app, "GET", "/v2/models/tiny").json()
    assert described["versions"] == [digest(app)]
    assert described["inputs"] == [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE]},
    ]
    shapes = {one["name"]: (one["datatype"], one["shape"]) for one in described["outputs"]}
    reply = infer(app, image_input(picture(), picture("blue"))).json()
    for one in reply["outputs"]:
        datatype, shape = shapes.pop(one["name"])
        assert (one["datatype"], one["shape"]) == (datatype, [2, *shape[1:]])
    assert shapes == {}
    assert json.loads(described["properties"]["classes"]) == list(CLASSES)
    assert all(isinstance(value, str) for value in described["properties"].values())


def test_not_ready_is_400_and_unknown_is_404() -> None:
    app = make_app(BlockingModel())
    app.state.registry.close(drain_s=0)
    refused(call(app, "GET", "/v2/health/ready"), 400, "shutting down")
    refused(call(app, "GET", "/v2/models/colours/ready"), 400, "shutting down")
    refused(call(app, "GET", "/v2/models/none/ready"), 404, "model: got none; want colours")
    refused(call(app, "GET", "/v2/models/none"), 404, "model")
    refused(infer(app, image_input(picture()), path="/v2/models/none/infer"), 404, "model")
    refused(infer(app, image_input(picture()), path="/v2/models/colours/versions/9/infer"), 404, "version: got 9")


# answers


def test_both_forms_and_predict_give_the_same_numbers(app: FastAPI) -> None:
    content = picture("blue", size=(24, 16))
    plain = call(app, "POST", "/predict", content=content, headers={"Content-Type": "image/png"}).json()
    served = app.state.registry.get()
    row, _ = served.model.predictor.prepare(content, name="x")
    by_file, by_pixels = outputs(infer(app, image_input(content))), outputs(infer(app, pixel_input(row[np.newaxis])))
    for got in (by_file, by_pixels):
        assert got["probabilities"] == near(list(plain["probabilities"].values()))
        assert (got["label"], got["probability"]) == ([plain["label"]], near([plain["probability"]]))
        assert (got["ood_score"], got["ood_p_value"]) == (near([plain["ood_score"]]), near([plain["ood_p_value"]]))
        assert (got["decision"], got["reasons"]) == ([plain["decision"]], [",".join(plain["reasons"])])
    told = json.loads(by_file["answer"][0])
    assert {name: one for name, one in told.items() if name != "prediction_id"} == near(plain)


def test_a_batch_keeps_its_order(app: FastAPI) -> None:
    shown = [picture(colour) for colour in ("red", "blue", "lime", "white")]
    together = outputs(infer(app, image_input(*shown)))["probability"]
    assert together == near([outputs(infer(app, image_input(one)))["probability"][0] for one in shown])
    assert len(set(together)) > 1


def test_nested_and_flat_data_are_the_same(app: FastAPI) -> None:
    values = pixels()
    nested, flat = infer(app, pixel_input(values)), infer(app, pixel_input(values, flat=True))
    same(outputs(nested), outputs(flat))
    image = image_input(picture(), picture("blue"))
    column = {**image, "shape": [2, 1], "data": [[one] for one in image["data"]]}
    same(outputs(infer(app, column)), outputs(infer(app, image)))


def test_id_is_echoed_and_the_model_always_named(app: FastAPI) -> None:
    reply = infer(app, image_input(picture()), id="42 ü").json()
    assert (reply["id"], reply["model_name"], reply["model_version"]) == ("42 ü", "tiny", digest(app))
    assert "id" not in infer(app, image_input(picture())).json()
    assert infer(app, image_input(picture()), id="").json()["id"] == ""


def test_outputs_asked_for_come_alone_and_in_that_order(app: FastAPI) -> None:
    reply = infer(app, image_input(picture()), outputs=[{"name": "label"}, {"name": "probability"}]).json()
    assert [one["name"] for one in reply["outputs"]] == ["label", "probability"]
    assert len(infer(app, image_input(picture()), outputs=[]).json()["outputs"]) == 8


@pytest.mark.parametrize(
    ("task", "extra"), [("multilabel", {"probabilities", "decisions"}), ("regression", {"values"})]
)
def test_other_tasks_have_outputs_of_their_own(task: str, extra: set[str], tmp_path: Path) -> None:
    served = task_model(task)
    with tiny_app(tmp_path, served=served) as app:
        path = f"/v2/models/{served.name}/infer"
        got = outputs(infer(app, image_input(picture(), picture("blue")), path=path))
        assert set(got) == extra | {"ood_score", "ood_p_value", "decision", "reasons", "answer"}
        first = json.loads(got["answer"][0])
        for name in extra:
            assert got[name][: len(first[name])] == list(first[name].values())


def test_classification_ranks_and_names(app: FastAPI) -> None:
    ask = [{"name": "probabilities", "parameters": {"classification": 1}}, {"name": "label"}]
    reply = infer(app, image_input(picture(), picture("blue")), outputs=ask).json()
    ranked, label = reply["outputs"]
    assert (ranked["datatype"], ranked["shape"]) == ("BYTES", [2, 1])
    plain = outputs(infer(app, image_input(picture(), picture("blue"))))
    for row, (text, best) in enumerate(zip(ranked["data"], label["data"], strict=True)):
        value, index, name = text.split(":")
        assert (name, CLASSES[int(index)]) == (best, best)
        assert float(value) == pytest.approx(plain["probability"][row], rel=1e-8)
    many = [{"name": "probabilities", "parameters": {"classification": 99}}]
    assert infer(app, image_input(picture()), outputs=many).json()["outputs"][0]["shape"] == [1, 2]


def test_a_stored_answer_has_its_id(app: FastAPI) -> None:
    told = json.loads(outputs(infer(app, image_input(picture())))["answer"][0])
    stored = app.state.store.predictions.get(told["prediction_id"])
    assert stored.answer == told
    assert "prediction_id" not in json.loads(outputs(infer(app, pixel_input(pixels(1))))["answer"][0])


# bytes


def test_binary_pixels_give_what_json_gives(app: FastAPI) -> None:
    values = pixels(3)
    head = {"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [3, 3, SIDE, SIDE]}]}
    head["inputs"][0]["parameters"] = {"binary_data_size": values.nbytes}
    same(outputs(binary(app, head, values.tobytes())), outputs(infer(app, pixel_input(values))))


def read_binary(reply: httpx.Response) -> dict[str, Any]:
    """name -> values, of a reply with bytes."""
    assert reply.headers["Content-Type"] == "application/octet-stream"
    length = int(reply.headers[LENGTH])
    head, tail, found = json.loads(reply.content[:length]), reply.content[length:], {}
    for one in head["outputs"]:
        if "data" in one:
            found[one["name"]] = one["data"]
            continue
        size = one["parameters"]["binary_data_size"]
        raw, tail = tail[:size], tail[size:]
        if one["datatype"] == "FP64":
            found[one["name"]] = np.frombuffer(raw, "<f8").tolist()
        else:
            found[one["name"]] = []
            while raw:
                (count,) = struct.unpack_from("<I", raw)
                found[one["name"]].append(raw[4 : 4 + count].decode())
                raw = raw[4 + count :]
    assert tail == b""
    return found


def test_binary_both_ways(app: FastAPI) -> None:
    shown = [picture(), picture("blue")]
    tail = b"".join(struct.pack("<I", len(one)) + one for one in shown)
    head = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(tail)}}],
        "parameters": {"binary_data_output": True},
        "outputs": [
            {"name": "probabilities"},
            {"name": "label", "parameters": {"binary_data": False}},
            {"name": "reasons"},
        ],
    }
    plain = outputs(infer(app, image_input(*shown)))
    reply = binary(app, head, tail)
    same(read_binary(reply), {name: plain[name] for name in ("probabilities", "label", "reasons")})
    data = {one["name"]: "data" in one for one in json.loads(reply.content[: int(reply.headers[LENGTH])])["outputs"]}
    assert data == {"probabilities": False, "label": True, "reasons": False}


def test_header_of_zero_is_one_picture(app: FastAPI) -> None:
    reply = call(app, "POST", INFER, content=picture("blue"), headers={LENGTH: "0"})
    same(outputs(reply), outputs(infer(app, image_input(picture("blue")))))


@pytest.mark.parametrize(
    ("length", "text"),
    [("x", "a number of bytes"), ("-1", "a number of bytes"), ("99999", "at most"), ("9" * 13, "a number of bytes")],
)
def test_wrong_header_lengths(app: FastAPI, length: str, text: str) -> None:
    refused(call(app, "POST", INFER, content=b"{}", headers={LENGTH: length}), 400, text)


@pytest.mark.parametrize(
    ("change", "tail", "text"),
    [
        ({"parameters": {"binary_data_size": 99}}, b"123", "the bytes that are left"),
        ({"parameters": {"binary_data_size": -1}}, b"123", "the bytes that are left"),
        ({"parameters": {"binary_data_size": True}}, b"123", "the bytes that are left"),
        ({"parameters": {"binary_data_size": 3}}, b"123", "not 1 elements"),
        ({"parameters": {"binary_data_size": 5}}, b"\xff\xff\xff\xff1", "not 1 elements"),
        ({"parameters": {"binary_data_size": 4}}, b"\0\0\0\0more", "behind the last tensor"),
        ({"parameters": {"binary_data_size": 8}}, b"\0\0\0\0\0\0\0\0", "not 1 elements"),
        ({"parameters": {"binary_data_size": 4}, "data": ["eA=="]}, b"\0\0\0\0", "both data and binary_data_size"),
        ({"parameters": {"binary_data_size": 8}, "datatype": "FP32"}, bytes(8), "want 4 for FP32"),
    ],
)
def test_binary_data_that_does_not_fit(app: FastAPI, change: dict[str, Any], tail: bytes, text: str) -> None:
    head = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], **change}]}
    refused(binary(app, head, tail), 400, text)


# what is refused

GOOD = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["eA=="]}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "a list"),
        (b'{"inputs": [NaN]}', "no such number"),
        (b'{"inputs": [' + b"[" * 5000, "nested too deep"),
        (b"[" * 9000 + b"]" * 9000, "nested too deep"),
        (b'{"inputs": [' + b"9" * 5000 + b"]}", "too long"),
        (b"{}", "inputs: got nothing"),
        (b'{"inputs": {}}', "inputs: got an object"),
        (b'{"inputs": []}', "inputs: got none"),
        (b'{"inputs": [1]}', "want a list of objects"),
    ],
)
def test_malformed_bodies(app: FastAPI, body: bytes, text: str) -> None:
    refused(call(app, "POST", INFER, content=body, headers={"Content-Type": "application/json"}), 400, text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "other"}, "inputs[0].name: got other; want image (BYTES, [n]) or pixels"),
        ({"name": 5}, "inputs[0].name: got a number"),
        ({"name": "x" * 300}, "at most 256"),
        ({"name": "\ud800"}, "half a surrogate"),
        ({"datatype": "FP32", "data": [1]}, "inputs[0].datatype: got FP32; want BYTES for image"),
        ({"datatype": "FLOAT"}, "one of BOOL, UINT8"),
        ({"datatype": None}, "one of BOOL, UINT8"),
        ({"datatype": "FP16", "data": [1]}, "FP16 in JSON"),
        ({"datatype": "INT8", "data": [300]}, "out of range"),
        ({"datatype": "INT8", "data": [1.5]}, "elements of INT8"),
        ({"datatype": "FP32", "data": [True]}, "elements of FP32"),
        ({"datatype": "FP32", "data": ["1"]}, "elements of FP32"),
        ({"shape": [2]}, "got 1 elements; want 2 for shape [2]"),
        ({"shape": []}, "inputs[0].shape"),
        ({"shape": [-1]}, "at least 0"),
        ({"shape": [1.0]}, "at least 0"),
        ({"shape": [True]}, "at least 0"),
        ({"shape": "1"}, "a list of at most 8"),
        ({"shape": [1] * 9}, "a list of at most 8"),
        ({"shape": [0], "data": []}, "got 0 pictures"),
        ({"shape": [1, 1, 1], "data": [[["eA=="]]]}, "inputs[0].shape"),
        ({"data": ["?"]}, "no base64"),
        ({"data": [[["eA=="]]]}, "inputs[0].data"),
        ({"data": "eA=="}, "want a list"),
        ({"data": [5]}, "base64 in strings"),
        ({"data": None}, "want a list"),
        ({"parameters": {"content_type": "image/png"}}, "want base64"),
        ({"parameters": {"shared_memory_region": "r"}}, "does not do"),
        ({"parameters": {"a": [1]}}, "a list as 'a'"),
        ({"parameters": {"a": None}}, "null as 'a'"),
        ({"parameters": []}, "parameters: got a list"),
    ],
)
def test_wrong_inputs(app: FastAPI, change: dict[str, Any], text: str) -> None:
    body = json.dumps({"inputs": [{**GOOD, **change}]}).encode()
    refused(call(app, "POST", INFER, content=body, headers={"Content-Type": "application/json"}), 400, text)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"outputs": [{"name": "logits"}]}, "outputs: got logits; want one of probabilities, label"),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, "'label' twice"),
        ({"outputs": {}}, "a list of objects"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 1}}]}, "classification of label"),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": 0}}]}, "at least 1"),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": True}}]}, "at least 1"),
        ({"outputs": [{"name": "label", "parameters": {"binary_data": 1}}]}, "true or false"),
        ({"parameters": {"binary_data_output": "yes"}}, "true or false"),
        ({"parameters": {"sequence_id": 5}}, "does not do"),
        ({"id": 5}, "id: got a number"),
        ({"id": "x" * 300}, "at most 256"),
    ],
)
def test_wrong_requests(app: FastAPI, more: dict[str, Any], text: str) -> None:
    refused(infer(app, image_input(picture()), **more), 400, text)


def test_large_requests_are_read_aside_and_answered_alike(app: FastAPI) -> None:
    padded = json.dumps({"inputs": [pixel_input(pixels(2))]}).encode() + b" " * 100_000
    same(outputs(call(app, "POST", INFER, content=padded)), outputs(infer(app, pixel_input(pixels(2)))))


def test_two_inputs_or_the_same_twice(app: FastAPI) -> None:
    refused(infer(app, image_input(picture()), pixel_input(pixels(1))), 400, "got 2 inputs; want one")
    refused(infer(app, image_input(picture()), image_input(picture())), 400, "'image' twice")


def test_pixels_that_are_no_numbers_or_of_another_size(app: FastAPI) -> None:
    values = pixels(1)
    head = {"inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 3, SIDE, SIDE]}]}
    head["inputs"][0]["parameters"] = {"binary_data_size": values.nbytes}
    values[0, 0, 0, 0] = np.nan
    refused(binary(app, head, values.tobytes()), 400, "not finite")
    wide = np.zeros((1, 3, SIDE, SIDE + 1), np.float32)
    refused(infer(app, pixel_input(wide)), 400, f"pixels (FP32, [n, 3, {SIDE}, {SIDE}])")
    huge = {**pixel_input(pixels(1)), "data": [1e300] * (3 * SIDE * SIDE)}
    refused(infer(app, huge), 400, "not finite")


def test_a_picture_that_is_none_is_named(app: FastAPI) -> None:
    refused(infer(app, image_input(picture(), b"no picture")), 400, "image[1]")
    refused(infer(app, image_input(b"")), 400, "an empty file")


def test_limits_are_413(app: FastAPI) -> None:
    refused(infer(app, image_input(*[picture()] * 5)), 413, "1 to 4 in one request")
    refused(infer(app, pixel_input(pixels(5))), 413, "1 to 4")
    refused(infer(app, image_input(bytes(100_001))), 413, "image[0]")
    refused(call(app, "POST", INFER, content=bytes(1_000_000)), 413, "at most")
    refused(infer(app, {**GOOD, "shape": [2**40]}), 413, "too many elements")
    refused(infer(app, {**GOOD, "shape": [2**31, 2**31, 2**31, 2]}), 413, "too many elements")
    refused(infer(app, *[{**GOOD, "name": f"n{i}"} for i in range(17)]), 413, "at most 16")
    for inner, what in ((b"1,", "values"), (b"[", "lists and objects")):
        reply = call(app, "POST", INFER, content=b'{"inputs": [' + inner * 20_000)
        refused(reply, 413, f"JSON with about 2000{1 if what == 'values' else 2} {what}")
    assert app.state.service.memory.held_bytes == 0


def test_every_other_error_has_the_body_of_the_protocol(app: FastAPI) -> None:
    refused(call(app, "GET", "/v2/nothing"), 404, "path")
    refused(call(app, "GET", "/v2/models"), 404, "path")
    refused(call(app, "GET", INFER), 405, "want POST")
    refused(call(app, "POST", "/v2/health/live"), 405, "want GET")
    refused(call(app, "POST", INFER, content=b"x", headers={"Content-Encoding": "gzip"}), 415, "compressed")
    plain = call(app, "GET", "/v3")
    assert set(plain.json()) == {"code", "message", "field", "request_id"}


def test_a_fault_is_500_and_tells_nothing() -> None:
    app = make_app(BrokenModel())

    async def fail() -> None:
        raise RuntimeError("secret")

    app.add_api_route("/v2/fail", fail)
    refused(call(app, "GET", "/v2/fail"), 500, "under request id")
    broken = make_app(Bug())
    reply = infer(broken, image_input(picture()), path="/v2/models/colours/infer")
    refused(reply, 500, "under request id")
    assert "secret" not in reply.text


class Bug(BrokenModel):
    def prepare(self, picture: Any, *, name: str | None = None) -> Any:
        return super().prepare(picture, name="bug")


def test_a_full_queue_is_429_with_a_time() -> None:
    app = make_app(BlockingModel(), queue_max_pictures=1, request_max_pictures=1)
    app.state.service.memory.held_bytes = app.state.service.memory.max_bytes
    reply = infer(app, image_input(picture()), path="/v2/models/colours/infer")
    refused(reply, 429, "memory")
    assert int(reply.headers["Retry-After"]) >= 1


def test_a_caller_with_the_role_predict_may_all_but_the_repository(tmp_path: Path) -> None:
    with tiny_app(tmp_path, key_rate_limit=0) as app:
        _, token = app.state.store.keys.create("a program", roles=["predict"], by="test")
        key = {"Authorization": f"Bearer {token}"}
        for path in ("/v2/", "/v2", "/v2/models/tiny/", "/v2/models/tiny/ready/"):
            assert call(app, "GET", path, headers=key).status_code == 200
            refused(call(app, "GET", path), 401, "")
        for path in ("/v2/health/live/", "/v2/health/ready"):
            assert call(app, "GET", path).status_code == 200
        raw = {LENGTH: "0", **key}
        assert call(app, "POST", f"{INFER}/", content=picture(), headers=raw).status_code == 200
        for path in ("index", "index/", "models/tiny/load", "models/tiny/unload/"):
            refused(call(app, "POST", f"/v2/repository/{path}", headers=key), 403, "role")


# repository


def test_repository_over_http(tmp_path: Path) -> None:
    with tiny_app(tmp_path) as app:
        write(tmp_path / "models", "other", archive("other"))
        write(tmp_path / "models", "bad", b"no bundle")
        rows = call(app, "POST", "/v2/repository/index").json()
        assert [(row["name"], row["state"]) for row in rows] == [
            ("bad", "UNAVAILABLE"),
            ("other", "UNAVAILABLE"),
            ("tiny", "READY"),
        ]
        refused(call(app, "POST", "/v2/repository/models/bad/load"), 400, "want a zip archive")
        refused(call(app, "POST", "/v2/repository/models/none/load"), 404, "model: got none")
        assert [row["file"] for row in rows] == ["bad", "other", ""]  # tiny came from elsewhere
        assert call(app, "POST", "/v2/repository/models/other/load/").json()["name"] == "other"
        ready = call(app, "POST", "/v2/repository/index", json={"ready": True}).json()
        assert [row["name"] for row in ready] == ["other", "tiny"]
        refused(call(app, "POST", "/v2/repository/index", json={"ready": 1}), 400, "true or false")
        refused(call(app, "POST", "/v2/repository/models/other/unload", json={"parameters": 5}), 400, "an object")
        refused(call(app, "POST", "/v2/repository/index", json=[]), 400, "an object")
        keep = {"parameters": {"keep": 1}}
        refused(call(app, "POST", "/v2/repository/models/other/load", json=keep), 400, "true or false")
        version = {"parameters": {"version": "nope"}}
        refused(call(app, "POST", "/v2/repository/models/other/unload", json=version), 404, "version")
        assert call(app, "POST", "/v2/repository/models/other/unload").json() == {"name": "other", "versions": []}
        refused(call(app, "GET", "/v2/models/other"), 404, "model: got other")
        done = [event.action for event in app.state.store.audit.list()]
        assert done.count("model.load") == done.count("model.unload") == 1


def test_without_a_folder_nothing_can_be_loaded() -> None:
    refused(call(make_app(), "POST", "/v2/repository/models/tiny/load"), 404, "--models FOLDER")
    assert settings().models == "none"
