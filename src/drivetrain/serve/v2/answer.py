"""What a model takes and gives in the words of the Open Inference Protocol, and how its answers become tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from drivetrain.errors import InvalidInput
from drivetrain.runtime.prediction import Answer, MultiLabelPrediction, Prediction, ValuePrediction
from drivetrain.serve.registry import Served
from drivetrain.serve.service import encode_json
from drivetrain.serve.v2.request import Asked, InferRequest
from drivetrain.serve.v2.tensors import Tensor, encode_binary, encode_json_data

__all__ = ["describe", "encode_answer", "output_names", "to_tensors"]

_PLATFORM = "onnx_onnxv1"


@dataclass(frozen=True, slots=True)
class _Output:
    """One output of a task: what it is, and how an answer says it."""

    datatype: str
    is_per_class: bool
    read: Callable[[Any], Any]  # from an answer: a number, numbers, a text or texts


_SHARED: dict[str, _Output] = {
    "ood_score": _Output("FP64", False, lambda answer: answer.ood_score),
    "ood_p_value": _Output("FP64", False, lambda answer: answer.ood_p_value),
    "decision": _Output("BYTES", False, lambda answer: answer.decision),
    "reasons": _Output("BYTES", False, lambda answer: ",".join(answer.reasons)),
    "answer": _Output("BYTES", False, lambda answer: encode_json(answer.as_json()).decode()),
}
_PROBABILITIES = _Output("FP64", True, lambda answer: list(answer.probabilities.values()))
_OUTPUTS: dict[str, dict[str, _Output]] = {
    "classification": {
        "probabilities": _PROBABILITIES,
        "label": _Output("BYTES", False, lambda answer: answer.label),
        "probability": _Output("FP64", False, lambda answer: answer.probability),
        **_SHARED,
    },
    "multilabel": {
        "probabilities": _PROBABILITIES,
        "decisions": _Output("BYTES", True, lambda answer: list(answer.decisions.values())),
        **_SHARED,
    },
    "regression": {
        "values": _Output("FP64", True, lambda answer: list(answer.values.values())),
        **_SHARED,
    },
}


def output_names(served: Served) -> list[str]:
    """The outputs that may be asked for."""
    return list(_OUTPUTS[served.model.task])


def describe(served: Served, versions: Sequence[str]) -> dict[str, object]:
    """The model's metadata."""
    size = served.model.predictor.input_size
    inputs = [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "FP32", "shape": [-1, 3, size, size]},
    ]
    width = len(served.model.classes)
    outputs = [
        {"name": name, "datatype": one.datatype, "shape": [-1, width] if one.is_per_class else [-1]}
        for name, one in _OUTPUTS[served.model.task].items()
    ]
    properties = {
        "inputs": "One of them: image holds picture files, pixels what the preprocessing makes of them.",
        "task": served.model.task,
        "version": served.version,
        "classes": json.dumps(list(served.model.classes), ensure_ascii=False),
    }
    return {
        "name": served.name,
        "versions": list(versions),
        "platform": _PLATFORM,
        "inputs": inputs,
        "outputs": outputs,
        "properties": properties,
    }


def to_tensors(served: Served, answers: Sequence[Answer], asked: InferRequest) -> list[tuple[Tensor, bool]]:
    """The outputs asked for, or all, in that order; each with whether it goes out as bytes. Raises InvalidInput."""
    known = _OUTPUTS[served.model.task]
    wanted = asked.outputs or [Asked(name=name, is_binary=None, classification=None) for name in known]
    found = []
    for one in wanted:
        output = known.get(one.name)
        if output is None:
            raise InvalidInput("outputs", got=one.name, want=f"one of {', '.join(known)}")
        tensor = _tensor(one.name, output, answers)
        if one.classification is not None:
            tensor = _classify(tensor, one.classification, served.model.classes)
        found.append((tensor, asked.is_binary if one.is_binary is None else one.is_binary))
    return found


def encode_answer(
    served: Served, asked: InferRequest, tensors: Sequence[tuple[Tensor, bool]]
) -> tuple[bytes, Mapping[str, str], str]:
    """Body, headers and media type."""
    outputs, binary = [], []
    for tensor, is_binary in tensors:
        row: dict[str, object] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if is_binary:
            binary.append(encode_binary(tensor))
            row["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            row["data"] = encode_json_data(tensor)
        outputs.append(row)
    head = {
        "model_name": served.name,
        "model_version": served.digest,
        **({} if asked.id is None else {"id": asked.id}),
        "outputs": outputs,
    }
    body = encode_json(head)
    if not binary:
        return body, {}, "application/json"
    headers = {"Inference-Header-Content-Length": str(len(body))}
    return b"".join([body, *binary]), headers, "application/octet-stream"


def _tensor(
    name: str, output: _Output, answers: Sequence[Prediction | MultiLabelPrediction | ValuePrediction]
) -> Tensor:
    rows = [output.read(answer) for answer in answers]
    shape: tuple[int, ...] = (len(rows), len(rows[0])) if output.is_per_class else (len(rows),)
    if output.datatype == "BYTES":
        texts = [text for row in rows for text in row] if output.is_per_class else rows
        return Tensor(name=name, datatype="BYTES", shape=shape, values=[text.encode() for text in texts])
    return Tensor(name=name, datatype=output.datatype, shape=shape, values=np.array(rows, np.float64))


def _classify(tensor: Tensor, count: int, classes: Sequence[str]) -> Tensor:
    """The best `count` of each row as `value:index:label`."""
    if tensor.name != "probabilities":
        raise InvalidInput("outputs", got=f"classification of {tensor.name}", want="that of probabilities")
    assert isinstance(tensor.values, np.ndarray)
    count = min(count, len(classes))
    best = np.argsort(-tensor.values, axis=1, kind="stable")[:, :count]
    texts = [
        f"{float(row[index]):.9g}:{index}:{classes[index]}".encode()
        for row, ranked in zip(tensor.values, best, strict=True)
        for index in ranked.tolist()
    ]
    return Tensor(name=tensor.name, datatype="BYTES", shape=(len(best), count), values=texts)
