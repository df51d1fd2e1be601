"""What /openapi.json says about the routes of pictures and models, whose bodies FastAPI does not see."""

from __future__ import annotations

from typing import Any

from .openapi_schemas import ERROR_SCHEMA, ITEM_ERROR_SCHEMA, MULTILABEL_SCHEMA, PREDICTION_SCHEMA, VALUE_SCHEMA

__all__ = [
    "ERROR_SCHEMA",
    "FEEDBACK",
    "LIVE",
    "MODEL",
    "MODELS",
    "MULTILABEL_SCHEMA",
    "PREDICTION_SCHEMA",
    "PREDICTION_STATE",
    "PREDICT_BODY",
    "PREDICT_PARAMETERS",
    "PREDICT_RESPONSES",
    "READY",
    "VALUE_SCHEMA",
    "answers_json",
    "error",
]

_TEXT = {"type": "string"}
_NAMED = {"type": "string", "minLength": 1}
_BINARY = {"type": "string", "format": "binary"}

_MODEL_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "model",
        "in": "query",
        "schema": _NAMED,
        "description": "Which model; without it the default, which GET /models names.",
    },
    {
        "name": "version",
        "in": "query",
        "schema": _NAMED,
        "description": "Which version of it: the digits after the @ of an answer's version; without it the newest.",
    },
]
_WAIT: dict[str, Any] = {
    "name": "wait_s",
    "in": "query",
    "schema": {"type": "number", "minimum": 0, "maximum": 30},
    "description": "While a model is rolled out: where people decide, wait so many seconds for their label.",
}
PREDICT_PARAMETERS: list[dict[str, Any]] = [
    *_MODEL_PARAMETERS,
    _WAIT,
    {
        "name": "name",
        "in": "query",
        "schema": _TEXT,
        "description": "Of one picture alone: the file's name, given back. In a form each file has its own.",
    },
    {
        "name": "X-Drivetrain-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "description": (
            "While a model is rolled out: whose request it is, such as a camera's name. The same key gets the same "
            "model. Without it, the caller. Where it comes from stands in headers X-Drivetrain-Attr-NAME."
        ),
    },
    {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        "description": (
            "The same key and body within 24 hours: the first answer again, with Idempotency-Replayed. "
            "Another body: 409."
        ),
    },
    {
        "name": "X-Request-ID",
        "in": "header",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "description": "Given back; another is made where it is not of this form.",
    },
]
_PICTURE_JSON: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "description": "The file in base64; a data: URL will do."},
        "name": {**_TEXT, "maxLength": 255},
    },
}
_ADDRESS_JSON: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["url"],
    "properties": {
        "url": {
            "type": "string",
            "maxLength": 4000,
            "description": "An http or https address of the public internet; refused unless allow_url is set.",
        },
        "name": {**_TEXT, "maxLength": 255},
    },
}
PREDICT_BODY: dict[str, Any] = {
    "required": True,
    "description": (
        "One picture's bytes as they are in its file (image/* or application/octet-stream), "
        "a form with one or many files under any field name (multipart/form-data), or JSON. "
        "The server looks at the bytes, not at the type or the name that a client gives them."
    ),
    "content": {
        "image/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
        "multipart/form-data": {"schema": {"type": "object", "additionalProperties": _BINARY}},
        "application/json": {
            "schema": {
                "anyOf": [
                    _PICTURE_JSON,
                    _ADDRESS_JSON,
                    {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["images"],
                        "properties": {
                            "images": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"anyOf": [{"type": "string"}, _PICTURE_JSON, _ADDRESS_JSON]},
                            }
                        },
                    },
                ]
            }
        },
    },
}


def error(description: str) -> dict[str, Any]:
    """A response that holds an error's body."""
    return {"description": description, "content": {"application/json": {"schema": ERROR_SCHEMA}}}


def answers_json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A response that holds JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": {**required, **optional}}


_PENDING = {
    **_object({"prediction_id": _TEXT, "state": {"const": "pending"}, "href": _TEXT}, name=_TEXT),
    "description": "People decide this picture; ask `href` for their label.",
}
_STATE = {
    **_object(
        {
            "prediction_id": _TEXT,
            "state": {"enum": ["decided", "pending", "unclear", "overdue"]},
            "label": {"type": ["string", "null"], "description": "Where it is decided."},
            "decided_by": {"enum": ["candidate", "incumbent", "people"]},
            "answered_at": {"type": ["number", "null"], "description": "Seconds since 1970."},
        },
        name=_TEXT,
    ),
    "description": "pending: a person is to look at it; unclear: nobody could tell; overdue: nobody looked in time.",
}
_RETRY_AFTER = {"description": "Seconds.", "schema": {"type": "string"}}
_ANSWERS = [PREDICTION_SCHEMA, MULTILABEL_SCHEMA, VALUE_SCHEMA]
_FORM_ANSWER = {
    "type": "object",
    "required": ["predictions"],
    "properties": {
        "predictions": {
            "type": "array",
            "description": "One for each picture, in the order sent.",
            "items": {"anyOf": [*_ANSWERS, _STATE, ITEM_ERROR_SCHEMA]},
        }
    },
}
PREDICT_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": (
            "One picture: one prediction. A form, or a list in JSON: a prediction, or an error, for each. "
            "Which of the three kinds of prediction depends on the model: GET /model says its task."
        ),
        "headers": {
            "Idempotency-Replayed": {
                "description": "true where this is the first answer again.",
                "schema": {"type": "string", "enum": ["true"]},
            }
        },
        "content": {"application/json": {"schema": {"anyOf": [*_ANSWERS, _STATE, _FORM_ANSWER]}}},
    },
    202: {
        "description": (
            "People decide, while the model is rolled out. One picture: where its label will be. "
            "Several: that, a prediction or an error for each."
        ),
        "headers": {
            "Location": {"description": "Of one picture: where its label will be.", "schema": _TEXT},
            "Retry-After": _RETRY_AFTER,
        },
        "content": {
            "application/json": {
                "schema": {
                    "anyOf": [
                        _PENDING,
                        _object(
                            {
                                "predictions": {
                                    "type": "array",
                                    "items": {"anyOf": [_PENDING, *_ANSWERS, _STATE, ITEM_ERROR_SCHEMA]},
                                }
                            }
                        ),
                    ]
                },
                "example": {
                    "prediction_id": "06f3v9h2m8k4q7r1s5t0w6x2y9",
                    "state": "pending",
                    "href": "/predictions/06f3v9h2m8k4q7r1s5t0w6x2y9",
                },
            }
        },
    },
    404: error("No such model, or no such version of it."),
    408: error("The client stopped sending."),
    409: error("The Idempotency-Key came with another body, or its first request is still at work."),
    413: error("A picture or the request has too many bytes, or the request has too many pictures."),
    415: error("The body is neither a picture, nor a form, nor JSON."),
    422: error("No picture in the body, or the one picture cannot be read, or the server will not fetch it."),
    429: error("The queue is full: nothing was done. Retry-After says when to try again."),
    500: error("A fault of the server."),
    503: error("No model loaded, shutting down, or no answer within the deadline."),
}

_MODEL_SCHEMA = _object(
    {
        "name": _TEXT,
        "version": {"type": "string", "description": "As in answers: the name, @, 12 digits of its content."},
        "classes": {"type": "array", "items": _TEXT, "description": "The labels, or the names of the values."},
        "evaluation": {"type": "object", "description": "What was measured on held-out pictures; or empty."},
        "policy": {"type": "object", "description": "How it decides; statement says it to a person."},
    },
    task={"enum": ["multilabel", "regression"], "description": "There where it is not classification."},
)
_LISTED = _object(
    {
        "name": _TEXT,
        "version": _TEXT,
        "task": {"enum": ["classification", "multilabel", "regression"]},
        "is_default": {"type": "boolean", "description": "Whether it answers when no model is named."},
        "loaded_at": {"type": "number", "description": "Seconds since 1970."},
    }
)
LIVE: dict[str, Any] = {
    "operation_id": "live",
    "responses": {200: answers_json("The process answers.", _object({"live": {"const": True}}))},
}
READY: dict[str, Any] = {
    "operation_id": "ready",
    "responses": {
        200: answers_json(
            "A picture sent now would be answered.",
            _object({"ready": {"const": True}, "model": _TEXT, "version": _TEXT}),
        ),
        503: error("It would not; the message says why."),
    },
}
MODEL: dict[str, Any] = {
    "operation_id": "model",
    "responses": {
        200: answers_json("The model.", _MODEL_SCHEMA),
        404: error("No such model or version."),
        422: error("An empty parameter."),
        503: error("No model is loaded."),
    },
    "openapi_extra": {"parameters": _MODEL_PARAMETERS},
}
MODELS: dict[str, Any] = {
    "operation_id": "models",
    "responses": {
        200: answers_json(
            "Every version that answers, the default model first, the newest version of a model before older ones.",
            _object({"models": {"type": "array", "items": _LISTED}}),
        )
    },
}
PREDICTION_STATE: dict[str, Any] = {
    "operation_id": "prediction",
    "responses": {
        200: {
            "description": "How it stands.",
            "headers": {"Retry-After": {**_RETRY_AFTER, "description": "Where it is pending: seconds."}},
            "content": {
                "application/json": {
                    "schema": _STATE,
                    "example": {
                        "prediction_id": "06f3v9h2m8k4q7r1s5t0w6x2y9",
                        "state": "decided",
                        "label": "grizzly",
                        "decided_by": "people",
                        "answered_at": 1790000000.0,
                    },
                }
            },
        },
        404: error("No answer to this caller held this id."),
        422: error("wait_s is not a number of seconds from 0 to 30."),
        503: error("The server keeps no predictions (db is none)."),
    },
    "openapi_extra": {
        "parameters": [
            {"name": "prediction_id", "in": "path", "required": True, "schema": _TEXT},
            {**_WAIT, "description": "Wait so many seconds for what is pending."},
        ]
    },
}
_VERDICT = {"enum": ["right", "wrong", "unsure"]}
FEEDBACK: dict[str, Any] = {
    "operation_id": "feedback",
    "responses": {
        200: answers_json(
            "It is kept.",
            _object(
                {
                    "prediction_id": _TEXT,
                    "verdict": _VERDICT,
                    "label": {"type": ["string", "null"]},
                    "at": {"type": "number", "description": "Seconds since 1970."},
                }
            ),
        ),
        403: error("Another caller was given that answer, and this one does not review; or no role; or another site."),
        404: error("No prediction has this id."),
        408: error("The client stopped sending."),
        409: error("So many have spoken on this prediction that no more are kept."),
        413: error("The body has too many bytes."),
        415: error("The body is not JSON."),
        422: error("Not a verdict, or a label that the model does not know."),
        503: error("The server keeps no predictions (db is none)."),
    },
    "openapi_extra": {
        "parameters": [{"name": "prediction_id", "in": "path", "required": True, "schema": _TEXT}],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        **_object(
                            {"verdict": _VERDICT},
                            label={
                                "type": "string",
                                "minLength": 1,
                                "maxLength": 200,
                                "description": "With wrong: what is right, one of the model's classes; of a model that "
                                "measures, a number for each value, apart by `;`.",
                            },
                            note={"type": "string", "maxLength": 2000},
                        ),
                        "additionalProperties": False,
                    }
                }
            },
        },
    },
}
