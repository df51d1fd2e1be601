"""What /openapi.json says about the Open Inference Protocol."""

from __future__ import annotations

from typing import Any

from drivetrain.serve.v2.tensors import DTYPES

__all__ = [
    "INDEX",
    "LIVE",
    "LOAD",
    "READY",
    "SERVER",
    "UNLOAD",
    "V2_ERROR",
    "infer",
    "model_metadata",
    "model_ready",
    "v2_error",
]

_TEXT: dict[str, Any] = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
V2_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "For a person."}},
}


def v2_error(description: str) -> dict[str, Any]:
    """A response that holds an error of the protocol."""
    return _json(description, V2_ERROR)


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


_PARAMETERS = {
    "type": "object",
    "additionalProperties": {"anyOf": [_TEXT, {"type": "number"}, {"type": "boolean"}]},
}
_DATATYPE = {"enum": list(DTYPES)}
_SIGNATURE = _object(
    {
        "name": _TEXT,
        "datatype": _DATATYPE,
        "shape": {**_list({"type": "integer", "minimum": -1}), "description": "-1: any number."},
    }
)
_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1},
    "description": "The digits after the @ of an answer's version.",
}
_UNKNOWN = v2_error("No such model, or no such version of it.")
_UNLOADED = v2_error("No model is loaded.")

LIVE: dict[str, Any] = {
    "operation_id": "v2_live",
    "responses": {200: _json("The process answers.", _object({"live": {"const": True}}))},
}
READY: dict[str, Any] = {
    "operation_id": "v2_ready",
    "responses": {
        200: _json("Every model answers.", _object({"ready": {"const": True}})),
        400: v2_error("Not every model answers."),
        503: v2_error("The server is loading, or shutting down."),
    },
}
SERVER: dict[str, Any] = {
    "operation_id": "v2_server",
    "responses": {
        200: _json("The server.", _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)})),
    },
}


def _parameters(suffix: str) -> list[dict[str, Any]]:
    return [_NAME, *([_VERSION] if suffix else [])]


def model_ready(suffix: str) -> dict[str, Any]:
    """`suffix` is empty for the path without a version."""
    return {
        "operation_id": f"v2_model_ready{suffix}",
        "responses": {
            200: _json("It answers.", _object({"name": _TEXT, "ready": {"const": True}})),
            400: v2_error("It does not answer."),
            404: _UNKNOWN,
            503: _UNLOADED,
        },
        "openapi_extra": {"parameters": _parameters(suffix)},
    }


def model_metadata(suffix: str) -> dict[str, Any]:
    """`suffix` as above."""
    schema = _object(
        {
            "name": _TEXT,
            "versions": _list(_TEXT),
            "platform": _TEXT,
            "inputs": _list(_SIGNATURE),
            "outputs": _list(_SIGNATURE),
        },
        properties={"type": "object", "additionalProperties": _TEXT},
    )
    return {
        "operation_id": f"v2_model{suffix}",
        "responses": {200: _json("What it takes and gives.", schema), 404: _UNKNOWN, 503: _UNLOADED},
        "openapi_extra": {"parameters": _parameters(suffix)},
    }


_INPUT = _object(
    {
        "name": {"enum": ["image", "pixels"]},
        "shape": _list(_COUNT),
        "datatype": {"enum": ["BYTES", "FP32"]},
    },
    parameters=_PARAMETERS,
    data={"type": "array", "description": "Flat or nested, row by row; base64 for BYTES."},
)
_ASKED = _object({"name": _TEXT}, parameters=_PARAMETERS)
_REQUEST = _object(
    {"inputs": {**_list(_INPUT), "minItems": 1, "maxItems": 1}},
    id={"type": "string", "maxLength": 256},
    parameters=_PARAMETERS,
    outputs={**_list(_ASKED), "maxItems": 16, "description": "Those wanted; without it, all."},
)
_RESPONSE = _object(
    {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "outputs": _list(
            _object(
                {"name": _TEXT, "shape": _list(_COUNT), "datatype": _DATATYPE},
                parameters=_PARAMETERS,
                data={"type": "array"},
            )
        ),
    },
    id=_TEXT,
    parameters=_PARAMETERS,
)
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def infer(suffix: str) -> dict[str, Any]:
    """`suffix` as above."""
    header = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[0-9]{1,12}$"},
        "description": (
            "How many bytes of the body are JSON, where binary data follows it. 0: the body is one picture's file."
        ),
    }
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "description": "As for POST /predict.",
    }
    return {
        "operation_id": f"v2_infer{suffix}",
        "responses": {
            200: {
                "description": "The outputs; as bytes behind the JSON where binary data was asked for.",
                "content": {"application/json": {"schema": _RESPONSE}, "application/octet-stream": _BINARY},
            },
            400: v2_error("Not a request, inputs or outputs that the model does not have, or a picture that is none."),
            404: _UNKNOWN,
            408: v2_error("The client stopped sending."),
            409: v2_error("The Idempotency-Key came with another body, or its first request is still at work."),
            413: v2_error("Too many bytes, tensors or pictures."),
            415: v2_error("A compressed body."),
            429: v2_error("The queue is full: nothing was done. Retry-After says when to try again."),
            500: v2_error("A fault of the server."),
            503: v2_error("No model loaded, shutting down, or no answer within the deadline."),
        },
        "openapi_extra": {
            "parameters": [*_parameters(suffix), header, key],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": _REQUEST}, "application/octet-stream": _BINARY},
            },
        },
    }


_ROW = _object(
    {
        "name": {"type": "string", "description": "Of the model; of its file until it is loaded."},
        "version": {"type": "string", "description": "Empty where the file was not loaded."},
        "state": {"enum": ["READY", "LOADING", "UNAVAILABLE"]},
        "reason": _TEXT,
        "file": {"type": "string", "description": "The name to load it by; empty where its file is not in the folder."},
    }
)
_CHANGED = _object({"name": _TEXT, "versions": {**_list(_TEXT), "description": "What answers under the name now."}})
_SENDING = {
    408: v2_error("The client stopped sending."),
    413: v2_error("The body has too many bytes."),
    415: v2_error("A compressed body."),
}


def _body(**parameters: dict[str, Any]) -> dict[str, Any]:
    schema = _object({}, parameters={"type": "object", "properties": parameters})
    return {"required": False, "content": {"application/json": {"schema": schema}}}


INDEX: dict[str, Any] = {
    "operation_id": "v2_repository_index",
    "responses": {
        200: _json("The models that answer, and the files that could be loaded.", _list(_ROW)),
        400: v2_error("Not a request."),
        **_SENDING,
    },
    "openapi_extra": {
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {
                    "schema": _object({}, ready={"type": "boolean", "description": "true: only those that answer."})
                }
            },
        }
    },
}
LOAD: dict[str, Any] = {
    "operation_id": "v2_repository_load",
    "responses": {
        200: _json("It answers; what bore its name before ends what it has begun.", _CHANGED),
        400: v2_error("Not a request, or a file that was refused. What answered before still does."),
        404: v2_error("No such file in the folder of models."),
        503: v2_error("The server is shutting down."),
        **_SENDING,
    },
    "openapi_extra": {
        "parameters": [{**_NAME, "description": "Of the file, without .dt."}],
        "requestBody": _body(keep={"type": "boolean", "description": "true: versions of its name go on beside it."}),
    },
}
UNLOAD: dict[str, Any] = {
    "operation_id": "v2_repository_unload",
    "responses": {
        200: _json("Nobody is sent to it any more; it ends what it has begun.", _CHANGED),
        400: v2_error("Not a request."),
        404: _UNKNOWN,
        503: _UNLOADED,
        **_SENDING,
    },
    "openapi_extra": {
        "parameters": [{**_NAME, "description": "Of the model."}],
        "requestBody": _body(version={"type": "string", "description": "Only this one; without it, all of the name."}),
    },
}
