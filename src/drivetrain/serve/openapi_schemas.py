"""The JSON Schemas of answers and errors, as /openapi.json tells them."""

from __future__ import annotations

from typing import Any

__all__ = ["ERROR_SCHEMA", "ITEM_ERROR_SCHEMA", "MULTILABEL_SCHEMA", "PREDICTION_SCHEMA", "VALUE_SCHEMA"]

_TEXT = {"type": "string"}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}

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
ITEM_ERROR_SCHEMA: dict[str, Any] = {
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
        "reasons": {
            "type": "array",
            "items": {"enum": ["unknown", "shifted", "low_confidence"]},
            "description": (
                "unknown: unlike anything it was trained on; shifted: the right kind of thing, in a style it has not "
                "seen; low_confidence: not sure enough."
            ),
        },
        "version": {"type": "string", "description": "The model that answered."},
        "prediction_id": {"type": "string", "description": "Present once the prediction is stored."},
        "shift_p_value": {
            **_SHARE,
            "description": "Share of known pictures whose style is at least as odd; absent where it knows no styles.",
        },
        "shifted_by": {
            "type": "array",
            "items": _TEXT,
            "description": "What is new about the style, such as darker or blurrier; empty unless shifted.",
        },
    },
}
_INTERVAL = {"type": ["array", "null"], "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_SHARED = {
    name: PREDICTION_SCHEMA["properties"][name]
    for name in (
        "name", "ood_score", "ood_p_value", "decision", "version", "prediction_id", "shift_p_value", "shifted_by",
    )
}  # fmt: skip
MULTILABEL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "The answer of a model that finds any number of labels.",
    "required": [
        "labels", "probabilities", "decisions", "ood_score", "ood_p_value", "decision", "reasons", "version",
    ],
    "properties": {
        **_SHARED,
        "labels": {
            "type": "array",
            "items": _TEXT,
            "description": "The best guess, most likely first, perhaps none; see decisions before using it.",
        },
        "probabilities": {
            "type": "object",
            "additionalProperties": _SHARE,
            "description": "Calibrated, each label by itself.",
        },
        "decisions": {
            "type": "object",
            "additionalProperties": {"enum": ["present", "absent", "defer"]},
            "description": "For each label; defer: a person should say whether it is there.",
        },
        "reasons": PREDICTION_SCHEMA["properties"]["reasons"],
    },
}  # fmt: skip
VALUE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "The answer of a model that measures, in the unit of its labels.",
    "required": [
        "value", "interval", "values", "intervals", "ood_score", "ood_p_value", "decision", "reasons", "version",
    ],
    "properties": {
        **_SHARED,
        "value": {"type": "number", "description": "The first of values."},
        "interval": {
            **_INTERVAL,
            "description": "Holds the true value as often as the policy states; null where that cannot be said.",
        },
        "values": {"type": "object", "additionalProperties": {"type": "number"}},
        "intervals": {"type": "object", "additionalProperties": _INTERVAL},
        "reasons": {"type": "array", "items": {"enum": ["unknown", "shifted"]}},
    },
}  # fmt: skip
