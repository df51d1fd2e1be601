from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from drivetrain.bundle.archive import read_bundle
from drivetrain.data.getters import get_image_files, parent_label
from drivetrain.data.splitters import FuncSplitter
from drivetrain.data.transforms import Resize
from drivetrain.errors import Conflict, InvalidConfig, InvalidInput
from drivetrain.flows.evaluate import evaluate
from drivetrain.flows.record_learner import tell
from drivetrain.flows.vision_learner import vision_learner
from drivetrain.learn.augment import Flip
from drivetrain.learn.backbones import Backbone, Piece, load_backbone, measure_pieces
from drivetrain.learn.blocks import CategoryBlock, ImageBlock, MultiCategoryBlock, RegressionBlock
from drivetrain.learn.callbacks import Callback, SaveModelCallback, StopFit
from drivetrain.learn.data_block import DataBlock
from drivetrain.learn.data_loaders import DataLoaders
from drivetrain.learn.frozen_part import FrozenPart, find_trunk
from drivetrain.learn.learner import Learner
from drivetrain.learn.learner import vision_learner as plain_learner
from drivetrain.learn.losses import Huber
from drivetrain.learn.metrics import error_rate, mae
from drivetrain.learn.mixing import MixUp
from drivetrain.learn.network import build_network
from drivetrain.learn.trunk import BackboneSpec
from drivetrain.learn.view_loader import keep_views
from drivetrain.learn.vision_learner import VisionLearner
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import load
from drivetrain.runtime.session import Session
from drivetrain.settings import Settings, load_settings
from drivetrain.task import Task

if TYPE_CHECKING:
    from tests.conftest import PictureFolder

SIZE = 32
_VALUES = {"circle": 1000.0, "square": 3000.0, "stripes": 5000.0}
_MARKS = {"circle": ["round"], "square": ["edged", "plain"], "stripes": ["edged"]}
BLOCKS: dict[Task, tuple[Any, Callable[[Path], Any]]] = {
    "classification": (CategoryBlock, parent_label),
    "multilabel": (MultiCategoryBlock, lambda path: _MARKS[path.parent.name]),
    "regression": (RegressionBlock, lambda path: _VALUES[path.parent.name]),
}


class Tiny(Backbone):
    """Four pieces; maps of 16, 8 and 8 pixels between them, so it is cut before the third."""

    def __init__(self, channels: Sequence[int] = (3, 8, 12, 12, 16), strides: Sequence[int] = (2, 2, 1, 2)) -> None:
        spec = BackboneSpec(name="tiny", package="none", size=SIZE, feature_count=channels[-1], mean=(0.5,) * 3)
        super().__init__(spec)
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for (a, b), stride in zip(pairwise(channels), strides, strict=True)
        )
        for part in self.parts:  # as pretrained norms are: none of them does nothing
            norm = part.get_submodule("1")
            assert isinstance(norm, nn.BatchNorm2d)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
            assert norm.running_mean is not None
            assert norm.running_var is not None
            nn.init.uniform_(norm.running_mean, -0.1, 0.1)
            nn.init.uniform_(norm.running_var, 0.2, 0.6)

    @property
    def pieces(self) -> Sequence[Piece]:
        return list(self.parts)

    def piece_parameters(self, piece: int) -> list[nn.Parameter]:
        return list(self.parts[piece].parameters())


class Whole(Tiny):
    """One that cannot be parted."""

    @property
    def cuts(self) -> tuple[int, ...]:
        return ()


class Told:
    """A Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda steps: None

    def say(self, message: str) -> None:
        self.lines.append(message)


def tiny(kind: type[Tiny] = Tiny) -> Tiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()


def make_dls(folder: Path, *, task: Task = "classification", **block: Any) -> DataLoaders:
    """Every third picture held out."""
    target, getter = BLOCKS[task]
    plan: dict[str, Any] = {
        "blocks": (ImageBlock, target),
        "get_items": get_image_files,
        "get_y": getter,
        "splitter": FuncSplitter(lambda path: int(path.stem[-3:]) % 3 == 0),
        "item_tfms": Resize(SIZE),
        "batch_tfms": Flip(p=0.5),
    }
    settings = load_settings(environ={}, flags={"cache_dir": folder.parent, "pixel_cache_bytes": 0})
    return DataBlock(**(plan | block)).dataloaders(folder, bs=8, device="cpu", num_workers=0, settings=settings)


Make = Callable[..., VisionLearner]


@pytest.fixture(scope="module")
def shapes(picture_folder: PictureFolder) -> Path:
    return picture_folder(per_class=24, size=(48, 40))


@pytest.fixture
def make(shapes: Path, tmp_path: Path, settings: Settings) -> Make:
    def run(
        *,
        task: Task = "classification",
        kind: type[Tiny] = Tiny,
        data: Path = shapes,
        block: Any = None,
        **options: Any,
    ) -> VisionLearner:
        dls = make_dls(data, task=task, **(block or {}))
        given = {"metrics": error_rate if task == "classification" else None, "path": tmp_path, "progress": Told()}
        return vision_learner(dls, tiny(kind), settings=settings, **(given | {"checkpoint": None} | options))

    return run


def lines_of(learn: VisionLearner) -> list[str]:
    assert isinstance(learn.progress, Told)
    return learn.progress.lines


def state_of(learn: Learner) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in learn.model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# the top


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_without_a_gpu_the_head_comes_first_and_the_top_with_it(make: Make, task: Task) -> None:
    learn = make(task=task, metrics=mae if task == "regression" else None)
    before, start = state_of(learn), learn.validate()
    learn.fine_tune(3)
    record = learn.recorder.values
    assert len(record) == 1 + 3  # the head, then an epoch each
    assert record[0][1] < start[0]  # the head alone is better than chance
    assert record[-1][1] < start[0]
    assert learn.validate() == pytest.approx(record[-1][1:], rel=5e-3, abs=1e-3)  # kept activations are halves
    after = state_of(learn)
    assert after.keys() == before.keys()
    changed = {
        name.split(".")[2] for name in before if name.startswith("backbone") and (after[name] != before[name]).any()
    }
    assert changed == {"2", "3"}  # the pieces from the cut on, and no other
    assert learn.model.cut == 2
    assert not learn.model.training
    assert learn.frozen_groups == 0
    (told,) = [line for line in lines_of(learn) if "method top" in line]
    assert told.startswith("No GPU, so method top: the head first, then pieces 2 to 3 of tiny with it, 3 epochs;")
    assert "run once over 4 views" in told
    assert " About " in told
    assert [line.split()[0] for line in lines_of(learn) if line[0].isdigit()] == ["0", "0", "1", "2"]


def test_a_tuned_model_can_be_kept_loaded_and_trained_on(make: Make) -> None:
    learn = make()
    learn.fine_tune(2)
    expected = learn.get_preds()[0]
    learn.save("tuned")
    other = make().load("tuned")
    assert torch.equal(other.get_preds()[0], expected)
    label, number, probs = other.predict(other.dls.valid_ds.items[0])
    assert (label, probs[number]) == (other.dls.vocab[int(number)], probs.max())
    learn.fine_tune(1)  # from trained pieces on
    learn.fine_tune(1, method="full")
    assert len(learn.recorder.values) == 3 + 2 + 2


def test_the_same_seed_gives_the_same_weights_and_another_others(make: Make) -> None:
    states = []
    for seed in (1, 1, 2):
        learn = make(seed=seed)
        learn.fine_tune(1)
        states.append(state_of(learn))
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


def test_each_option_of_the_top_counts(make: Make) -> None:
    def tune(given: dict[str, Any] | None = None, **options: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        learn = make(**(given or {}))
        learn.fine_tune(2, method="top", **options)
        return state_of(learn), learn.fits[-1]

    plain, fit = tune()
    assert (fit["method"], fit["cut"], fit["views"], fit["epochs"], fit["wd"]) == ("top", 2, 2, 2, 0.01)
    assert fit["lr"] == pytest.approx(1e-3 * 0.05)  # few steps
    assert not same(plain, tune(base_lr=4e-3)[0])
    assert tune(wd=0.5)[1]["wd"] == 0.5
    assert not same(plain, tune(wd=0.5)[0])
    assert tune({"wd": 0.3})[1]["wd"] == 0.3
    assert not same(plain, tune({"class_weights": [5.0, 1.0, 1.0]})[0])
    assert not same(plain, tune({"label_smoothing": 0.2})[0])
    none = tune(freeze_epochs=0)
    assert none[1]["head"] == {}
    assert not same(plain, none[0])


def test_no_more_than_four_views_are_drawn(make: Make) -> None:
    learn = make()
    learn.fine_tune(6)
    assert (learn.fits[-1]["views"], learn.fits[-1]["epochs"], learn.epochs_seen) == (4, 6, 6)


class Stop(Callback):
    def __init__(self) -> None:
        self.events: list[str] = []

    def before_fit(self, learn: Any) -> None:
        self.events.append(f"fit of {learn.n_epoch}")

    def before_epoch(self, learn: Any) -> None:
        self.events.append(f"epoch {learn.epoch}")

    def after_epoch(self, learn: Any) -> None:
        self.events.append(f"values {len(learn.recorder.values)}")
        if len(learn.recorder.values) == 3:
            raise StopFit("enough")

    def after_fit(self, learn: Any) -> None:
        self.events.append("end")


def test_callbacks_hear_of_each_epoch_and_can_end_it(make: Make) -> None:
    stop = Stop()
    learn = make()
    learn.fine_tune(4, cbs=stop)
    assert stop.events == [
        "fit of 1", "epoch 0", "values 1", "end", "fit of 4", "epoch 0", "values 2", "epoch 1", "values 3", "end",
    ]  # fmt: skip
    assert learn.fits[-1]["epochs"] == 2
    assert "Stop ends the training: enough." in lines_of(learn)
    assert len(learn.recorder.raw_losses) == 2 * (48 // 8)


def test_the_best_epoch_can_be_kept(make: Make) -> None:
    save = SaveModelCallback("valid_loss", reset_on_fit=False)
    learn = make(cbs=save)
    learn.fine_tune(3, base_lr=0.5)  # far too much
    assert learn.validate()[0] == pytest.approx(min(values[1] for values in learn.recorder.values), rel=1e-3, abs=1e-4)


def test_a_picture_that_cannot_be_read_is_left_out_of_all_views(make: Make, picture_folder: PictureFolder) -> None:
    data = picture_folder(per_class=12, size=(48, 40))
    (data / "circle" / "circle-001.png").write_bytes(b"no picture")
    learn = make(data=data)
    with pytest.warns(UserWarning, match=r"circle-001.png cannot be read and is left out"):
        learn.fine_tune(2)
    assert len(learn.recorder.values) == 3


def test_views_are_what_the_training_s_transforms_draw(shapes: Path, tmp_path: Path) -> None:
    dls = make_dls(shapes, item_tfms=Resize(SIZE, "squish"), batch_tfms=Flip(p=1.0))
    backbone = tiny()
    part = FrozenPart(backbone, cut=2, trunk=None, side=SIZE, threads=1)
    train, valid = keep_views(
        dls, part, task="classification", views=2, first_epoch=0, folder=tmp_path, progress=SilentProgress()
    )
    assert train.activations.rows.shape == (48, 3, 8, 8, 12)
    assert valid.activations.rows.shape == (24, 1, 8, 8, 12)
    pixels = torch.cat([batch[0].clone() for batch in dls.valid.new(dls.train_ds)])
    with torch.inference_mode():
        expected = [backbone.run(x, stop=2).permute(0, 2, 3, 1).numpy() for x in (pixels, pixels.flip(3))]
    np.testing.assert_allclose(train.activations.rows[:, 0], expected[0], rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(train.activations.rows[:, 1], expected[1], rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(train.activations.rows[:, 1], train.activations.rows[:, 2])
    labels = [dls.vocab[target] for target in train.targets]
    assert labels == [Path(name).parent.name for name in train.names]
    assert list(tmp_path.iterdir()) == []  # the file has no name


# head, full, and which


def test_the_method_head_trains_the_head_alone(make: Make) -> None:
    learn = make()
    before = state_of(learn)
    learn.fine_tune(5, method="head")
    after = state_of(learn)
    assert {name for name in before if (before[name] != after[name]).any()} == {
        "head.linear.weight",
        "head.linear.bias",
    }
    assert len(learn.recorder.values) == 1
    assert learn.recorder.values[0][1:] == pytest.approx(learn.validate())
    assert learn.fits[0]["head"]["penalty"] > 0


def test_full_is_what_a_learner_does(make: Make, shapes: Path, tmp_path: Path) -> None:
    learn = make()
    learn.fine_tune(1, 1e-2, method="full", lr_mult=10, wd=0.1)
    plain = plain_learner(make_dls(shapes), tiny(), path=tmp_path, progress=SilentProgress(), checkpoint=None)
    plain.fine_tune(1, 1e-2, lr_mult=10, wd=0.1)
    assert same(state_of(learn), state_of(plain))
    (told,) = [line for line in lines_of(learn) if line.startswith("Method full")]
    assert told.startswith("Method full: the head for 1, then all weights for 1. About ")


@pytest.mark.parametrize(
    ("given", "asked", "why"),
    [
        ({"cbs": MixUp}, {}, "MixUp looks at batches"),
        ({}, {"cbs": MixUp}, "MixUp looks at batches"),
        ({"loss_func": Huber()}, {}, "loss_func=Huber"),
        ({"opt_func": torch.optim.Adam}, {}, "opt_func=Adam"),
        ({"train_bn": True}, {}, "train_bn=True"),
        ({"wd_bn_bias": True}, {}, "wd_bn_bias=True"),
        ({"moms": (0.9, 0.8, 0.9)}, {}, "moms="),
        ({"dropout": 0.5}, {}, "dropout=0.5"),
        ({}, {"lr_mult": 10}, "lr_mult=10"),
        ({}, {"pct_start": 0.5}, "pct_start=0.5"),
        ({}, {"div": 10.0}, "div=10.0"),
        ({}, {"moms": (0.9, 0.8, 0.9)}, "moms="),
        ({}, {"resume": True}, "resume=True"),
    ],
)
def test_what_only_full_can_do_is_not_ignored(make: Make, given: Any, asked: Any, why: str) -> None:
    task: Task = "regression" if "loss_func" in given else "classification"
    learn = make(task=task, **given)
    with pytest.raises(InvalidConfig, match=why):
        learn.fine_tune(1, method="top", **asked)
    assert learn._choose_method(asked) == "full"
    assert why in lines_of(learn)[-1]


def test_values_in_their_own_units_take_full_too(make: Make) -> None:
    assert make(task="regression", standardise=False)._choose_method({}) == "full"
    assert make(task="regression").to_bf16()._choose_method({}) == "full"


def test_a_backbone_in_one_piece_is_trained_in_full(make: Make) -> None:
    learn = make(kind=Whole)
    learn.fine_tune(1, freeze_epochs=0)
    assert "No GPU, yet all weights are trained: tiny cannot be parted into pieces with maps between." in lines_of(
        learn
    )
    assert learn.fits[-1]["method"] == "fit_one_cycle"
    with pytest.raises(InvalidConfig, match="which cannot be parted"):
        learn.fine_tune(1, method="top")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"epochs": 1, "method": "best"}, r"fine_tune\(method\): got best"),
        ({"epochs": 0}, r"fine_tune\(epochs\)"),
        ({"epochs": 1, "method": "head", "wd": 0.1}, "wd=0.1"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Make, options: Any, match: str) -> None:
    with pytest.raises(InvalidConfig, match=match):
        make().fine_tune(**options)


def test_pieces_are_measured() -> None:
    assert measure_pieces(tiny(), side=SIZE) == {1: (8, 256), 2: (12, 64), 3: (12, 64)}


def test_onnxruntime_runs_a_pretrained_part_and_torch_one_that_was_trained(shared_cache: Path) -> None:
    backbone = load_backbone("efficientnet_lite0")
    trunk = find_trunk(backbone, side=96, cache_dir=shared_cache, progress=SilentProgress())
    pixels = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)
    for cut in (13, None):
        part = FrozenPart(backbone, cut=cut, trunk=trunk, side=96, threads=2)
        assert part.runs_in_onnx
        expected = FrozenPart(backbone, cut=cut, trunk=None, side=96, threads=1)
        assert not expected.runs_in_onnx
        np.testing.assert_allclose(part.run(pixels), expected.run(pixels), rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        backbone.piece_parameters(0)[0].mul_(1.5)
    assert not FrozenPart(backbone, cut=13, trunk=trunk, side=96, threads=1).runs_in_onnx
    assert find_trunk(backbone, side=100, cache_dir=shared_cache, progress=SilentProgress()) is None
    assert find_trunk(tiny(), side=96, cache_dir=shared_cache, progress=SilentProgress()) is None


# the bundle


@pytest.mark.parametrize(
    ("train", "piece"),
    [
        (lambda learn: learn.fine_tune(1, method="full"), 2),
        (lambda learn: learn.fit_one_cycle(1, 1e-3), 2),
        (lambda learn: (learn.freeze_to(2), learn.fit(1, 1e-3)), 2),
        (lambda learn: (learn.freeze(), learn.fit(1, 1e-3)), None),  # the head alone: the last map is as it was
        (lambda learn: learn.fine_tune(1, method="head"), None),
    ],
    ids=["full", "a cycle of all", "the last groups", "a frozen backbone", "head"],
)
def test_strange_pictures_are_known_by_a_stage_that_hardly_moved(
    make: Make, tmp_path: Path, train: Callable[[VisionLearner], Any], piece: int | None
) -> None:
    learn = make()
    assert min(learn.model.backbone.layout.head_pieces) == 2
    train(learn)
    bundle = read_bundle(learn.export(tmp_path / "shapes.dt"))
    pixels = torch.randn(2, 3, SIZE, SIZE)
    backbone = learn.model.backbone.eval()
    with torch.no_grad():
        expected = backbone.pool(backbone.run(pixels, stop=piece)).numpy()
    frozen = Session(bundle.members["model.onnx"]).run(["frozen"], pixels.numpy())[0]
    np.testing.assert_allclose(frozen, expected, rtol=1e-3, atol=1e-4)
    assert bundle.arrays["ood_centre"].shape == expected.shape[1:]


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_a_bundle_answers_as_its_learner_does(make: Make, tmp_path: Path, task: Task) -> None:
    learn = make(task=task)
    learn.fine_tune(2)
    path = learn.export(tmp_path / "shapes.dt")
    model = load(path)
    expected = learn.get_preds()[0].numpy()
    assert model.task == task
    for file, row in zip(learn.dls.valid_ds.items[:4], expected, strict=False):
        answer: Any = model.predict(file)
        told = answer.values if task == "regression" else answer.probabilities
        assert list(told) == learn.names  # too few to fit a temperature to: the learner's own
        np.testing.assert_allclose(list(told.values()), row, rtol=1e-3, atol=2e-4)
    training = model.manifest.training
    assert (training["method"], training["n_train"], training["n_valid"]) == ("top", 48, 24)
    assert training["blocks"][0] == "ImageBlock"
    assert training["item_tfms"][0]["arguments"]["size"] == SIZE
    assert [fit["method"] for fit in training["learner"]["fits"]] == ["top"]
    assert model.manifest.lineage["backbone"] == "tiny"
    assert model.manifest.lineage["weights_digest"] is None


def test_a_bundle_says_what_it_was_made_of(make: Make, shapes: Path, tmp_path: Path) -> None:
    learn = make()
    learn.fine_tune(1, method="head")
    model = load(learn.export(str(tmp_path / "shapes.dt")))
    found = evaluate(model, shapes, progress=SilentProgress())
    assert found.notes[0].startswith("48 of 72 pictures trained it, the others calibrated it")  # by digest
    assert model.manifest.training["method"] == "head"
    assert any(line.startswith(f"{tmp_path / 'shapes.dt'}: shapes@") for line in lines_of(learn))
    with zipfile.ZipFile(tmp_path / "shapes.dt") as archive:
        names = archive.namelist()
        assert {"MODEL_CARD.md", "DATASHEET.md", "weights.safetensors", "reference.npz"} <= set(names)
        assert "| circle | 16 | 8 |" in archive.read("DATASHEET.md").decode()
        expected = json.loads(archive.read("fixtures/expected.json"))
    assert expected


def test_the_datasheet_beside_the_pictures_goes_along(
    make: Make, picture_folder: PictureFolder, tmp_path: Path
) -> None:
    data = picture_folder(per_class=9, size=(48, 40))
    (data / "datasheet.md").write_text("# Shapes\n\n## Motivation\n\nTo learn from them.\n")
    (data / "square" / "square-001.png").write_bytes(b"no picture")
    learn = make(data=data)
    learn.export(tmp_path / "shapes.dt")
    with zipfile.ZipFile(tmp_path / "shapes.dt") as archive:
        text = archive.read("DATASHEET.md").decode()
    assert "To learn from them." in text
    assert "square/square-001.png" in text


def test_labels_of_a_table_are_exported_too(shapes: Path, tmp_path: Path, settings: Settings) -> None:
    table = tmp_path / "shapes.csv"
    files = get_image_files(shapes)
    with table.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["file", "kg"])
        rows.writerows([str(file), _VALUES[file.parent.name] + at / 7] for at, file in enumerate(files))
    dls = DataBlock(
        blocks=(ImageBlock, RegressionBlock),
        get_x=lambda row: row["file"],
        get_y=lambda row: float(row["kg"]),
        item_tfms=Resize(SIZE),
    ).dataloaders(table, bs=8, device="cpu", settings=settings)
    learn = vision_learner(dls, tiny(), settings=settings, path=tmp_path, progress=SilentProgress(), checkpoint=None)
    model = load(learn.export(tmp_path / "kg.dt"))
    assert model.task == "regression"
    assert model.manifest.training["method"] == "none"


def test_what_cannot_be_exported_is_refused(make: Make, shapes: Path, tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(InvalidConfig, match=r"export\(path\): got .*shapes.onnx; want a file NAME.dt"):
        make().export(tmp_path / "shapes.onnx")

    def darken(image: Image.Image) -> Image.Image:
        return image.point(lambda value: value // 2)

    with pytest.raises(InvalidInput, match="the item transform darken is a plain function"):
        make(block={"item_tfms": [Resize(SIZE), darken]}).export(tmp_path / "shapes.dt")
    pixels = [(np.asarray(Image.open(file)), file.parent.name) for file in get_image_files(shapes)]
    dls = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_x=lambda pair: pair[0],
        get_y=lambda pair: pair[1],
        item_tfms=Resize(SIZE),
    ).dataloaders(pixels, bs=8, device="cpu", settings=settings)
    learn = vision_learner(dls, tiny(), settings=settings, path=tmp_path, progress=SilentProgress(), checkpoint=None)
    with pytest.raises(InvalidInput, match="a picture that is a ndarray"):
        learn.export(tmp_path / "shapes.dt")
    bare = plain_learner(make_dls(shapes), tiny(), kind=VisionLearner, path=tmp_path, progress=SilentProgress())
    with pytest.raises(Conflict, match="made by hand"):
        bare.export(tmp_path / "shapes.dt")
    assert list(tmp_path.glob("*.dt")) == []


def test_a_pretrained_backbone_is_named_by_its_weights(shapes: Path, tmp_path: Path, shared_cache: Path) -> None:
    from drivetrain.learn.trunk import find_backbone, find_weights

    settings = load_settings(environ={}, folder=tmp_path, flags={"cache_dir": shared_cache, "threads": 2})
    dls = make_dls(shapes, item_tfms=Resize(96))
    learn = vision_learner(dls, "efficientnet_lite0", settings=settings, path=tmp_path, progress=Told())
    learn.fine_tune(1, method="head")
    assert learn.validate()[0] < 0.3
    model = load(learn.export(tmp_path / "shapes.dt"))
    weights = hashlib.sha256(find_weights(find_backbone("efficientnet_lite0")).read_bytes()).hexdigest()
    assert model.manifest.lineage["weights_digest"] == weights
    assert model.manifest.lineage["backbone_licence"] == "Apache-2.0"
    answer: Any = model.predict(learn.dls.valid_ds.items[0])
    assert answer.label == learn.predict(learn.dls.valid_ds.items[0])[0]


def test_a_network_that_has_its_head_can_be_given(make: Make, shapes: Path, settings: Settings, tmp_path: Path) -> None:
    network = build_network(tiny(), n_out=3)
    learn = vision_learner(make_dls(shapes), network, settings=settings, path=tmp_path, progress=SilentProgress())
    assert isinstance(learn, VisionLearner)
    assert learn.model is network
    assert learn.pretrained is None
    learn.fine_tune(1)
    assert learn.model is network  # the very object is trained


def test_things_are_told_by_name_and_arguments() -> None:
    assert tell(parent_label) == {"name": "parent_label", "module": "drivetrain.data.getters"}
    told = tell(Resize(24, "pad"))
    assert (told["name"], told["arguments"]["size"], told["arguments"]["method"]) == ("Resize", 24, "pad")
    assert tell(lambda path: path)["name"] == "a lambda"
