"""The search for a learning rate: what it suggests, and that nothing is left of it afterwards."""

from __future__ import annotations

import copy
import json
import math
import random
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import drivetrain.learn
from drivetrain.data.getters import get_image_files, parent_label
from drivetrain.data.splitters import IndexSplitter
from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra
from drivetrain.learn.backbones import Backbone
from drivetrain.learn.blocks import CategoryBlock, ImageBlock, RegressionBlock
from drivetrain.learn.callbacks import Callback, ReduceLROnPlateau
from drivetrain.learn.data_block import DataBlock
from drivetrain.learn.learner import Learner, vision_learner
from drivetrain.learn.lr_find import find_lr, minimum, slide, steep, suggest_rates, valley
from drivetrain.learn.mixing import MixUp
from drivetrain.learn.trunk import BackboneSpec
from drivetrain.progress import SilentProgress
from drivetrain.settings import load_settings

LRS = np.geomspace(1e-6, 1, 61)  # ten a decade


class TinyBackbone(Backbone):
    """Two convolutions with batch norms."""

    def __init__(self) -> None:
        super().__init__(BackboneSpec(name="tiny", package="none", size=16, feature_count=8))
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()) for i in (3, 8, 8)
        )

    @property
    def pieces(self) -> Any:
        return list(self.layers)

    def piece_parameters(self, piece: int) -> list[nn.Parameter]:
        return list(self.layers[piece].parameters())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark squares, 20 of each, 4 of 5 to train on."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, light in (("bright", 170), ("dark", 90)):
        (root / name).mkdir()
        for number in range(20):
            pixels = rng.normal(light, 40, (16, 16, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


def read_light(path: Path) -> float:
    return 100.0 if path.parent.name == "bright" else 300.0


def make_learner(pictures: Path, path: Path, *, values: bool = False, bs: int = 8, **options: Any) -> Learner:
    block = DataBlock(
        blocks=(ImageBlock, RegressionBlock if values else CategoryBlock),
        get_items=get_image_files,
        get_y=read_light if values else parent_label,
        splitter=IndexSplitter(range(0, 40, 5)),
    )
    settings = load_settings(environ={}, flags={"cache_dir": path, "pixel_cache_bytes": 0})
    dls = block.dataloaders(pictures, bs=bs, num_workers=0, device="cpu", seed=1, settings=settings)
    torch.manual_seed(3)
    backbone = TinyBackbone()
    learner: Learner = vision_learner(dls, backbone, path=path, progress=SilentProgress(), seed=7, **options)
    return learner


def snapshot(learn: Learner) -> dict[str, Any]:
    """All that a search must leave alone, in plain values or copies."""
    opt = learn.opt
    return copy.deepcopy(
        {
            "model": dict(learn.model.state_dict()),
            "modes": [module.training for module in learn.model.modules()],
            "trained": [weight.requires_grad for weight in learn.model.parameters()],
            "opt": None if opt is None else opt.state_dict(),
            "scaler": learn.precision.state_dict(),
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state()[1],  # noqa: NPY002
            "python": random.getstate(),
            "recorder": learn.recorder.as_json(),
            "epochs": (learn.dls.train.epoch, learn.dls.valid.epoch, learn.epochs_seen, learn.epoch, learn.n_epoch),
            "steps": (learn.step, learn.n_step, learn.training, learn.fits, learn.xb, learn.yb, learn.pred),
            "loss": str(learn.loss),
            "callbacks": [cb.state_dict() for cb in learn.cbs if hasattr(cb, "state_dict")],
            "files": {path.name: path.read_bytes() for path in learn.path.rglob("*.safetensors")},
        }
    )


def assert_same(one: Any, other: Any, place: str = "") -> None:
    """Alike to the last bit."""
    if isinstance(one, Tensor | np.ndarray):
        assert np.array_equal(np.asarray(one), np.asarray(other)), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same(one[key], other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for at, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{place}/{at}")
    else:
        assert one == other, place


SETUPS: dict[str, dict[str, Any]] = {
    "labels": {},
    "values": {"values": True},
    "batch norms that learn": {"train_bn": True},
    "sgd and callbacks": {
        "opt_func": partial(torch.optim.SGD, momentum=0.9),
        "cbs": [MixUp(), ReduceLROnPlateau("train_loss")],
    },
}


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
@pytest.mark.parametrize("is_trained", [False, True], ids=["new", "trained"])
def test_nothing_is_left_of_it(setup: dict[str, Any], is_trained: bool, pictures: Path, tmp_path: Path) -> None:
    learn = make_learner(pictures, tmp_path, **copy.deepcopy(setup))
    if is_trained:
        learn.freeze_to(1)
        learn.fit(1, 1e-3)
    before, opt = snapshot(learn), learn.opt
    found = find_lr(learn, num_it=30, end_lr=1)
    assert 1e-7 <= found.valley <= 1 or math.isnan(found.valley)
    assert_same(snapshot(learn), before)
    assert learn.opt is opt
    assert all(weight.grad is None for weight in learn.model.parameters())


def test_a_training_after_it_is_the_training_without_it(pictures: Path, tmp_path: Path) -> None:
    first, second = (make_learner(pictures, tmp_path / name, cbs=MixUp()) for name in ("first", "second"))
    second.lr_find(num_it=12)
    for learn in (first, second):
        learn.fit(1, 1e-3)
        if learn is second:
            learn.lr_find(num_it=12)
        learn.fit_one_cycle(1, 1e-3)
    assert_same(dict(second.model.state_dict()), dict(first.model.state_dict()))
    assert json.dumps(second.recorder.as_json()) == json.dumps(first.recorder.as_json())


def test_nothing_is_left_of_it_when_it_is_broken_off(pictures: Path, tmp_path: Path) -> None:
    class Stop(Callback):
        def before_batch(self, learn: Any) -> None:
            if learn.training and learn.step == 5:
                raise KeyboardInterrupt

    learn = make_learner(pictures, tmp_path, cbs=Stop())
    before = snapshot(learn)
    with pytest.raises(KeyboardInterrupt):
        learn.lr_find()
    assert_same(snapshot(learn), before)


def test_the_same_search_finds_the_same(pictures: Path, tmp_path: Path) -> None:
    learn = make_learner(pictures, tmp_path, cbs=MixUp())
    one, other = find_lr(learn, num_it=20), find_lr(learn, num_it=20)
    assert one.test == other.test


def test_rates_rise_by_equal_factors_from_first_to_last(pictures: Path, tmp_path: Path) -> None:
    rates: list[float] = []

    class Watch(Callback):
        def before_batch(self, learn: Any) -> None:
            rates.append(learn.opt.param_groups[0]["lr"])  # of the batch before

    learn = make_learner(pictures, tmp_path, cbs=Watch())
    found = find_lr(learn, 1e-5, 1e-1, num_it=40, stop_div=False)
    assert len(found.test.lrs) == 40  # ten epochs of 4 batches
    assert found.test.lrs[0] == 1e-5
    assert np.diff(np.log10(found.test.lrs)) == pytest.approx(0.1)
    assert rates[1:] == pytest.approx(found.test.lrs[:-1])


class Exploding:
    """Cross-entropy, a thousand times as large from the 31st batch on."""

    def __init__(self) -> None:
        self.n_calls = 0

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.n_calls += 1
        return F.cross_entropy(logits, targets) * (1000 if self.n_calls > 30 else 1)


def test_a_loss_that_explodes_ends_it(pictures: Path, tmp_path: Path) -> None:
    stopped = find_lr(make_learner(pictures, tmp_path, loss_func=Exploding()), end_lr=1e-3, num_it=60).test
    assert len(stopped.lrs) == 31
    assert stopped.losses[-1] > 4 * min(stopped.losses)
    learn = make_learner(pictures, tmp_path, loss_func=Exploding())
    whole = find_lr(learn, end_lr=1e-3, num_it=60, stop_div=False).test
    assert len(whole.lrs) == 60
    assert whole.losses[:31] == stopped.losses


def test_a_loss_that_is_no_number_ends_it(pictures: Path, tmp_path: Path) -> None:
    learn = make_learner(pictures, tmp_path, opt_func=torch.optim.SGD)
    test = find_lr(learn, 1e-3, 1e30, num_it=60, stop_div=False).test
    assert len(test.lrs) < 60
    assert np.isfinite(test.losses).all()
    with pytest.raises(InvalidInput, match=r"lr_find: got \d+ batches before .* want more than 11.*lower start_lr"):
        find_lr(learn, 1e29, 1e30, num_it=60)


def test_suggestions_are_named_after_their_functions(pictures: Path, tmp_path: Path) -> None:
    learn = make_learner(pictures, tmp_path)
    found = learn.lr_find(num_it=40, end_lr=1, suggest_funcs=(valley, slide, minimum, partial(steep)))
    assert found._fields == ("valley", "slide", "minimum", "steep")
    assert repr(found).startswith("SuggestedLRs(valley=")
    assert [name for name, _, _ in found.test.points] == [
        name for name, rate in found._asdict().items() if not math.isnan(rate)
    ]
    only = learn.lr_find(num_it=40, end_lr=1, suggest_funcs=steep)
    assert only == (found.steep,)
    assert learn.lr_find(num_it=40, end_lr=1, suggest_funcs=None) == ()


def test_the_plot_marks_what_is_suggested(pictures: Path, tmp_path: Path) -> None:
    found = find_lr(make_learner(pictures, tmp_path), num_it=40, end_lr=1, suggest_funcs=minimum)
    figure = found.plot()
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert f"minimum: {found.minimum:.1e}" in labels
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("show_plot", [True, False])
def test_the_plot_is_shown_in_a_notebook_if_asked(
    show_plot: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    shell = SimpleNamespace(kernel=object())
    display = SimpleNamespace(display=lambda figure, display_id: shown.append(figure))
    fake = SimpleNamespace(get_ipython=lambda: shell, display=display)
    monkeypatch.setitem(sys.modules, "IPython", fake)  # type: ignore[arg-type]
    find_lr(make_learner(pictures, tmp_path), num_it=20, end_lr=1, show_plot=show_plot)
    assert len(shown) == show_plot


def test_it_works_without_matplotlib(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "drivetrain.learn.loss_plots", raising=False)
    monkeypatch.delattr(drivetrain.learn, "loss_plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    found = find_lr(make_learner(pictures, tmp_path), num_it=20, end_lr=1)
    with pytest.raises(MissingExtra, match=r"the plot of lr_find.*drivetrain\[train\]"):
        found.plot()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start_lr": 0.0}, r"lr_find\(start_lr, end_lr\)"),
        ({"start_lr": 1.0, "end_lr": 0.1}, r"got \(1.0, 0.1\); want 0 < start_lr < end_lr"),
        ({"end_lr": math.inf}, "end_lr"),
        ({"num_it": 9}, r"lr_find\(num_it\): got 9; want a whole number of at least 10"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], said: str, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=said):
        find_lr(make_learner(pictures, tmp_path), **options)


def test_a_loader_without_a_batch_is_refused(pictures: Path, tmp_path: Path) -> None:
    learn = make_learner(pictures, tmp_path)
    learn.dls.train = learn.dls.train.new(learn.dls.train_ds, bs=64, drop_last=True)
    with pytest.raises(InvalidInput, match=r"dls.train: got no whole batch.*smaller bs"):
        find_lr(learn)


# What curves suggest


def falling_then_rising() -> np.ndarray:
    """2 until rate 1e-4, down to 1 at 1e-2, up from 1e-1 on."""
    return np.interp(np.log10(LRS), [-6, -4, -2, -1, 0], [2, 2, 1, 1, 6])


def test_valley_is_half_way_down_the_longest_valley() -> None:
    lr, (at_lr, at_loss) = valley(LRS, falling_then_rising(), 100)
    assert lr == at_lr
    assert lr == pytest.approx(1e-3, rel=0.3)
    assert at_loss == pytest.approx(1.5, abs=0.06)
    bumpy = falling_then_rising()
    bumpy[30] += 0.5  # a bump on the way down does not end the valley
    assert valley(LRS, bumpy, 100)[0] == pytest.approx(1e-3, rel=0.3)
    two = np.concatenate([np.linspace(3, 2, 10), np.full(10, 5.0), np.linspace(4, 1, 41)])
    assert 20 < np.searchsorted(LRS, valley(LRS, two, 100)[0]) < 50  # in the longer one
    assert valley(LRS, np.linspace(2, 1, 61), 100)[0] == pytest.approx(LRS[29])


def test_minimum_is_a_tenth_of_the_rate_of_the_lowest_loss() -> None:
    losses = (np.log10(LRS) + 2) ** 2 + 1
    lr, (at_lr, at_loss) = minimum(LRS, losses, 100)
    assert lr == at_lr == pytest.approx(1e-3)
    assert at_loss == pytest.approx(2.0)


def test_steep_is_where_the_loss_falls_fastest() -> None:
    losses = -1 / (1 + np.exp(-4 * (np.log10(LRS) + 3)))  # steepest at 1e-3
    lr, (_, at_loss) = steep(LRS, losses, 100)
    assert lr == pytest.approx(1e-3, rel=0.3)
    assert at_loss == pytest.approx(-0.5, abs=0.15)


def test_slide_is_where_the_slope_gets_steady() -> None:
    losses = falling_then_rising()
    lr, (at_lr, _) = slide(LRS, losses, 100)
    assert lr == at_lr
    # from the right: slopes 15 steps apart stop differing where both are those of the flat start
    slopes = np.gradient(losses)
    left = int(np.searchsorted(LRS, lr * 0.999))
    assert abs(slopes[left + 14] - slopes[left - 1]) <= 0.005
    assert all(abs(slopes[at + 15] - slopes[at]) > 0.005 for at in range(left, len(LRS) - 15))
    assert slide(LRS, losses, 100, adjust_value=0.5)[0] == pytest.approx(lr / 2)
    assert slide(LRS, losses, 100, thresh=100.0)[0] == pytest.approx(LRS[-16])  # no slope differs by so much
    assert slide(LRS, losses, 100, thresh=100.0, lr_diff=5)[0] == pytest.approx(LRS[-6])
    steady = np.linspace(0, 1, 61) ** 4 * 100  # slopes differ all the way
    assert slide(LRS, steady, 100, thresh=0.0)[0] == pytest.approx(LRS[0])


def test_a_loss_that_never_falls_suggests_nothing() -> None:
    rising = np.linspace(1, 2, 61)
    found = suggest_rates(list(LRS), list(rising), [valley, steep], num_it=10)
    assert all(math.isnan(rate) for rate in found)
    assert found.test.points == ()
    for function in (valley, slide, steep, minimum):
        assert math.isnan(function(LRS[:0], rising[:0], 10)[0])


def test_the_first_tenth_and_the_last_five_are_left_out() -> None:
    seen: list[Any] = []

    def watch(lrs: Any, losses: Any, num_it: int) -> Any:
        seen.append((lrs, losses, num_it))
        return lrs[0], (lrs[0], losses[0])

    losses = [*np.linspace(2, 1, 40), math.nan, *np.ones(20)]
    found = suggest_rates(list(LRS), losses, [watch], num_it=61)
    lrs, told, num_it = seen[0]
    assert (lrs[0], len(lrs), num_it) == (LRS[6], 40 - 6 - 5, 61)
    assert np.isfinite(told).all()
    assert found.watch == LRS[6]
