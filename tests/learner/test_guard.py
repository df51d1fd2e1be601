"""Too little memory, and a loss that is no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from drivetrain.errors import DrivetrainError, InvalidInput, Unavailable
from drivetrain.learn.callbacks import Callback
from drivetrain.learn.checkpoint import CheckpointConfig
from drivetrain.learn.guard import GoodWeights, LossNotFinite, MemoryGuard
from drivetrain.learn.learner import vision_learner

from .conftest import MakeLearner
from .makers import TinyBackbone, Told, make_dls, make_learner, same_weights, tiny_backbone, weights_of


class SmallMemory(TinyBackbone):
    """Holds `room` pictures at a time."""

    room = 3
    most = 0
    error: type[RuntimeError] = torch.OutOfMemoryError

    def run(self, x: Tensor, *, start: int = 0, stop: int | None = None) -> Tensor:
        if len(x) > self.room:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        self.most = max(self.most, len(x))
        return super().run(x, start=start, stop=stop)


def small_memory(room: int) -> SmallMemory:
    backbone = SmallMemory()
    backbone.load_state_dict(tiny_backbone().state_dict())
    backbone.room = 1
    assert backbone.layout.head_taps == 1  # found by one picture, once
    backbone.room = room
    return backbone.eval()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_a_batch_too_large_is_halved_and_learnt_from_all_the_same(
    shapes: Path, tmp_path: Path, error: type[RuntimeError]
) -> None:
    backbone = small_memory(2)
    backbone.error = error
    dls = make_dls(shapes, bs=9)
    learn = vision_learner(dls, backbone, path=tmp_path / "a", progress=Told(), checkpoint=CheckpointConfig())
    learn.fit(2, 0.01)
    assert (learn.memory.at_once, backbone.most) == (2, 2)
    whole = make_learner(shapes, tmp_path / "b", bs=9)
    whole.fit(2, 0.01)
    assert len(learn.recorder.raw_losses) == len(whole.recorder.raw_losses) == 6
    for name, value in weights_of(whole).items():
        assert torch.allclose(weights_of(learn)[name], value, atol=1e-5), name
    told = [line for line in learn.progress.lines if "Out of memory" in line]
    assert "on cpu with 9 pictures at once: going on with 5. A step still learns from all" in told[0]
    assert "with 5 pictures at once: going on with 3." in told[1]
    assert learn.training_record()["pictures_at_once"] == 2
    resumed = vision_learner(make_dls(shapes, bs=9), small_memory(2), path=tmp_path / "a", progress=Told())
    resumed.fit(2, 0.01, resume=True)
    assert resumed.memory.at_once == 2


def test_answers_come_in_parts_too(shapes: Path, tmp_path: Path) -> None:
    learn = vision_learner(make_dls(shapes, bs=9), small_memory(2), path=tmp_path, progress=Told())
    preds = learn.get_preds()[0]
    assert torch.allclose(preds, make_learner(shapes, tmp_path, bs=9).get_preds()[0], atol=1e-6)
    assert learn.memory.at_once is None  # training may have room for more
    assert "The answers stay what they are." in learn.progress.lines[0]


def test_one_picture_too_large_is_told(shapes: Path, tmp_path: Path) -> None:
    learn = vision_learner(make_dls(shapes), small_memory(0), path=tmp_path, progress=Told())
    with pytest.raises(Unavailable, match="memory on cpu: got too little for one picture"):
        learn.fit(1)


def test_one_of_several_processes_ends_where_memory_does() -> None:
    def fail(at_once: int) -> None:
        raise torch.OutOfMemoryError

    told: list[str] = []
    guard = MemoryGuard(told.append, comfort="", is_alone=False)
    with pytest.raises(Unavailable, match="got too little for 8 pictures; want room for them in each of several"):
        guard.run(fail, 8, torch.device("cpu"))
    assert told == []


def test_another_error_is_not_taken_for_lack_of_memory() -> None:
    def fail(at_once: int) -> None:
        raise RuntimeError("shapes do not match")

    guard = MemoryGuard(lambda message: None, comfort="")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        guard.run(fail, 8, torch.device("cpu"))
    assert guard.at_once is None


class Poison(Callback):
    """Makes one picture no number."""

    def __init__(self, step: int, row: int) -> None:
        self.at, self.row = step, row

    def before_batch(self, learn: Any) -> None:
        if learn.training and learn.step == self.at:
            learn.xb[self.row] = float("nan")


def test_a_loss_that_is_no_number_names_the_files_and_gives_good_weights_back(learner: MakeLearner) -> None:
    learn = learner(cbs=Poison(8, 2))
    good: list[dict[str, Tensor]] = []

    class Keep(Callback):
        def after_epoch(self, learn: Any) -> None:
            good.append(weights_of(learn))

    with pytest.raises(LossNotFinite, match=r"the loss at batch 3 of epoch 1: got nan from 4 pictures") as caught:
        learn.fit(3, 0.01, cbs=Keep)
    error = caught.value
    assert isinstance(error, DrivetrainError | InvalidInput)
    assert list(error.files) == learn.dls.train.names_of(1, 2)
    assert error.culprits == (error.files[2],)
    assert all(file in error.message for file in error.files)
    assert f"1 of them give no finite loss either: {error.files[2]}" in error.message
    assert "The model has the weights from the end of epoch 0 again." in error.message
    assert same_weights(weights_of(learn), good[-1])
    assert learn.opt is None
    learn.cbs.clear()
    learn.fit(1, 0.01)  # and can be trained again
    assert np.isfinite(learn.recorder.values[-1]).all()


def test_steps_too_large_are_told_as_such(learner: MakeLearner) -> None:
    learn = learner(target="value", opt_func=torch.optim.SGD)
    before = weights_of(learn)
    with pytest.raises(LossNotFinite, match="the steps were too large: take a lower learning rate") as caught:
        learn.fit(3, 1e12)
    assert caught.value.culprits == ()
    assert "the weights from before this fit" in caught.value.message
    after = weights_of(learn)
    assert all(torch.allclose(before[name].float(), after[name].float()) for name in before)


def test_a_held_out_loss_that_is_no_number_stops_too(learner: MakeLearner) -> None:
    class Late(Callback):
        def before_batch(self, learn: Any) -> None:
            if not learn.training:
                learn.xb = learn.xb * float("inf")

    learn = learner(cbs=Late)
    before = weights_of(learn)
    with pytest.raises(LossNotFinite, match="epoch 0, on the held-out pictures"):
        learn.fit(1, 0.01)
    assert same_weights(weights_of(learn), before)


def test_good_weights_are_a_copy(learner: MakeLearner) -> None:
    learn = learner(train_bn=True)
    learn.freeze()
    before = weights_of(learn)
    good = GoodWeights(learn.model, kept="now")
    learn.fit(1, 0.1)
    assert not same_weights(weights_of(learn), before)
    good.give_back(learn.model)
    assert same_weights(weights_of(learn), before)


def test_many_files_are_cut_in_the_message_not_in_the_error() -> None:
    files = [f"{number}.jpg" for number in range(300)]
    error = LossNotFinite(float("inf"), at="here", files=files, culprits=[], kept="the weights")
    assert len(error.files) == 300
    assert "199.jpg and 100 more" in error.message
