"""A training that is broken off anywhere goes on to the same weights, to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain.errors import Conflict, InvalidInput
from drivetrain.learn.callbacks import Callback, EarlyStoppingCallback, SaveModelCallback
from drivetrain.learn.checkpoint import CheckpointConfig, read_tree, write_tree
from drivetrain.learn.learner import Learner
from drivetrain.learn.metrics import accuracy

from . import killed
from .conftest import MakeLearner
from .makers import make_learner, same_weights, weights_of

EACH_BATCH = CheckpointConfig(every_batches=1, every_s=3600)


class Break(BaseException):
    """As sudden as Ctrl-C."""


class BreakAt(Callback):
    """Breaks off at one moment of one step, counted over all fits."""

    order = 99

    def __init__(self, event: str, count: int) -> None:
        self.event, self.left = event, count

    def _pass(self, event: str) -> None:
        if event == self.event:
            self.left -= 1
            if self.left < 0:
                raise Break

    def before_batch(self, learn: Any) -> None:
        self._pass("before_batch" if learn.training else "before_check")

    def after_batch(self, learn: Any) -> None:
        self._pass("after_batch" if learn.training else "after_check")

    def after_epoch(self, learn: Any) -> None:
        self._pass("after_epoch")

    def after_fit(self, learn: Any) -> None:
        self._pass("after_fit")


def break_off(learn: Learner, event: str, count: int, train: Any) -> None:
    learn.cbs.append(BreakAt(event, count))
    with pytest.raises(Break):
        train(learn)


def test_a_killed_process_is_gone_on_with_to_the_same_weights(shapes: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.learner.killed", str(shapes), str(tmp_path / "broken")],
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = killed.make(shapes, tmp_path / "broken")
    resumed.fine_tune(3, base_lr=0.01, resume=True)
    assert resumed.progress.lines[:2] == [
        "Fit 1 was finished before the break: skipped.",
        "Resumed in epoch 1 after 2 of 6 batches.",
    ]
    unbroken = killed.make(shapes, tmp_path / "unbroken")
    unbroken.fine_tune(3, base_lr=0.01)
    assert same_weights(weights_of(resumed), weights_of(unbroken))
    assert resumed.recorder.as_json() == unbroken.recorder.as_json()
    assert resumed.training_record() == unbroken.training_record()


def of_two_epochs(shapes: Path, folder: Path) -> Learner:
    return make_learner(shapes, folder, dropout=0.3, checkpoint=EACH_BATCH, metrics=accuracy)


def train_two_epochs(learn: Learner) -> None:
    learn.fine_tune(2, base_lr=0.01, resume=True)


@pytest.fixture(scope="module")
def unbroken(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    learn = of_two_epochs(shapes, tmp_path_factory.mktemp("unbroken"))
    train_two_epochs(learn)
    return learn


@pytest.mark.parametrize(
    ("event", "count"),
    [
        ("before_batch", 0),  # nothing kept yet
        ("before_batch", 4),  # the first fit, in mid-epoch
        ("before_check", 1),  # while validating
        ("after_epoch", 0),  # validated, not kept
        ("after_fit", 0),  # the first fit, all but kept
        ("before_batch", 6),  # the second fit, nothing of it kept
        ("after_batch", 14),
        ("after_fit", 1),
    ],
)
def test_wherever_it_breaks_off(shapes: Path, tmp_path: Path, unbroken: Learner, event: str, count: int) -> None:
    break_off(of_two_epochs(shapes, tmp_path), event, count, train_two_epochs)
    resumed = of_two_epochs(shapes, tmp_path)
    train_two_epochs(resumed)
    assert same_weights(weights_of(resumed), weights_of(unbroken))
    assert resumed.recorder.as_json() == unbroken.recorder.as_json()


def test_values_in_units_are_resumed_alike(shapes: Path, tmp_path: Path) -> None:
    def make(name: str) -> Learner:
        return make_learner(shapes, tmp_path / name, target="value", checkpoint=EACH_BATCH)

    def train(learn: Learner) -> None:
        learn.fit_one_cycle(2, 0.01, resume=True)

    break_off(make("broken"), "before_batch", 8, train)
    resumed, unbroken = make("broken"), make("unbroken")
    train(resumed)
    train(unbroken)
    assert same_weights(weights_of(resumed), weights_of(unbroken))


def test_scaled_losses_are_resumed_alike(shapes: Path, tmp_path: Path) -> None:
    def make(name: str) -> Learner:
        return make_learner(shapes, tmp_path / name, checkpoint=EACH_BATCH).to_fp16()

    def train(learn: Learner) -> None:
        learn.fit(1, 0.01, resume=True)

    break_off(make("broken"), "before_batch", 3, train)
    resumed, unbroken = make("broken"), make("unbroken")
    train(resumed)
    train(unbroken)
    assert same_weights(weights_of(resumed), weights_of(unbroken))
    assert resumed.precision.state_dict() == unbroken.precision.state_dict() != {}


def test_callbacks_go_on_as_they_were(shapes: Path, tmp_path: Path) -> None:
    def make(name: str) -> Learner:
        cbs = [SaveModelCallback(), EarlyStoppingCallback(patience=2)]
        return make_learner(shapes, tmp_path / name, checkpoint=EACH_BATCH, cbs=cbs)

    def train(learn: Learner) -> None:
        learn.fit(6, 0.5, resume=True)  # too high: it gets no better, is stopped, and the best is loaded

    break_off(make("broken"), "before_batch", 9, train)
    resumed, unbroken = make("broken"), make("unbroken")
    train(resumed)
    train(unbroken)
    assert len(unbroken.recorder.values) < 6
    assert resumed.recorder.values == unbroken.recorder.values
    assert same_weights(weights_of(resumed), weights_of(unbroken))


def test_unreadable_pictures_do_not_shift_what_comes_after_a_break(picture_folder: Any, tmp_path: Path) -> None:
    folder = picture_folder(per_class=12, size=(32, 24), root=tmp_path / "pictures")
    for name in ("circle/circle-001.png", "square/square-002.png", "stripes/stripes-003.png"):
        (folder / name).write_bytes(b"no picture")

    def make(name: str) -> Learner:
        return make_learner(folder, tmp_path / name, checkpoint=EACH_BATCH)

    def train(learn: Learner) -> None:
        learn.fit(2, 0.01, resume=True)

    with pytest.warns(UserWarning, match="left out"):
        break_off(make("broken"), "before_batch", 5, train)
    resumed, unbroken = make("broken"), make("unbroken")
    with pytest.warns(UserWarning, match="left out"):
        train(unbroken)
    train(resumed)
    assert same_weights(weights_of(resumed), weights_of(unbroken))


def test_the_same_process_goes_on_after_ctrl_c(shapes: Path, tmp_path: Path) -> None:
    learn = make_learner(shapes, tmp_path / "a", checkpoint=EACH_BATCH)
    break_off(learn, "before_batch", 8, lambda learn: learn.fit(2, 0.01))
    learn.cbs.clear()
    learn.fit(2, 0.01, resume=True)
    unbroken = make_learner(shapes, tmp_path / "b")
    unbroken.fit(2, 0.01)
    assert same_weights(weights_of(learn), weights_of(unbroken))
    assert learn.training_record()["fits"] == unbroken.training_record()["fits"]


def test_what_was_finished_is_loaded_not_done_again(learner: MakeLearner) -> None:
    first = learner(checkpoint=CheckpointConfig())
    first.fit(2, 0.01, resume=True)
    second = learner(checkpoint=CheckpointConfig())
    second.fit(2, 0.01, resume=True)
    assert "finished before" in second.progress.lines[0]
    assert second.progress.steps == 0
    assert same_weights(weights_of(first), weights_of(second))
    second.fit(1, 0.01, resume=True)  # one more, which was not begun yet
    first.fit(1, 0.01)
    assert same_weights(weights_of(first), weights_of(second))


def test_without_resume_it_begins_anew(learner: MakeLearner) -> None:
    learn = learner(checkpoint=EACH_BATCH)
    break_off(learn, "before_batch", 8, lambda learn: learn.fit(2, 0.01))
    anew = learner(checkpoint=CheckpointConfig(every_s=3600))
    anew.fit(2, 0.01)
    assert len(anew.recorder.raw_losses) == 12
    assert "Resumed" not in "".join(anew.progress.lines)


def test_another_training_is_not_gone_on_with(learner: MakeLearner, shapes: Path, tmp_path: Path) -> None:
    learner(checkpoint=EACH_BATCH).fit(1, 0.01)
    with pytest.raises(Conflict, match=r"epochs 1 then, 2 now.*resume=False"):
        learner(checkpoint=EACH_BATCH).fit(2, 0.01, resume=True)
    with pytest.raises(Conflict, match=r"seed 42 then, 1 now"):
        learner(checkpoint=EACH_BATCH, seed=1).fit(1, 0.01, resume=True)
    with pytest.raises(Conflict, match=r"batch_size 4 then, 5 now"):
        learner(checkpoint=EACH_BATCH, bs=5).fit(1, 0.01, resume=True)
    with pytest.raises(Conflict, match="a Learner that keeps checkpoints"):
        learner(checkpoint=None).fit(1, 0.01, resume=True)
    with pytest.raises(Conflict, match="cbs: got SaveModelCallback; want as when it was kept: none"):
        learner(checkpoint=EACH_BATCH).fit(1, 0.01, resume=True, cbs=SaveModelCallback())


def test_a_skipped_fit_must_be_followed_by_a_resumed_one(learner: MakeLearner) -> None:
    broken = learner(checkpoint=EACH_BATCH)
    break_off(broken, "after_batch", 8, lambda learn: learn.fine_tune(1, base_lr=0.01))
    learn = learner(checkpoint=EACH_BATCH)
    learn.freeze()
    learn.fit_one_cycle(1, slice(0.01), pct_start=0.99, resume=True)
    assert learn.recorder.raw_losses == []
    with pytest.raises(Conflict, match="resume=True in each fit"):
        learn.fit(1)


def test_a_file_that_is_no_checkpoint(learner: MakeLearner) -> None:
    learn = learner(checkpoint=CheckpointConfig())
    path = learn.file_of("last")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"damaged")
    with pytest.raises(InvalidInput, match=r"last\.safetensors: got a file that cannot be read"):
        learn.fit(1, resume=True)
    write_tree(path, {"what": "running training", "version": 99})
    with pytest.raises(InvalidInput, match="of another kind or version"):
        learn.fit(1, resume=True)


def test_when_it_is_kept(learner: MakeLearner) -> None:
    moments: list[tuple[int, int]] = []

    class Look(Callback):
        def before_batch(self, learn: Any) -> None:
            if learn.file_of("mine").exists():
                position = read_tree(learn.file_of("mine"))["position"]
                moments.append((position["epoch"], position["batch"]))

    learner(checkpoint=CheckpointConfig(name="mine", every_s=float("inf")), cbs=Look).fit(2)
    assert set(moments) == {(1, 0)}
    moments.clear()
    learner(out=Path(learner().path, "b"), checkpoint=CheckpointConfig(name="mine", every_s=0), cbs=Look).fit(1)
    assert set(moments) == {(0, batch) for batch in range(1, 7)}
    moments.clear()
    none = learner(out=Path(learner().path, "c"), checkpoint=None)
    none.fit(1)
    assert not (none.path / "models").exists()
