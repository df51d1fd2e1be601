"""What /openapi.json says about POST /predict, whose bodies FastAPI does not see."""

from __future__ import annotations

from typing import Any

__all__ = ["ERROR_SCHEMA", "PREDICTION_SCHEMA", "PREDICT_BODY", "PREDICT_PARAMETERS", "PREDICT_RESPONSES"]

_TEXT = {"type": "string"}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_BINARY = {"type": "string", "format": "binary"}

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["code", "message", "field", "request_id"],
    "properties": {
        "code": {"type": "string", "description": "Stable; write programs against this."},
        "message": {"type": "string", "description": "For a person: what was got, what is allowed, what to do."},
        "field": {"type": "string", "description": "The thing at fault, such as a file's name."},
        "request_id": {"type": "string", "description": "Also in the X-Request-ID header and the server's log."},
    },
}
_ITEM_ERROR = {
    "type": "object",
    "required": ["name", "error"],
    "properties": {
        "name": _TEXT,
        "error": {
            "type": "object",
            "required": ["code", "message", "field"],
            "properties": {"code": _TEXT, "message": _TEXT, "field": _TEXT},
        },
    },
}
PREDICTION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": [
        "label",
        "probability",
        "probabilities",
        "label_set",
        "ood_score",
        "ood_p_value",
        "decision",
        "reasons",
        "version",
    ],
    "properties": {
        "name": {"type": "string", "description": "The file's name, if one was given."},
        "label": {"type": "string", "description": "The best guess; see decision before using it."},
        "probability": {**_SHARE, "description": "Calibrated probability of the label."},
        "probabilities": {"type": "object", "additionalProperties": _SHARE},
        "label_set": {"type": "array", "items": _TEXT, "description": "Likely labels, most likely first."},
        "ood_score": {"type": "number", "description": "Higher is stranger."},
        "ood_p_value": {**_SHARE, "description": "Share of known pictures at least as strange."},
        "decision": {"enum": ["accept", "defer"], "description": "defer: a person should look at this picture."},
        "reasons": {"type": "array", "items": {"enum": ["unknown", "shifted", "low_confidence"]}},
        "version": {"type": "string", "description": "The model that answered."},
        "prediction_id": {"type": "string", "description": "Present once the prediction is stored."},
    },
}

PREDICT_PARAMETERS: list[dict[str, Any]] = [
    {"name": "name", "in": "query", "schema": _TEXT, "description": "Raw body only: the file's name, given back."},
    {"name": "X-Request-ID", "in": "header", "schema": _TEXT, "description": "1 to 64 of A-Z a-z 0-9 . _ -"},
]
PREDICT_BODY: dict[str, Any] = {
    "required": True,
    "description": (
        "Either one picture's bytes as they are in its file (image/* or application/octet-stream), "
        "or a form with one or many files under any field name (multipart/form-data). "
        "The server looks at the bytes, not at the type or the name that a client gives them."
    ),
    "content": {
        "image/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": {"schema": {"type": "object", "additionalProperties": _BINARY}},
    },
}


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": ERROR_SCHEMA}}}


_FORM_ANSWER = {
    "type": "object",
    "required": ["predictions"],
    "properties": {
        "predictions": {
            "type": "array",
            "description": "One for each file, in the order sent.",
            "items": {"anyOf": [PREDICTION_SCHEMA, _ITEM_ERROR]},
        }
    },
}
PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A raw body: one prediction. A form: a prediction, or an error, for each file.",
        "content": {"application/json": {"schema": {"anyOf": [PREDICTION_SCHEMA, _FORM_ANSWER]}}},
    },
    408: _error("The client stopped sending."),
    413: _error("A picture or the request has too many bytes, or the request has too many pictures."),
    415: _error("The body is neither a picture nor a form."),
    422: _error("No picture in the body, or a raw body that cannot be read as a picture."),
    429: _error("The queue is full: nothing was done. Retry-After says when to try again."),
    500: _error("A fault of the server."),
    503: _error("No model loaded, shutting down, or no answer within the deadline."),
}
