from __future__ import annotations

import io
import json
from typing import Any

import pytest

from drivetrain.bundle.archive import parse_bundle
from drivetrain.bundle.manifest import SCHEMA_VERSION, Manifest
from drivetrain.bundle.plain_json import read_json
from drivetrain.bundle.stored_zip import write_stored_zip
from drivetrain.errors import BundleRefused
from drivetrain.runtime.predictor import Predictor

from .forge import Parts


def load(parts: Parts) -> Predictor:
    return Predictor(parse_bundle(io.BytesIO(parts.archive())))


def refuse(parts: Parts) -> BundleRefused:
    with pytest.raises(BundleRefused) as caught:
        load(parts)
    return caught.value


def test_as_json_and_back(tiny: Parts) -> None:
    raw = {**tiny.manifest, "files": [{"path": "a", "sha256": "b", "size": 1}], "later": {"x": 1}}
    assert Manifest.from_json(raw).as_json() == raw
    assert next(iter(Manifest.from_json(raw).as_json())) == "schema_version"  # what a reader must look at first


@pytest.mark.parametrize(
    "version", ["2.0", "0.9", "10.0", "1", "1.", "1.x", "1.0.0", " 1.0", "", 1, 1.0, None, ["1.0"]]
)
def test_unknown_schema(version: object, tiny: Parts) -> None:
    error = refuse(tiny.changed(schema_version=version))
    assert (error.code, error.field) == ("bundle_schema", "manifest.schema_version")
    assert "want 1.x" in error.message
    assert "install that one, or export anew" in error.message


@pytest.mark.parametrize("version", [SCHEMA_VERSION, "1.1", "1.9999"])
def test_known_schema(version: str, tiny: Parts) -> None:
    assert load(tiny.changed(schema_version=version)).manifest.schema_version == version


def test_schema_comes_first(tiny: Parts) -> None:
    """A later version may shape everything else anew: then the answer is "install that one", not "damaged"."""
    assert refuse(tiny.changed(schema_version="2.0", classes={"a": 1}, decision=None)).code == "bundle_schema"


@pytest.mark.parametrize("section", ["name", "created_at", "task", "classes", "preprocess", "decision", "tolerance"])
def test_a_section_missing_or_of_another_kind(section: str, tiny: Parts) -> None:
    missing = tiny.changed()
    del missing.manifest[section]
    for parts, got in ((missing, "nothing"), (tiny.changed(**{section: None}), "NoneType")):
        error = refuse(parts)
        assert (error.code, error.field) == ("bundle_manifest", f"manifest.{section}")
        assert f"got {got}" in error.message


@pytest.mark.parametrize(
    ("section", "value", "text"),
    [
        ("task", "run_code", "want one of classification"),
        ("name", "", "1 to 255 characters"),
        ("name", "x" * 256, "1 to 255 characters"),
        ("name", "\x1b[2Jbears", "characters to print"),
        ("classes", ["one"], "got 1 classes; want 2 to 10000"),
        ("classes", [str(i) for i in range(10_001)], "got 10001 classes; want 2 to 10000"),
        ("classes", ["circle", "circle"], "different names"),
        ("classes", ["circle", ""], "different names"),
        ("classes", ["circle", 7], "different names"),
        ("classes", ["circle", ["square"]], "different names"),
        ("classes", ["circle", "\x1b]0;owned\x07"], "characters to print"),
        ("classes", ["circle", "a\nb"], "characters to print"),
        ("classes", ["circle", "x" * 256], "1 to 255 characters"),
        ("preprocess", ["resize"], "a list of ops"),
        ("preprocess", [], "manifest.preprocess"),
        ("tolerance", 0.011, "above 0 and at most 0.01"),
        ("tolerance", 1e300, "above 0 and at most 0.01"),
        ("tolerance", 0.0, "above 0 and at most 0.01"),
        ("tolerance", -1.0, "above 0 and at most 0.01"),
    ],
)
def test_a_value_off(section: str, value: object, text: str, tiny: Parts) -> None:
    error = refuse(tiny.changed(**{section: value}))
    assert error.code == "bundle_manifest"
    assert text.replace("manifest.preprocess", "preprocess") in error.message


def test_more_classes_than_the_network_has(tiny: Parts) -> None:
    error = refuse(tiny.changed(classes=["a", "b", "c"]))
    assert error.code == "bundle_model"
    assert "logits [n, 3]" in error.message


@pytest.mark.parametrize(
    "entry",
    [
        "model.onnx",
        {"path": "model.onnx"},
        {"path": "model.onnx", "sha256": 1, "size": 1},
        {"path": "model.onnx", "sha256": "", "size": True},
        {"path": "model.onnx", "sha256": "", "size": 1, "url": "http://example.org"},
    ],
)
def test_a_file_entry_off(entry: object, tiny: Parts) -> None:
    with pytest.raises(BundleRefused, match="want path, sha256 and size") as caught:
        Manifest.from_json({**tiny.manifest, "files": [entry]})
    assert caught.value.code == "bundle_manifest"


@pytest.mark.parametrize("raw", [[], "x", 1, None])
def test_no_object(raw: object) -> None:
    with pytest.raises(BundleRefused, match="want a JSON object") as caught:
        Manifest.from_json(raw)
    assert caught.value.code == "bundle_manifest"


# --- the decision section


def decision(tiny: Parts, *keys: str, value: object) -> dict[str, Any]:
    changed: dict[str, Any] = json.loads(json.dumps(tiny.manifest["decision"]))
    inner = changed
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return changed


@pytest.mark.parametrize("value", [True, False, "0.5", None, [0.5], {"x": 1}, -1, 2**50, 1e300])
@pytest.mark.parametrize(
    "keys", [("temperature",), ("threshold",), ("label_set", "threshold"), ("ood", "flag_at"), ("ood", "k")], ids=str
)
def test_a_decision_number_that_is_none(keys: tuple[str, ...], value: object, tiny: Parts) -> None:
    error = refuse(tiny.changed(decision=decision(tiny, *keys, value=value)))
    assert error.code == "bundle_manifest"
    assert error.field in (".".join(("manifest.decision", *keys)), "reference.npz/ood_known")


@pytest.mark.parametrize("value", [None, [], "ood", 1, {}])
@pytest.mark.parametrize("key", ["label_set", "ood"])
def test_a_decision_part_that_is_none(key: str, value: object, tiny: Parts) -> None:
    error = refuse(tiny.changed(decision=decision(tiny, key, value=value)))
    assert (error.code, "want a number from" in error.message) == ("bundle_manifest", True)


def test_another_temperature_is_noticed_by_the_fixtures(tiny: Parts) -> None:
    error = refuse(tiny.changed(decision=decision(tiny, "temperature", value=1.05)))
    assert error.code == "bundle_fixtures"


# --- JSON that only looks plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": NaN}', "the number NaN"),
        (b'{"a": [-Infinity]}', "the number -Infinity"),
        (b'{"a": 1e999}', "a number beyond all bounds"),
        (b'{"a": 9007199254740993}', "a whole number beyond"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b'{"a": 1, "a": 2}', "a key that is there twice"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"\\udfff": 1}', "surrogates not allowed"),
        (b"[" * 40 + b"]" * 40, "more than 32 levels"),
        (b'{"a":' * 100_000, "want plain UTF-8 JSON"),
        (b"[" * 1_000_000, "want plain UTF-8 JSON"),
        (b"\xff\xfe{}", "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
        (b"{'a': 1}", "Expecting property name"),
    ],
    ids=range(16),
)
def test_json_refused(text: bytes, message: str, tiny: Parts) -> None:
    with pytest.raises(BundleRefused) as caught:
        read_json(text, where="somewhere", code="bundle_manifest")
    assert (caught.value.code, caught.value.field) == ("bundle_manifest", "somewhere")
    assert message in caught.value.message
    with pytest.raises(BundleRefused) as caught:
        parse_bundle(io.BytesIO(write_stored_zip({"manifest.json": text, **tiny.members})))
    assert caught.value.code == "bundle_manifest"


def test_json_kept() -> None:
    text = '{"a": [1, -2.5e-300, true, null, "\\ud83d\\ude00 é"], "b": {}}'
    assert read_json(text.encode(), where="x", code="y") == {"a": [1, -2.5e-300, True, None, "😀 é"], "b": {}}


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999"])
def test_no_number_in_the_decision(number: bytes, tiny: Parts) -> None:
    text = tiny.manifest_bytes().replace(b'"threshold": 0.9', b'"threshold": ' + number)
    assert text != tiny.manifest_bytes()
    with pytest.raises(BundleRefused) as caught:
        parse_bundle(io.BytesIO(write_stored_zip({"manifest.json": text, **tiny.members})))
    assert (caught.value.code, caught.value.field) == ("bundle_manifest", "manifest.json")
