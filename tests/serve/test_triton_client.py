"""NVIDIA's stock client for HTTP, as it comes from PyPI, against a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient import utils

from drivetrain.serve.server import start_server

from .fakes import WAIT_S, picture
from .tiny import CLASSES, SIDE, archive, tiny_app, write


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[triton.InferenceServerClient]:
    folder = tmp_path_factory.mktemp("triton")
    write(folder / "models", "other", archive("other"))
    with tiny_app(folder) as app, start_server(app) as running:
        client = triton.InferenceServerClient(
            running.url.removeprefix("http://"), connection_timeout=WAIT_S, network_timeout=WAIT_S
        )
        yield client
        client.close()


def pixels(n: int = 2) -> triton.InferInput:
    values = np.random.default_rng(0).normal(size=(n, 3, SIDE, SIDE)).astype(np.float32)
    given = triton.InferInput("pixels", list(values.shape), "FP32")
    given.set_data_from_numpy(values)
    return given


def images(*pictures: bytes) -> triton.InferInput:
    given = triton.InferInput("image", [len(pictures)], "BYTES")
    given.set_data_from_numpy(np.array(pictures, dtype=np.object_))
    return given


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert not client.is_model_ready("none")
    assert client.get_server_metadata()["name"] == "drivetrain"
    described = client.get_model_metadata("tiny")
    assert client.is_model_ready("tiny", described["versions"][0])
    assert [one["name"] for one in described["inputs"]] == ["image", "pixels"]


def test_it_infers_from_pixels_and_from_pictures(client: triton.InferenceServerClient) -> None:
    answer = client.infer("tiny", [pixels(3)], request_id="7")
    assert answer.get_response()["id"] == "7"
    probabilities = answer.as_numpy("probabilities")
    assert probabilities.shape == (3, len(CLASSES))
    assert probabilities.sum(axis=1) == pytest.approx(1)
    best = [CLASSES[index] for index in probabilities.argmax(axis=1)]
    assert [label.decode() for label in answer.as_numpy("label")] == best

    answer = client.infer("tiny", [images(picture(), picture("blue"))])
    assert answer.as_numpy("probabilities").shape == (2, len(CLASSES))
    assert {label.decode() for label in answer.as_numpy("decision")} <= {"accept", "defer"}


def test_outputs_in_json_in_bytes_and_ranked(client: triton.InferenceServerClient) -> None:
    ask = [
        triton.InferRequestedOutput("probability", binary_data=False),
        triton.InferRequestedOutput("label", binary_data=True),
        triton.InferRequestedOutput("probabilities", class_count=1),
    ]
    answer = client.infer("tiny", [pixels(1)], outputs=ask)
    value, index, label = answer.as_numpy("probabilities")[0][0].decode().split(":")
    assert float(value) == pytest.approx(answer.as_numpy("probability")[0])
    assert label == CLASSES[int(index)] == answer.as_numpy("label")[0].decode()


def test_input_without_bytes(client: triton.InferenceServerClient) -> None:
    values = np.zeros((1, 3, SIDE, SIDE), np.float32)
    given = triton.InferInput("pixels", list(values.shape), "FP32")
    given.set_data_from_numpy(values, binary_data=False)
    assert client.infer("tiny", [given]).as_numpy("probabilities").shape == (1, len(CLASSES))


def test_errors_reach_the_caller_with_their_text(client: triton.InferenceServerClient) -> None:
    with pytest.raises(utils.InferenceServerException, match="model: got none"):
        client.infer("none", [pixels()])
    with pytest.raises(utils.InferenceServerException, match="image\\[0\\]"):
        client.infer("tiny", [images(b"no picture")])


def test_repository(client: triton.InferenceServerClient) -> None:
    rows = {row["name"]: row["state"] for row in client.get_model_repository_index()}
    assert rows == {"other": "UNAVAILABLE", "tiny": "READY"}
    client.load_model("other")
    assert client.is_model_ready("other")
    assert client.infer("other", [pixels()]).get_response()["model_name"] == "other"
    client.unload_model("other")
    assert not client.is_model_ready("other")
