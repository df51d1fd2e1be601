"""The arithmetic of saliency against the long way round, and what it refuses to say."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.errors import BundleRefused, InvalidInput, NotFound, Unavailable, UnreadablePicture
from drivetrain.flows.train import TrainResult
from drivetrain.imaging.preprocess import Fit, Preprocess, declare_preprocess
from drivetrain.inspect.head_graph import Reading, read_head_graph
from drivetrain.inspect.input_frame import Frame, find_frame
from drivetrain.inspect.saliency import Explainer, Saliency, effect_of_places, tell_where, weigh_outputs
from drivetrain.inspect.saliency_picture import paint_saliency

READINGS = (
    Reading(tensor="last", kind="mean"),
    Reading(tensor="tap", kind="mean"),
    Reading(tensor="tap", kind="spread"),
)


def embed(maps: list[FloatArray]) -> FloatArray:
    """What the head reads of maps (c, places): the first by its mean, the others by mean and spread."""
    parts = [maps[0].mean(axis=1)]
    for one in maps[1:]:
        parts += [one.mean(axis=1), np.sqrt(one.var(axis=1) + 1e-6)]
    features = np.concatenate(parts)
    return np.sign(features) * np.sqrt(np.abs(features))


@pytest.fixture
def maps() -> dict[str, FloatArray]:
    rng = np.random.default_rng(0)
    return {"last": rng.gamma(1.0, 1.0, (7, 3, 4)), "tap": rng.normal(0, 2, (5, 3, 4))}


def test_effect_of_a_place_is_what_goes_without_it(maps: dict[str, FloatArray]) -> None:
    flat = [maps["last"].reshape(7, 12), maps["tap"].reshape(5, 12)]
    weights = np.random.default_rng(1).normal(size=17)
    effect, share = effect_of_places(weights, embed(flat), maps, READINGS)
    assert share == pytest.approx(1.0)
    for place in range(12):
        without = embed([np.delete(one, place, axis=1) for one in flat])
        assert effect.ravel()[place] == pytest.approx(weights @ embed(flat) - weights @ without, abs=1e-6)


def test_what_the_maps_do_not_account_for_is_told(maps: dict[str, FloatArray]) -> None:
    embedding = embed([maps["last"].reshape(7, 12), maps["tap"].reshape(5, 12)])
    weights = np.random.default_rng(1).normal(size=17)
    size = np.abs(weights * embedding)
    _, share = effect_of_places(weights, embedding, maps, READINGS[:1])
    assert share == pytest.approx(size[:7].sum() / size.sum())
    other = maps | {"tap": maps["tap"] + 3.0}  # not what the head read
    effect, share = effect_of_places(weights, embedding, other, READINGS)
    assert share == pytest.approx(size[:7].sum() / size.sum())
    assert effect == pytest.approx(effect_of_places(weights, embedding, maps, READINGS[:1])[0])


def test_head_that_reads_something_else_is_not_explained(maps: dict[str, FloatArray]) -> None:
    embedding = embed([maps["last"].reshape(7, 12), maps["tap"].reshape(5, 12)])
    with pytest.raises(Unavailable, match="does not read the mean of the last map"):
        effect_of_places(np.ones(17), embedding + 1, maps, READINGS)
    with pytest.raises(Unavailable, match="several places"):
        effect_of_places(np.ones(7), embedding[:7], {"last": maps["last"][:, :1, :1]}, READINGS[:1])


def test_class_is_weighed_against_those_that_compete_with_it() -> None:
    weight = np.array([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])
    row = np.array([0.6, 0.3, 0.1])
    assert weigh_outputs(weight, row, at=0, is_one_of=True) == pytest.approx([1 - 0.25 * 4, -0.75 - 0.25 * 4])
    assert weigh_outputs(weight, row, at=0, is_one_of=False) == pytest.approx([1.0, 0.0])
    assert weigh_outputs(weight[:1], row[:1], at=0, is_one_of=True) == pytest.approx([1.0, 0.0])
    # a class that is all but certain still has something to be told apart from
    assert np.isfinite(weigh_outputs(weight, np.array([1.0, 0.0, 0.0]), at=0, is_one_of=True)).all()


@pytest.mark.parametrize("method", ["crop", "two steps", "pad", "squish"])
@pytest.mark.parametrize("size", [(300, 200), (150, 333), (64, 64), (40, 1000)])
def test_frame_is_where_the_pixels_come_from(method: Fit | Literal["two steps"], size: tuple[int, int]) -> None:
    """A picture whose red is its column and whose green is its row, run through the real ops."""
    width, height = size
    side = 64
    ops = declare_preprocess(side, method="crop" if method == "two steps" else method, mean=(0, 0, 0), std=(1, 1, 1))
    if method == "two steps":
        ops[2:3] = [{**ops[2], "mode": "shortest"}, {"op": "center_crop", "size": side}]
    ramp = np.zeros((height, width, 3), dtype=np.uint8)
    ramp[..., 0] = (40 + 215 * (np.arange(width) + 0.5) / width).round()
    ramp[..., 1] = (40 + 215 * (np.arange(height) + 0.5) / height).round()[:, np.newaxis]
    pixels = Preprocess(ops).from_array(ramp) * 255
    frame = find_frame(ops, width=width, height=height)
    seen = pixels[0] > 35  # padding is black
    assert seen.any()
    shares = (np.arange(side) + 0.5) / side
    x = frame.left + shares * (frame.right - frame.left)
    y = frame.top + shares * (frame.bottom - frame.top)
    inside = np.outer((y > 0) & (y < 1), (x > 0) & (x < 1))
    assert (seen == inside).mean() > 0.98  # but for a row at an edge, which is half in
    both = seen & inside
    assert np.abs(pixels[0] - (40 + 215 * x)[np.newaxis, :])[both].mean() < 5
    assert np.abs(pixels[1] - (40 + 215 * y)[:, np.newaxis])[both].mean() < 5


def saliency(heat: FloatArray, frame: Frame | None = None, *, size: tuple[int, int] = (200, 100)) -> Saliency:
    return Saliency(
        label="a", number=0.9, heat=heat.astype(np.float32), effect=heat, share_explained=1.0,
        frame=frame or Frame(left=0, top=0, right=1, bottom=1), width=size[0], height=size[1],
    )  # fmt: skip


def test_where_is_told_in_words() -> None:
    heat = np.zeros((5, 5))
    assert tell_where(saliency(heat)) == ""
    for (row, column), words in {
        (0, 0): "at the top left", (2, 2): "in the middle", (4, 2): "at the bottom", (2, 4): "at the right",
    }.items():  # fmt: skip
        lit = heat.copy()
        lit[row, column] = 1
        assert tell_where(saliency(lit)) == words
    # the middle between two places may be dark
    for places, words in {
        ((0, 0), (0, 4)): "at the top", ((2, 0), (2, 4)): "across the middle", ((0, 2), (4, 2)): "down the middle",
        ((0, 0), (4, 4)): "in several places", ((0, 0), (0, 1), (4, 4)): "at the top left",
    }.items():  # fmt: skip
        lit = heat.copy()
        for place in places:
            lit[place] = 1
        assert tell_where(saliency(lit)) == words
    # of a wide picture only the middle is looked at: the left of that is not the left of the picture
    lit = heat.copy()
    lit[2, 0] = 1
    assert tell_where(saliency(lit, Frame(left=0.3, top=0, right=0.7, bottom=1))) == "in the middle"


def test_painted_heat_lies_where_the_heat_is() -> None:
    heat = np.zeros((4, 4))
    heat[0, 3] = 1
    data = paint_saliency(saliency(heat, Frame(left=0.25, top=0, right=0.75, bottom=1)))
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGBA", (320, 160))
        pixels = np.asarray(picture).astype(int)
    light = pixels[..., :3].sum(axis=-1)
    assert light[10, 230] > 500  # the corner of the frame
    assert light[150, 90] < 120
    assert (pixels[:, :79] == pixels[0, 0]).all()  # nothing was looked at there
    assert (pixels[:, 81:239] != pixels[0, 0]).any(axis=-1).all()
    dark = np.asarray(Image.open(io.BytesIO(paint_saliency(saliency(heat * 0)))))
    assert (dark == dark[0, 0]).all()


@pytest.fixture(scope="module")
def explainer(trained: TrainResult) -> Explainer:
    return Explainer.open(trained.bundle)


@pytest.fixture(scope="module")
def one_picture(picture_folder: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert callable(picture_folder)
    root = picture_folder(("circle",), per_class=1, suffix=".jpg", root=tmp_path_factory.mktemp("one"))
    return Path(next((root / "circle").iterdir()))


def test_picture_is_told_from_its_bytes(explainer: Explainer, one_picture: Path) -> None:
    told = explainer.explain(one_picture.read_bytes())
    assert told.label == "circle"
    assert told.number > 0.5
    assert told.share_explained == pytest.approx(1.0)
    assert told.heat.dtype == np.float32
    assert told.heat.shape == told.effect.shape == (3, 3)
    assert told.heat.max() == pytest.approx(1.0)
    assert told.heat.min() >= 0
    other = explainer.explain(one_picture.read_bytes(), label="stripes")
    assert other.label == "stripes"
    assert other.number < told.number
    assert np.corrcoef(other.effect.ravel(), told.effect.ravel())[0, 1] < 0.5


def test_turned_picture_is_told_as_it_is_seen(explainer: Explainer, one_picture: Path) -> None:
    with Image.open(one_picture) as image:
        upright = image.convert("RGB")
    exif, out = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # held on its side
    upright.transpose(Image.Transpose.ROTATE_90).save(out, "PNG", exif=exif)
    straight = io.BytesIO()
    upright.save(straight, "PNG")
    turned, plain = explainer.explain(out.getvalue()), explainer.explain(straight.getvalue())
    assert (turned.width, turned.height) == (plain.width, plain.height) == upright.size
    assert turned.effect == pytest.approx(plain.effect)
    assert turned.frame == plain.frame


def test_what_cannot_be_told_is_refused(explainer: Explainer, one_picture: Path, tmp_path: Path) -> None:
    data = one_picture.read_bytes()
    with pytest.raises(InvalidInput, match="label: got bear; want one of the 3"):
        explainer.explain(data, label="bear")
    with pytest.raises(UnreadablePicture, match=r"mine\.png"):
        explainer.explain(b"no picture", name="mine.png")
    with pytest.raises(NotFound):
        Explainer.open(tmp_path / "none.dt")
    (tmp_path / "bad.dt").write_bytes(b"PK")
    with pytest.raises(BundleRefused):
        Explainer.open(tmp_path / "bad.dt")


def test_head_that_is_not_the_networks_own_is_noticed(trained: TrainResult, one_picture: Path) -> None:
    mine = Explainer.open(trained.bundle)
    mine._graph = replace(mine._graph, weight=mine._graph.weight * 1.1)
    with pytest.raises(Unavailable, match="not what the network answers by"):
        mine.explain(one_picture.read_bytes())


def test_network_without_such_a_head_is_refused() -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Relu", ["pixels"], ["logits"])], "g", [value], [out])
    with pytest.raises(Unavailable, match="without a linear head"):
        read_head_graph(helper.make_model(graph).SerializeToString())
