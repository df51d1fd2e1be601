"""The golden fixtures, and the proof that they are worth their name: a changed preprocessing does not load."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drivetrain.bundle.archive import Bundle, read_bundle, write_bundle
from drivetrain.bundle.fixtures import (
    EXPECTED,
    Fixture,
    check_fixtures,
    compare_answers,
    encode_picture,
    make_synthetic_pictures,
    pack,
    unpack,
)
from drivetrain.errors import BundleRefused
from drivetrain.flows.fixtures import FixtureSource, perturb_preprocess
from drivetrain.flows.train import TrainConfig, TrainResult, train
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import load
from drivetrain.settings import load_settings

from .forge import Parts

Ops = list[dict[str, Any]]
TRAINED_SIZE = 96  # pixels: that of the fixture `trained`

# --- a changed preprocessing is refused


@pytest.fixture(scope="module")
def bundles(
    trained: TrainResult,
    picture_folder: Callable[..., Path],
    shared_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[FixtureSource, Bundle]:
    """The same real model twice: with held-out pictures for fixtures, and with pictures made from nothing."""
    config = TrainConfig(
        data=picture_folder(per_class=60, suffix=".jpg"),
        out=tmp_path_factory.mktemp("synthetic") / "shapes.dt",
        size=TRAINED_SIZE,
        valid_share=0.4,
        fixtures="synthetic",
    )
    settings = load_settings(environ={}, flags={"cache_dir": shared_cache})
    synthetic = train(config, settings=settings, progress=SilentProgress())
    for result in (trained, synthetic):
        assert not [note for note in result.notes if "would not notice" in note]
    return {"validation": read_bundle(trained.bundle), "synthetic": read_bundle(synthetic.bundle)}


def with_op(name: str, **fields: Any) -> Callable[[Ops], Ops]:
    return lambda ops: [{**op, **fields} if op["op"] == name else op for op in ops]


def moved_behind_the_crop(ops: Ops) -> Ops:
    kept = [op for op in ops if op["op"] != "exif_transpose"]
    at = [op["op"] for op in kept].index("resize") + 1
    return [*kept[:at], {"op": "exif_transpose"}, *kept[at:]]


def larger(ops: Ops) -> Ops:
    """By a pixel, and cut to size."""
    at = [op["op"] for op in ops].index("resize") + 1
    grown = with_op("resize", size=TRAINED_SIZE + 1)(ops)
    return [*grown[:at], {"op": "center_crop", "size": TRAINED_SIZE}, *grown[at:]]


def padded(ops: Ops) -> Ops:
    pad = {"op": "pad", "size": TRAINED_SIZE, "mode": "constant", "fill": 0}
    at = [op["op"] for op in ops].index("resize") + 1
    longest = with_op("resize", mode="longest")(ops)
    return [*longest[:at], pad, *longest[at:]]


FAULTS = [
    "no EXIF turn", "nearest instead of the filter", "no antialias", "mean and std of ImageNet", "pixels not scaled",
    "squished", "resized to 256 / 224 first",
]  # fmt: skip
MORE: dict[str, Callable[[Ops], Ops]] = {
    "bicubic": with_op("resize", filter="bicubic"),
    "box": with_op("resize", filter="box"),
    "lanczos": with_op("resize", filter="lanczos"),
    "one pixel more": larger,
    "longest side": padded,
    "EXIF turn after the crop": moved_behind_the_crop,
    "pixels from 0 to 1 twice": with_op("scale", by=1 / 255**2),
    "not normalised": lambda ops: [op for op in ops if op["op"] != "normalize"],
    "mean off by 5 %": with_op("normalize", mean=[0.523] * 3),
    "std of one channel": with_op("normalize", std=[0.502, 0.502, 0.45]),
}


def faults(ops: Ops) -> dict[str, Ops]:
    return perturb_preprocess(ops) | {what: change(ops) for what, change in MORE.items()}


@pytest.mark.parametrize("source", ["validation", "synthetic"])
def test_an_unchanged_bundle_loads(source: FixtureSource, bundles: dict[FixtureSource, Bundle], tmp_path: Path) -> None:
    bundle = bundles[source]
    write_bundle(tmp_path / "same.dt", bundle.manifest, bundle.members)
    assert load(tmp_path / "same.dt").fixture_difference < 1e-5
    assert list(perturb_preprocess(bundle.manifest.preprocess)) == FAULTS


# a turn after the crop moves it by less than a pixel, which drawn pictures do not always show
@pytest.mark.parametrize(
    ("source", "what"),
    [("validation", what) for what in (*FAULTS, *MORE)]
    + [("synthetic", what) for what in (*FAULTS, *MORE) if what != "EXIF turn after the crop"],
)
def test_a_changed_preprocessing_does_not_load(
    source: FixtureSource, what: str, bundles: dict[FixtureSource, Bundle], tmp_path: Path
) -> None:
    bundle = bundles[source]
    ops = [dict(op) for op in bundle.manifest.preprocess]
    changed = faults(ops)[what]
    assert changed != ops
    path = tmp_path / "changed.dt"
    write_bundle(path, replace(bundle.manifest, preprocess=changed), bundle.members)  # every digest is honest
    with pytest.raises(BundleRefused, match=r"an answer off by .* as when the model was made") as caught:
        load(path)
    assert caught.value.code == "bundle_fixtures"


@pytest.mark.parametrize("threads", [1, 4])
def test_a_model_with_another_head_does_not_load(
    threads: int, bundles: dict[FixtureSource, Bundle], tmp_path: Path
) -> None:
    bundle = bundles["validation"]
    decision = {**bundle.manifest.decision, "temperature": bundle.manifest.decision["temperature"] * 1.01}
    write_bundle(tmp_path / "warm.dt", replace(bundle.manifest, decision=decision), bundle.members)
    with pytest.raises(BundleRefused) as caught:
        load(tmp_path / "warm.dt", threads=threads)
    assert caught.value.code == "bundle_fixtures"


def test_limits_for_pictures_of_others_do_not_touch_the_fixtures(trained: TrainResult) -> None:
    """Symptom before: with image_max_bytes=1000, every model was refused for its own fixtures."""
    predictor = load(trained.bundle, limits=DecodeLimits(max_bytes=1_000, max_pixels=1_000))
    assert predictor.limits.max_bytes == 1_000


# --- hostile fixtures


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, "PNG")
    return out.getvalue()


def answers(expected: object) -> bytes:
    return json.dumps(expected).encode()


def says_it_is_huge(width: int, height: int) -> bytes:
    """A PNG of 8 x 8 pixels whose header says otherwise; its checksum is made to fit."""
    data = bytearray(png())
    data[16:24] = struct.pack(">2L", width, height)
    data[29:33] = struct.pack(">L", zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def gif() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "GIF")
    return out.getvalue()


HALF = [0.5, 0.5]
NO = {"fixtures/000.png": None, "fixtures/001.png": None}
HOSTILE: dict[str, tuple[dict[str, bytes | None], str]] = {
    "none": ({**NO, EXPECTED: answers({})}, "0 pictures; want as many answers, and one at least"),
    "none in a list": ({**NO, EXPECTED: answers([])}, "want as many answers"),
    "answers without pictures": (NO, "0 pictures; want as many answers"),
    "a picture without answer": ({"fixtures/x.png": png()}, "3 pictures; want as many answers"),
    "too few probabilities": ({EXPECTED: answers({"000.png": HALF, "001.png": [1.0]})}, "want 2 probabilities"),
    "too many probabilities": ({EXPECTED: answers({"000.png": HALF, "001.png": [0, 0, 1]})}, "want 2 probabilities"),
    "no probabilities": ({EXPECTED: answers({"000.png": HALF, "001.png": "yes"})}, "want 2 probabilities"),
    "true and false": ({EXPECTED: answers({"000.png": HALF, "001.png": [True, False]})}, "want 2 probabilities"),
    "above 1": ({EXPECTED: answers({"000.png": HALF, "001.png": [2.0, 0.0]})}, "want 2 probabilities"),
    "NaN": ({EXPECTED: b'{"000.png": [NaN, 0.5], "001.png": [0.5, 0.5]}'}, "the number NaN"),
    "no JSON": ({EXPECTED: b"{"}, "want plain UTF-8 JSON"),
    "other answers": ({EXPECTED: answers({"000.png": HALF, "001.png": HALF})}, "an answer off by"),
    "other picture": ({"fixtures/000.png": png((16, 16))}, "an answer off by"),
    "no PNG": ({"fixtures/000.png": gif()}, "000.png, which is no PNG"),
    "damaged": ({"fixtures/000.png": png()[:45]}, "want a PNG"),
    "only a signature": ({"fixtures/000.png": png()[:8]}, "want a PNG"),
    "bomb": ({"fixtures/000.png": says_it_is_huge(50_000, 50_000)}, "pixels"),
    "small bomb": ({"fixtures/000.png": says_it_is_huge(17, 16)}, "17 x 16 pixels, and at most 256 are decoded"),
    "many": (
        {
            **{f"fixtures/{i:03}.png": png() for i in range(17)},
            EXPECTED: answers({f"{i:03}.png": HALF for i in range(17)}),
        },
        "17 pictures; want at most 16",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str, tiny: Parts, tmp_path: Path) -> None:
    change, text = HOSTILE[name]
    path = tmp_path / "hostile.dt"
    path.write_bytes(tiny.changed(change).archive())
    with pytest.raises(BundleRefused) as caught:
        load(path)
    assert (caught.value.code, text in caught.value.message) == ("bundle_fixtures", True), caught.value.message


# --- the parts


def test_pack_and_unpack_keep_every_bit() -> None:
    rows = [np.array([1 / 3, 2 / 3]), np.array([1.0, 1e-90])]
    fixtures = [Fixture(name=f"{i}.png", picture=png(), answer=row) for i, row in enumerate(rows)]
    found = unpack(pack(fixtures), class_count=2)
    assert [fixture.name for fixture in found] == ["0.png", "1.png"]
    for fixture, row in zip(found, rows, strict=True):
        np.testing.assert_array_equal(fixture.answer, row)


@pytest.mark.parametrize(
    ("expected", "answer", "difference"),
    [
        ([0.5, 0.5], [0.5, 0.5], 0.0),
        ([0.5, 0.5], [0.6, 0.4], np.log(0.5 / 0.4)),  # log-probabilities, their spread taken for 1 at least
        ([1.0, 1e-10], [1.0, 1e-12], np.log(100) / np.log(1e10)),  # a sure model shows it there
        ([1.0, 0.0], [1.0, 0.0], 0.0),
        ([1.0, 1e-300], [1.0, 0.0], 0.0),
        ([1.0, 0.0], [0.0, 1.0], 1.0),
    ],
)
def test_compare_answers(expected: list[float], answer: list[float], difference: float) -> None:
    assert compare_answers(np.array(expected), np.array(answer)) == pytest.approx(difference, abs=1e-12)


def test_the_tolerance_is_kept_to() -> None:
    fixture = Fixture(name="0.png", picture=b"", answer=np.array([0.5, 0.5]))
    near, far = np.array([0.5004, 0.4996]), np.array([0.506, 0.494])
    assert check_fixtures([fixture], [near], tolerance=1e-3) == pytest.approx(8e-4, rel=0.01)
    with pytest.raises(BundleRefused, match=r"fixtures/0\.png: got an answer off by 0\.012; want at most 0\.001"):
        check_fixtures([fixture], [far], tolerance=1e-3)
    assert check_fixtures([fixture, fixture], [far, near], tolerance=0.02) == pytest.approx(0.012, rel=0.01)


def test_an_answer_that_is_no_number_is_refused() -> None:
    fixture = Fixture(name="0.png", picture=b"", answer=np.array([0.5, 0.5]))
    with pytest.raises(BundleRefused, match="off by nan"):
        check_fixtures([fixture], [np.array([np.nan, 0.5])], tolerance=1e-3)


@pytest.mark.parametrize("is_turned", [False, True])
def test_encode_picture(is_turned: bool) -> None:
    picture = make_synthetic_pictures(1, side=40, seed=3)[0]
    picture.info["comment"] = "who and where"
    exif = picture.getexif()
    exif[0x010F] = "the maker"
    data = encode_picture(picture, max_side=30, is_turned=is_turned)
    opened = Image.open(io.BytesIO(data))
    assert opened.format == "PNG"
    assert max(opened.size) == 30
    assert dict(opened.getexif()) == ({0x0112: 6} if is_turned else {})
    assert b"who and where" not in data
    assert (opened.size[0] > opened.size[1]) is not is_turned  # stands on its side, and EXIF says so


def test_synthetic_pictures_are_the_same_every_time() -> None:
    first, again, other = (make_synthetic_pictures(3, side=32, seed=seed) for seed in (5, 5, 6))
    assert [picture.tobytes() for picture in first] == [picture.tobytes() for picture in again]
    assert [picture.tobytes() for picture in first] != [picture.tobytes() for picture in other]
    assert {max(picture.size) for picture in first} == {32}
