"""The last pieces are trained from kept activations: the same weights every time, whatever breaks in between.

Run as a script, this file trains in a process of its own and may be killed there: python test_top.py FOLDER SCENE.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.learn.activations import Activations
from drivetrain.learn.backbones import Backbone, Block, SameConv
from drivetrain.learn.batch_norm import fold_batch_norm
from drivetrain.learn.checkpoint import read_tree, write_tree
from drivetrain.learn.network import Network, build_network
from drivetrain.learn.top import TopConfig, TopInput, TopRun, choose_dtype, fit_top, predict_top
from drivetrain.learn.trunk import BackboneSpec
from drivetrain.progress import SilentProgress

N, VIEWS, CUT = 40, 2, 2
CONFIG = TopConfig(epochs=3, batch=8, lr=3e-3)
STEPS = 15  # of CONFIG on N pictures
KILLED_AT = 8


class Tiny(Backbone):
    """Four pieces, with all that the convolutions of a large network have."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__(BackboneSpec(name="tiny", package="none", size=32, feature_count=24))
        self.stem = nn.Sequential(SameConv(3, 8, 3, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.one = Block(kernel=3, stride=1, expand=2, channels_in=8, channels_out=8)
        self.two = Block(kernel=5, stride=2, expand=2, channels_in=8, channels_out=16)
        rest = [nn.Dropout(dropout), nn.Conv2d(16, 24, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU6()]
        self.last = nn.Sequential(*rest)

    @property
    def pieces(self) -> list[nn.Module]:
        return [self.stem, self.one, self.two, self.last]

    def piece_parameters(self, piece: int) -> list[nn.Parameter]:
        return list(self.pieces[piece].parameters())


class Recorded(SilentProgress):
    """What was said and how far it went; `stop` is called with the steps done."""

    def __init__(self, stop: Callable[[int], None] | None = None) -> None:
        self.lines: list[str] = []
        self.jumps: list[int] = []
        self.stop = stop

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(steps: int) -> None:
            self.jumps.append(steps)
            if self.stop is not None:
                self.stop(sum(self.jumps))

        yield advance

    def say(self, message: str) -> None:
        self.lines.append(message)


def make_network(n_out: int = 3, *, dropout: float = 0.0) -> Network:
    torch.manual_seed(1)
    backbone = Tiny(dropout=dropout)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    network = build_network(backbone, n_out=n_out)
    network.cut = CUT
    return network


def make_input(task: str = "classification", *, views: int = VIEWS, **options: Any) -> TopInput:
    """Maps in which the class brightens its own channels."""
    rng = np.random.default_rng(0)
    labels = rng.choice(3, size=N, p=(0.6, 0.3, 0.1))
    rows = rng.normal(0, 1, (N, 1 + views, 16, 16, 8)).astype(np.float16)
    for row, label in enumerate(labels):
        rows[row, ..., label * 2 : label * 2 + 2] += 1
    targets: Any = {
        "classification": labels.astype(np.int64),
        "multilabel": np.stack([labels == 0, labels == 1, labels < 2], axis=1).astype(np.float32),
        "regression": np.stack([labels * 2.0, rng.normal(0, 1, N), np.full(N, 7.0)], axis=1).astype(np.float32),
    }[task]
    given = {"names": [f"picture-{row:02}.jpg" for row in range(N)], "rows": np.arange(N), **options}
    return TopInput(activations=Activations(rows=rows, cut=CUT), targets=targets, task=task, **given)  # type: ignore[arg-type]


def fit(given: TopInput | None = None, **options: Any) -> Network:
    given = make_input() if given is None else given
    config = options.pop("config", CONFIG)
    progress = options.pop("progress", SilentProgress())
    network = options.pop("network", None) or make_network()
    run = TopRun(keep_every_s=0, **options) if options else None
    return fit_top(network, given, config=config, progress=progress, run=run)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def same(first: nn.Module, second: nn.Module) -> bool:
    mine, theirs = weights_of(first), weights_of(second)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Maps of 16 x 16 are not worth two: waiting for one another takes ten times the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Break(BaseException):
    """As sudden as Ctrl-C."""


def break_at(step: int) -> Recorded:
    def stop(done: int) -> None:
        if done == step:
            raise Break

    return Recorded(stop)


# a new process


def run_script(folder: Path, scene: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, __file__, str(folder), scene],
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def script(folder: Path, scene: str) -> None:
    def kill(done: int) -> None:
        if done == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)

    progress = Recorded(kill if scene == "killed" else None)
    trained = fit(progress=progress, checkpoint=folder / "fit.safetensors", key="mine")
    write_tree(folder / "weights.safetensors", weights_of(trained))


def test_the_same_seed_gives_the_same_weights_in_another_process(tmp_path: Path) -> None:
    done = run_script(tmp_path, "whole")
    assert done.returncode == 0, done.stderr
    theirs, mine = read_tree(tmp_path / "weights.safetensors"), weights_of(fit())
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert not same(fit(), fit(config=replace(CONFIG, seed=1)))


def test_a_killed_training_goes_on_to_the_weights_of_the_unbroken_one(tmp_path: Path) -> None:
    done = run_script(tmp_path, "killed")
    assert done.returncode == -signal.SIGKILL, done.stderr
    progress = Recorded()
    resumed = fit(progress=progress, checkpoint=tmp_path / "fit.safetensors", key="mine", resume=True)
    assert progress.lines == [f"Training the top: resumed after {KILLED_AT - 1} of {STEPS} steps."]
    assert progress.jumps == [KILLED_AT - 1] + [1] * (STEPS - KILLED_AT + 1)
    assert same(resumed, fit())


# breaks


@pytest.mark.parametrize("step", [1, 5, 6, STEPS])
@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_wherever_it_breaks_off(tmp_path: Path, task: str, step: int) -> None:
    given, place = make_input(task), {"checkpoint": tmp_path / "a", "key": "k"}
    with pytest.raises(Break):
        fit(given, progress=break_at(step), **place)
    assert same(fit(given, resume=True, **place), fit(given))


def test_what_a_backbone_drops_out_is_the_same_after_a_break(tmp_path: Path) -> None:
    place = {"checkpoint": tmp_path / "a", "key": "k"}
    with pytest.raises(Break):
        fit(network=make_network(dropout=0.5), progress=break_at(7), **place)
    resumed = fit(network=make_network(dropout=0.5), resume=True, **place)
    unbroken = fit(network=make_network(dropout=0.5))
    assert same(resumed, unbroken)
    assert not torch.equal(unbroken.head.linear.weight, fit().head.linear.weight)  # it did drop something out


def test_without_resume_it_begins_anew(tmp_path: Path) -> None:
    place = {"checkpoint": tmp_path / "a", "key": "k"}
    with pytest.raises(Break):
        fit(progress=break_at(7), **place)
    progress = Recorded()
    assert same(fit(progress=progress, **place), fit())
    assert progress.jumps == [0] + [1] * STEPS
    assert progress.lines == []


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_finished_training_is_taken_from_the_cache(tmp_path: Path, task: str) -> None:
    given, place = make_input(task), {"checkpoint": tmp_path / "a", "key": "k"}
    first, progress = fit(given, **place), Recorded()
    assert same(fit(given, progress=progress, **place), first)
    assert progress.jumps == [STEPS]


@pytest.mark.parametrize("damage", ["other key", "cut short", "no file of ours", "other weights"])
def test_a_checkpoint_that_is_not_of_this_training_is_left_alone(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a"
    fit(checkpoint=path, key="other" if damage == "other key" else "k", config=replace(CONFIG, epochs=1))
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "no file of ours":
        path.write_bytes(b"")
    elif damage == "other weights":
        tree = read_tree(path)
        del tree["trained"]["head.linear.bias"]
        write_tree(path, tree)
    progress = Recorded()
    assert same(fit(progress=progress, checkpoint=path, key="k", resume=True), fit())
    assert progress.jumps == [0] + [1] * STEPS


def test_a_folder_that_takes_no_file_costs_the_checkpoint_and_not_the_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    progress = Recorded()
    assert same(fit(progress=progress, checkpoint=tmp_path / "file" / "a", key="k"), fit())
    (told,) = progress.lines
    assert told.startswith(f"Training the top: cannot be kept in {tmp_path / 'file'} (")


def test_when_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a"
    seen: list[bool] = []
    progress = Recorded(lambda _done: seen.append(path.exists()))
    run = TopRun(checkpoint=path, key="k", keep_every_s=3600)
    fit_top(make_network(), make_input(), config=CONFIG, progress=progress, run=run)
    assert not any(seen)
    kept = read_tree(path)
    assert (kept["is_done"], kept["step"], kept["key"]) == (True, STEPS, "k")
    assert "opt" not in kept  # of a finished training no one needs it: two thirds of the file


# what is trained


def test_what_lies_below_the_cut_stays_and_so_do_depthwise_kernels() -> None:
    network = make_network()
    before = weights_of(network)
    trained = fit(network=network)
    assert same(network, make_network())
    assert all(torch.equal(before[name], value) for name, value in weights_of(network).items())
    folded = dict(fold_batch_norm(network.backbone).named_parameters())
    stays, moves = set(), set()
    for name, value in trained.backbone.named_parameters():
        (stays if torch.equal(value, folded[name]) else moves).add(name)
    assert stays == {name for name in folded if name.startswith(("stem", "one"))} | {"two.depthwise_conv.weight"}
    assert moves == {
        *("two.expand_conv.weight", "two.expand_conv.bias", "two.depthwise_conv.bias"),
        *("two.project_conv.weight", "two.project_conv.bias", "last.1.weight", "last.1.bias"),
    }
    assert not torch.equal(trained.head.linear.weight, network.head.linear.weight)
    assert not trained.training
    assert {name for name, p in trained.named_parameters() if p.requires_grad} == {
        *(f"backbone.{name}" for name in moves),
        *("head.linear.weight", "head.linear.bias"),
    }


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_it_learns(task: str) -> None:
    given = make_input(task)
    logits = predict_top(fit(given, config=replace(CONFIG, epochs=20, lr=3e-2)), given.activations, np.arange(N))
    before = predict_top(make_network(), given.activations, np.arange(N))
    if task == "classification":
        assert (logits.argmax(1) == given.targets).mean() > 0.9 > (before.argmax(1) == given.targets).mean()
    elif task == "multilabel":
        assert ((logits > 0) == given.targets).mean() > 0.9 > ((before > 0) == given.targets).mean()
    else:
        assert np.corrcoef(logits[:, 0], given.targets[:, 0])[0, 1] > 0.9
        assert np.abs(logits[:, 2] - 7).max() < 0.5  # the same for all


@pytest.mark.parametrize(
    "changed",
    [
        {"lr": 1e-3},
        {"batch": 10},
        {"epochs": 4},
        {"weight_decay": 0.5},
        {"label_smoothing": 0.0},
        {"blend": 0.5},
        {"seed": 7},
    ],
    ids=str,
)
def test_every_option_is_heeded(changed: dict[str, Any]) -> None:
    assert not same(fit(), fit(config=replace(CONFIG, **changed)))


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_blend_lies_on_the_way_to_what_was_learned(task: str) -> None:
    quarter, half, whole = (
        weights_of(fit(make_input(task), config=replace(CONFIG, blend=blend))) for blend in (0.25, 0.5, 1.0)
    )
    for name, value in whole.items():
        torch.testing.assert_close(value - half[name], 2 * (half[name] - quarter[name]), atol=1e-5, rtol=1e-3)
    assert (whole["head.linear.weight"] - half["head.linear.weight"]).abs().max() > 1e-4


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_class_weights_are_heeded(task: str) -> None:
    rare = {"classification": [0.1, 0.1, 10.0], "multilabel": [0.1, 0.1, 10.0]}[task]
    plain, weighed = make_input(task), make_input(task, class_weights=rare)
    balanced = make_input(task, class_weights="balanced")
    fits = [fit(given) for given in (plain, weighed, balanced)]
    assert not any(same(a, b) for a, b in ((fits[0], fits[1]), (fits[0], fits[2]), (fits[1], fits[2])))
    means = [predict_top(network, plain.activations, np.arange(N))[:, 2].mean() for network in fits]
    assert means[1] > means[0]


def test_rows_left_out_are_not_learned_from() -> None:
    part = make_input(rows=np.arange(0, N, 2))
    changed = make_input(rows=np.arange(0, N, 2))
    changed.activations.rows[1::2] = 3
    changed.targets[1::2] = 0
    assert same(fit(part), fit(changed))
    assert not same(fit(part), fit())


def test_each_epoch_has_the_next_view_and_none_the_clean_one() -> None:
    def fit_without(view: int, epochs: int) -> Network:
        given = make_input()
        given.activations.rows[:, view] = 0
        return fit(given, config=replace(CONFIG, epochs=epochs))

    one, three = fit(config=replace(CONFIG, epochs=1)), fit()
    assert [same(fit_without(view, 1), one) for view in range(3)] == [True, False, True]
    assert [same(fit_without(view, 3), three) for view in range(3)] == [True, False, False]
    clean = make_input(views=0)
    assert predict_top(fit(clean), clean.activations, np.arange(N)).shape == (N, 3)  # the clean one, where it is alone


def test_the_clean_view_need_not_be_kept() -> None:
    given = make_input()
    views = Activations(rows=given.activations.rows[:, 1:], cut=CUT, has_clean=False)
    assert views.views == VIEWS
    trained = fit(replace(given, activations=views))
    assert same(trained, fit(given))
    rows = np.arange(N)
    assert np.array_equal(
        predict_top(trained, views, rows, view=2), predict_top(trained, given.activations, rows, view=2)
    )


def test_a_batch_larger_than_the_set_is_the_set() -> None:
    assert same(fit(config=replace(CONFIG, batch=1000)), fit(config=replace(CONFIG, batch=N)))


# units


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (0.001, 0.0), (1.0, 2000.0)])
def test_any_unit_trains_alike(factor: float, shift: float) -> None:
    """Symptom before: in millimetres the head hardly moved, in kilometres it ran away."""
    given = make_input("regression")
    given = replace(given, targets=given.targets[:, :2])  # a number that is the same for all has no unit
    other = replace(given, targets=(given.targets * factor + shift).astype(np.float32))
    network = make_network(2)
    with torch.no_grad():
        network.head.linear.weight.mul_(factor)
        network.head.linear.bias.mul_(factor).add_(shift)
    run, rows = TopRun(dtype=torch.float32), np.arange(N)
    fits = [
        fit_top(start, of, config=CONFIG, progress=SilentProgress(), run=run)
        for start, of in ((make_network(2), given), (network, other))
    ]
    logits = predict_top(fits[0], given.activations, rows)
    moved = np.abs(logits - predict_top(make_network(2), given.activations, rows)).max()
    assert moved > 0.1
    again = (predict_top(fits[1], given.activations, rows) - shift) / factor
    assert np.abs(again - logits).max() < 0.02 * moved


def test_whoever_watches_the_epochs_sees_units_and_changes_nothing() -> None:
    given = make_input("regression")
    seen: list[tuple[int, int, float]] = []

    def look(epoch: int, network: Network, steps: Sequence[Any]) -> None:
        values = predict_top(network, given.activations, np.arange(N))
        seen.append((epoch, len(steps), float(values[:, 2].mean())))

    watched = fit_top(make_network(), given, config=CONFIG, progress=SilentProgress(), after_epoch=look)
    assert [entry[:2] for entry in seen] == [(0, 5), (1, 5), (2, 5)]
    assert seen[-1][2] == predict_top(watched, given.activations, np.arange(N))[:, 2].mean()
    assert same(watched, fit(given))


# arithmetic


def test_without_bfloat16_it_trains_in_float32() -> None:
    given = make_input()
    by_dtype = {dtype: fit(given, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    assert not same(*by_dtype.values())
    first, second = (predict_top(network, given.activations, np.arange(N)) for network in by_dtype.values())
    assert np.abs(first - second).max() < 0.2 * np.ptp(first)
    assert {p.dtype for network in by_dtype.values() for p in network.parameters()} == {torch.float32}
    assert same(fit(given), by_dtype[choose_dtype()])


def test_the_draws_of_others_go_on_as_if_nothing_had_been() -> None:
    network, given = make_network(), make_input()
    torch.manual_seed(3)
    want = torch.rand(3)
    torch.manual_seed(3)
    fit(given, network=network)
    assert torch.equal(torch.rand(3), want)


@pytest.mark.parametrize(("n", "more"), [(8, ""), (20, " and 12 more")])
def test_a_loss_that_is_no_number_names_the_pictures(n: int, more: str, tmp_path: Path) -> None:
    given = make_input(rows=np.arange(n))
    given.activations.rows[:n] = np.nan
    named = ", ".join(f"picture-{row:02}.jpg" for row in range(8))
    with pytest.raises(InvalidInput) as caught:
        fit(given, config=replace(CONFIG, batch=n), checkpoint=tmp_path / "a", key="k")
    assert f"nan in step 1, on {named}{more};" in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_predictions_are_of_the_rows_and_the_view_asked_for() -> None:
    given, network = make_input(), make_network()
    rows = np.tile(np.arange(N)[::-1], 4)  # more than go through at once
    found = predict_top(network, given.activations, rows, view=1)
    maps = torch.from_numpy(given.activations.rows[rows, 1].astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        want = network.run_from(maps, CUT).numpy()
    np.testing.assert_allclose(found, want, atol=1e-5)
    assert not np.allclose(found, predict_top(network, given.activations, rows))
    assert predict_top(network, given.activations, rows[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epochs": 0}, "--epochs: got 0; want a whole number of at least 1"),
        ({"batch": 0}, "--batch: got 0"),
        ({"lr": 0.0}, "lr: got 0.0; want a number above 0"),
        ({"lr": float("nan")}, "lr: got nan"),
        ({"lr": float("inf")}, "lr: got inf"),
        ({"blend": 0.0}, "blend: got 0.0; want a share above 0, at most 1"),
        ({"blend": 1.1}, "blend: got 1.1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidConfig, match=told):
        TopConfig(**options)


if __name__ == "__main__":
    script(Path(sys.argv[1]), sys.argv[2])
