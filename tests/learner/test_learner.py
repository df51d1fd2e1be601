from __future__ import annotations

import math
import random
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.data.getters import get_image_files
from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, NotFound
from drivetrain.learn.augment import Normalize
from drivetrain.learn.callbacks import Callback, StopFit
from drivetrain.learn.checkpoint import CheckpointConfig
from drivetrain.learn.learner import Learner, vision_learner
from drivetrain.learn.losses import Huber
from drivetrain.learn.metrics import accuracy, error_rate, mae
from drivetrain.learn.network import build_network

from .conftest import MakeLearner
from .makers import Told, make_dls, make_learner, same_weights, tiny_backbone, weights_of


def rates(learn: Learner) -> list[float]:
    assert learn.opt is not None
    return [group["lr"] for group in learn.opt.param_groups]


class Watch(Callback):
    """Notes what a callback finds at each moment."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.seen: list[Any] = []

    def before_fit(self, learn: Any) -> None:
        self.events.append("before_fit")

    def before_epoch(self, learn: Any) -> None:
        self.events.append("before_epoch")

    def before_batch(self, learn: Any) -> None:
        self.events.append("before_batch" if learn.training else "before_check")

    def after_batch(self, learn: Any) -> None:
        self.events.append("after_batch" if learn.training else "after_check")
        assert learn.xb.shape[0] == learn.yb.shape[0] == learn.pred.shape[0]
        if learn.training:
            self.seen.append((learn.epoch, learn.step, learn.n_step, learn.loss, rates(learn)))

    def after_epoch(self, learn: Any) -> None:
        self.events.append(f"after_epoch {len(learn.recorder.values)}")

    def after_fit(self, learn: Any) -> None:
        self.events.append("after_fit")


# training


def test_it_learns_the_shapes(learner: MakeLearner) -> None:
    learn = learner(metrics=[accuracy, error_rate])
    before = learn.validate()
    learn.fit_one_cycle(8, 0.02)
    loss, right, wrong = learn.validate()
    assert learn.recorder.metric_names == ("train_loss", "valid_loss", "accuracy", "error_rate")
    assert learn.recorder.values[-1][1:] == [loss, right, wrong]
    assert loss < before[0] / 2
    assert right == 1 - wrong
    assert right >= 0.8
    assert learn.recorder.values[-1][0] < learn.recorder.values[0][0] / 2


def test_the_same_seed_gives_the_same_weights_whatever_happens_between(learner: MakeLearner) -> None:
    first = learner(dropout=0.3)
    first.fit_one_cycle(2)
    torch.manual_seed(99)
    second = learner(dropout=0.3)
    list(second.dls.train)  # a look at the data
    torch.rand(5)
    second.fit_one_cycle(2)
    assert same_weights(weights_of(first), weights_of(second))
    other = learner(dropout=0.3, seed=7)
    other.fit_one_cycle(2)
    assert not same_weights(weights_of(first), weights_of(other))


def test_a_training_leaves_the_generators_as_they_were(learner: MakeLearner) -> None:
    learn = learner(dropout=0.3)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    learn.fit(1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


def test_callbacks_draw_the_same_from_any_generator(learner: MakeLearner) -> None:
    class Draw(Callback):
        def __init__(self) -> None:
            self.drawn: list[Any] = []

        def before_batch(self, learn: Any) -> None:
            self.drawn.append((float(torch.rand(1)), random.random(), np.random.rand()))  # noqa: NPY002

    first, second = Draw(), Draw()
    learner(cbs=first).fit(1)
    torch.rand(1)
    learner(cbs=second).fit(1)
    assert first.drawn == second.drawn
    assert len(set(first.drawn[:6])) == 6


def test_another_epoch_draws_otherwise(learner: MakeLearner) -> None:
    class Pictures(Callback):
        def __init__(self) -> None:
            self.batches: list[torch.Tensor] = []

        def before_batch(self, learn: Any) -> None:
            if learn.training:
                self.batches.append(learn.xb.clone())

    watch = Pictures()
    learn = learner(cbs=watch)
    learn.fit(1, 1e-3)
    learn.fit(1, 1e-3)
    assert learn.epochs_seen == 2
    assert len(watch.batches) == 12
    assert not any(torch.equal(a, b) for a in watch.batches[:6] for b in watch.batches[6:])


def test_callbacks_are_told_in_order(learner: MakeLearner) -> None:
    watch = Watch()
    learner(cbs=watch).fit(1, 1e-3)
    batch, check = ["before_batch", "after_batch"], ["before_check", "after_check"]
    assert watch.events == ["before_fit", "before_epoch", *batch * 6, *check * 3, "after_epoch 1", "after_fit"]
    assert [(epoch, step, n_step) for epoch, step, n_step, *_ in watch.seen] == [(0, at, 6) for at in range(6)]
    assert all(math.isfinite(loss) for *_, loss, _ in watch.seen)


def test_callbacks_run_by_order_those_of_the_fit_too(learner: MakeLearner) -> None:
    told: list[str] = []

    class Late(Callback):
        order = 10

        def before_epoch(self, learn: Any) -> None:
            told.append("late")

    class Early(Callback):
        order = -10

        def before_epoch(self, learn: Any) -> None:
            told.append("early")

    learn = learner(cbs=Late)
    learn.fit(1, cbs=Early())
    learn.fit(1)
    assert told == ["early", "late", "late"]
    with pytest.raises(InvalidConfig, match="cbs: got 3; want callbacks"):
        learn.fit(1, cbs=3)  # type: ignore[arg-type]


def test_stop_fit_ends_after_the_epoch_and_the_others_hear_of_it(learner: MakeLearner) -> None:
    class Stop(Callback):
        order = -1

        def after_batch(self, learn: Any) -> None:
            if learn.training and learn.step == 7:
                raise StopFit("enough")

    watch = Watch()
    learn = learner(cbs=[Stop, watch])
    learn.fit(5, 1e-3)
    assert len(learn.recorder.values) == 2
    assert watch.events.count("after_batch") == 12
    assert watch.events[-1] == "after_fit"
    assert "Stop ends the training: enough." in learn.progress.lines


def test_rates_follow_the_cycle_and_momentum_runs_the_other_way(learner: MakeLearner) -> None:
    learn = learner()
    learn.fit_one_cycle(2, 0.01, div=10, div_final=100, pct_start=0.5, moms=(0.9, 0.8, 0.95))
    lrs, moms = learn.recorder.lrs, learn.recorder.moms
    assert lrs[0] == pytest.approx(0.001)
    assert max(lrs) == lrs[6] == pytest.approx(0.01)
    assert lrs[-1] < 0.001
    assert moms[0] == pytest.approx(0.9)
    assert moms[6] == pytest.approx(0.8)
    assert 0.9 < moms[-1] < 0.95


def test_fit_keeps_its_rate_and_what_a_callback_makes_of_it(learner: MakeLearner) -> None:
    class Halve(Callback):
        def after_epoch(self, learn: Any) -> None:
            for group in learn.opt.param_groups:
                group["lr"] /= 2

    learn = learner(lr=0.004)
    learn.fit(2, cbs=Halve)
    assert learn.recorder.lrs == [0.004] * 6 + [0.002] * 6
    learn.fit(1, 0.001)
    assert learn.recorder.lrs[12:] == [0.001] * 6


def test_slices_give_each_group_its_rate(learner: MakeLearner) -> None:
    learn = learner()
    learn.fit(1, slice(1e-4, 1e-1))
    assert sorted(set(rates(learn))) == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1])
    learn.fit(1, slice(0.01))
    assert sorted(set(rates(learn))) == pytest.approx([0.001, 0.01])


def test_decay_is_the_fits_or_the_learners(learner: MakeLearner) -> None:
    learn = learner(wd=0.3)
    learn.fit(1)
    assert learn.opt is not None
    assert {group["weight_decay"] for group in learn.opt.param_groups} == {0.3, 0.0}
    learn.fit(1, wd=0.0)
    assert {group["weight_decay"] for group in learn.opt.param_groups} == {0.0}
    learn.fit(1, wd=0.1)
    assert {group["weight_decay"] for group in learn.opt.param_groups} == {0.1, 0.0}
    with pytest.raises(InvalidConfig, match="wd"):
        learn.fit(1, wd=-1)


def test_another_optimiser(learner: MakeLearner) -> None:
    learn = learner(opt_func=partial(torch.optim.SGD, momentum=0.5), lr=0.05)
    before = learn.validate()[0]
    learn.fit_one_cycle(3)
    assert isinstance(learn.opt, torch.optim.SGD)
    assert learn.recorder.moms[0] == pytest.approx(0.95)
    assert learn.validate()[0] < before
    opt = learn.opt
    learn.fit(1)
    assert learn.opt is opt
    learn.fit(1, reset_opt=True)
    assert learn.opt is not opt


def test_frozen_groups_stay_and_batch_norms_keep_their_statistics(learner: MakeLearner) -> None:
    learn = learner()
    before = weights_of(learn)
    learn.freeze()
    learn.fit(1, 0.01)
    after = weights_of(learn)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.linear.weight", "head.linear.bias"}
    learn.freeze_to(2)
    learn.fit(1, 0.01)
    changed = {name.split(".")[2] for name, value in weights_of(learn).items() if not torch.equal(value, after[name])}
    assert changed == {"2", "weight", "bias"}
    learn.unfreeze()
    learn.fit(1, 0.01)
    still = [name for name, value in weights_of(learn).items() if torch.equal(value, before[name])]
    assert still
    assert all("running" in name or "num_batches" in name for name in still)
    with pytest.raises(InvalidConfig, match="freeze_to: got 4; want -4 to 3"):
        learn.freeze_to(4)


def test_batch_norms_learn_where_they_are_asked_to(learner: MakeLearner) -> None:
    learn = learner(train_bn=True)
    before = weights_of(learn)["backbone.parts.0.1.running_mean"]
    learn.fit(1)
    assert not torch.equal(before, weights_of(learn)["backbone.parts.0.1.running_mean"])


def test_fine_tune_freezes_then_trains_all_at_lower_rates(learner: MakeLearner) -> None:
    watch = Watch()
    learn = learner(cbs=watch)
    learn.fine_tune(2, base_lr=0.01, freeze_epochs=1, lr_mult=10, wd=0.2)
    first, second = learn.fits
    assert (first["frozen_groups"], first["epochs"], first["pct_start"]) == (3, 1, 0.99)
    assert first["lrs"] == pytest.approx([0.001, 0.001, 0.001, 0.01])
    assert (second["frozen_groups"], second["epochs"], second["pct_start"], second["div"]) == (0, 2, 0.3, 5.0)
    assert second["lrs"] == pytest.approx([0.0005, 0.0005 * 10 ** (1 / 3), 0.0005 * 10 ** (2 / 3), 0.005])
    assert first["wd"] == second["wd"] == 0.2
    assert len(learn.recorder.values) == 3
    assert watch.events.count("before_fit") == 2
    only = learner()
    only.fine_tune(1, freeze_epochs=0)
    assert len(only.fits) == 1


@pytest.mark.parametrize("n_epoch", [0, -1, 1.5, True])
def test_a_count_of_epochs_that_is_none(learner: MakeLearner, n_epoch: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"fit\(n_epoch\)"):
        learner().fit(n_epoch)


def test_loaders_without_a_batch_are_refused(shapes: Path, tmp_path: Path) -> None:
    learn = make_learner(shapes, tmp_path, bs=27)
    learn.dls.train.left_out |= dict.fromkeys(range(3), "broken")
    with pytest.raises(InvalidInput, match="no whole batch of 27"):
        learn.fit(1)


@pytest.mark.parametrize("target", ["labels", "value"])
def test_other_tasks_learn_too(learner: MakeLearner, target: str) -> None:
    metrics = {"labels": [], "value": [mae]}[target]
    learn = learner(target=target, metrics=metrics)
    before = learn.validate()[0]
    learn.fit_one_cycle(8, 0.02)
    assert learn.validate()[0] < before / 3
    if target == "value":
        assert learn.validate()[1] < 700  # of values 1,000 to 5,000
    assert learn.training_record()["standardise"] == (target == "value")


def test_any_units_train_alike(learner: MakeLearner) -> None:
    """Symptom before: values around a million stayed unlearned at rates that suit weights around 1."""
    places = {"circle": 0.0, "square": 1.0, "stripes": 2.0}

    def losses(low: float, step: float) -> list[float]:
        learn = learner(target="value", block={"get_y": lambda path: low + step * places[path.parent.name]})
        learn.fit_one_cycle(3, 0.02)
        return learn.recorder.raw_losses

    plain = losses(0.0, 1.0)
    assert plain[-1] < plain[0] / 2
    assert losses(0.0, 1e-4) == pytest.approx(plain, rel=0.02)
    assert losses(1e5, 1e3) == pytest.approx(plain, rel=0.02)


def test_values_are_told_in_units_to_callbacks_and_kept_in_units(learner: MakeLearner) -> None:
    told: list[float] = []

    class Units(Callback):
        def after_batch(self, learn: Any) -> None:
            told.append(float(learn.pred.mean()))

        def after_epoch(self, learn: Any) -> None:
            learn.save("within")

    learn = learner(target="value", cbs=Units)
    learn.fit(1, 1e-6)
    assert all(1000 < value < 5000 for value in told)  # random weights, but around the mean
    other = learner(target="value")
    other.load("within")
    assert torch.allclose(other.get_preds()[0], learn.get_preds()[0])


def test_standardising_can_be_left_out(learner: MakeLearner) -> None:
    learn = learner(target="value", standardise=False, loss_func=Huber(delta=2.0))
    learn.fit(1, 1e-3)
    assert learn.validate()[0] > 1000  # in units, far from where it began
    assert learner(target="value", loss_func=Huber(delta=2.0)).validate()[0] < 10


def test_channels_last_is_where_the_pictures_and_weights_are(learner: MakeLearner) -> None:
    layouts: list[bool] = []

    class Layout(Callback):
        def before_batch(self, learn: Any) -> None:
            layouts.append(learn.xb.is_contiguous(memory_format=torch.channels_last))

    learner(cbs=Layout).fit(1)
    n = len(layouts)
    learner(cbs=Layout, channels_last=False).fit(1)
    assert all(layouts[:6])
    assert not any(layouts[n:])


# what is shown


def test_the_table_and_the_bar(learner: MakeLearner) -> None:
    learn = learner(metrics=error_rate)
    learn.fit_one_cycle(2)
    told = learn.progress
    assert isinstance(told, Told)
    assert told.lines[0].split() == ["epoch", "train_loss", "valid_loss", "error_rate", "time"]
    rows = [line.split() for line in told.lines[1:]]
    assert [row[0] for row in rows] == ["0", "1"]
    assert [float(cell) for cell in rows[1][1:4]] == pytest.approx(learn.recorder.values[1], abs=1e-6)
    assert re.fullmatch(r"\d\d:\d\d", rows[0][4])
    assert told.tasks == [("fit_one_cycle, 2 epochs", 18)]
    assert told.steps == 18


def test_what_is_shown_can_be_left_out(learner: MakeLearner) -> None:
    learn = learner()
    with learn.no_bar():
        learn.fit(1)
    assert learn.progress.lines == learn.progress.tasks == []
    with learn.no_logging():
        learn.fit(1)
    assert learn.progress.lines == []
    assert len(learn.progress.tasks) == 1
    learn.fit(1)
    assert len(learn.progress.lines) == 2


def test_summary_lists_the_parts(learner: MakeLearner) -> None:
    learn = learner()
    learn.freeze()
    told = learn.summary()
    assert repr(told) == told
    lines = [line.split() for line in told.splitlines()]
    assert ["backbone.parts.2.0", "Conv2d", "1", "x", "16", "x", "3", "x", "3", "1,728", "no"] in lines
    assert ["head.linear", "Linear", "1", "x", "3", "123", "yes"] in lines
    assert "123 trained (3 of 4 groups frozen)" in told


def test_show_results_tells_true_and_said(learner: MakeLearner) -> None:
    learn = learner()
    figure = learn.show_results(max_n=4)
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 4
    _, _, decoded = learn.get_preds(with_decoded=True)
    assert titles[0] == f"circle\n{learn.dls.vocab[decoded[0]]}"
    red = [axis.title.get_color() == "crimson" for axis in figure.axes]
    assert red == [title.split("\n")[0] != title.split("\n")[1] for title in titles]
    assert len(learn.show_results(nrows=1, ncols=2).axes) == 2
    unlabelled = learn.dls.test_dl(learn.dls.valid.items)
    assert "\n" not in learn.show_results(dl=unlabelled, max_n=1).axes[0].get_title()
    with pytest.raises(InvalidConfig, match=r"show_results\(max_n\)"):
        learn.show_results(max_n=0)


# answers


def test_get_preds_in_the_loaders_order(learner: MakeLearner) -> None:
    learn = learner()
    inputs, preds, targs, decoded, losses = learn.get_preds(with_input=True, with_decoded=True, with_loss=True)
    assert inputs.shape == (9, 3, 24, 24)
    assert torch.allclose(preds.sum(1), torch.ones(9))
    assert targs.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert torch.equal(decoded, preds.argmax(1))
    assert torch.allclose(losses, -preds[range(9), targs].log(), atol=1e-5)
    assert losses.mean() == pytest.approx(learn.validate()[0], rel=1e-5)
    raw = learn.get_preds(act=lambda logits: logits)[0]
    assert torch.allclose(raw.softmax(1), preds)


def test_get_preds_of_the_training_side_is_not_augmented(learner: MakeLearner) -> None:
    learn = learner()
    first, targs = learn.get_preds(ds_idx=0)
    assert first.shape == (27, 3)  # drop_last is for training
    assert torch.equal(first, learn.get_preds(ds_idx=0)[0])
    assert targs.tolist() == sorted(targs.tolist())
    with pytest.raises(InvalidConfig, match="ds_idx: got 2"):
        learn.validate(2)


def test_get_preds_of_pictures_to_come(learner: MakeLearner, shapes: Path) -> None:
    learn = learner()
    files = get_image_files(shapes)[:5]
    preds, targs = learn.get_preds(dl=learn.dls.test_dl(files))
    assert preds.shape == (5, 3)
    assert targs is None
    with pytest.raises(InvalidInput, match="with_labels=True"):
        learn.validate(dl=learn.dls.test_dl(files))
    labelled = learn.dls.test_dl(files, with_labels=True)
    assert learn.validate(dl=labelled)[0] == pytest.approx(
        float(learn.get_preds(dl=labelled, with_loss=True)[2].mean())
    )


def test_predict_gives_what_a_person_reads(learner: MakeLearner, shapes: Path) -> None:
    learn = learner()
    file = get_image_files(shapes)[0]
    label, number, probs = learn.predict(file)
    assert label == learn.dls.vocab[number]
    assert probs.shape == (3,)
    assert probs.argmax() == number
    with Image.open(file) as picture:
        assert learn.predict(picture.convert("RGB"))[0] == label
    labels, marks, probs = learner(target="labels").predict(file)
    assert marks.tolist() == [p > 0.5 for p in probs.tolist()]
    assert labels == [name for name, is_on in zip(("edged", "plain", "round"), marks.tolist(), strict=True) if is_on]
    value, tensor, _ = learner(target="value").predict(file)
    assert value == tensor.item()


# files


def test_save_and_load(learner: MakeLearner) -> None:
    learn = learner()
    learn.fit(1)
    path = learn.save("good")
    assert path == learn.path / "models" / "good.safetensors"
    wanted = weights_of(learn)
    learn.fit(1)
    after = weights_of(learn)
    fresh = learner()
    fresh.load("good")
    assert same_weights(weights_of(fresh), wanted)
    fresh.epochs_seen = 1
    fresh.fit(1)  # with the optimiser's memory it goes on as the other did
    assert same_weights(weights_of(fresh), after)
    without = learner()
    without.load("good", with_opt=False)
    without.epochs_seen = 1
    without.fit(1)
    assert not same_weights(weights_of(without), after)
    assert learner(model_dir="elsewhere").file_of("x").parent.name == "elsewhere"


def test_a_file_of_another_model_is_refused(learner: MakeLearner, tmp_path: Path) -> None:
    learner(target="labels").save("marks", with_opt=False)
    with pytest.raises(Conflict, match="task 'multilabel', not 'classification'"):
        learner().load("marks")
    with pytest.raises(NotFound, match=r"none\.safetensors"):
        learner().load("none")
    learn = learner(checkpoint=CheckpointConfig())
    learn.fit(1)
    with pytest.raises(InvalidInput, match="of another kind or version"):
        learn.load("last")  # what a running training keeps


def test_the_record_is_plain_and_says_what_was_done(learner: MakeLearner) -> None:
    learn = learner(metrics=accuracy, label_smoothing=0.1, class_weights="balanced")
    learn.fine_tune(1)
    record = learn.training_record()
    assert record["seed"] == 42
    assert record["batch_size"] == 4
    assert record["backbone"] == "tiny"
    assert record["outputs"] == ["circle", "square", "stripes"]
    assert record["loss"] == {"name": "CrossEntropy", "weights": [1.0, 1.0, 1.0], "label_smoothing": 0.1}
    assert [fit["method"] for fit in record["fits"]] == ["fit_one_cycle"] * 2
    assert "Resize" in record["item_tfms"][0]
    assert "backbone" not in record["fits"][0]
    assert record["epochs"] == 2


# making one


def test_the_backbones_normalisation_is_added_once(shapes: Path, tmp_path: Path) -> None:
    learn = make_learner(shapes, tmp_path)
    (added,) = [tfm for tfm in learn.dls.valid.batch_tfms if isinstance(tfm, Normalize)]
    assert (tuple(added.mean), tuple(added.std)) == ((0.5,) * 3, (0.25,) * 3)
    vision_learner(learn.dls, tiny_backbone(), progress=Told())
    assert sum(isinstance(tfm, Normalize) for tfm in learn.dls.valid.batch_tfms) == 1
    plain = make_learner(shapes, tmp_path, normalize=False)
    assert not any(isinstance(tfm, Normalize) for tfm in plain.dls.valid.batch_tfms)
    plain.dls.add_tfms(Normalize((0.1,) * 3, (0.2,) * 3))
    with pytest.warns(UserWarning, match="leave Normalize out"):
        vision_learner(plain.dls, tiny_backbone(), progress=Told())


def test_what_is_no_backbone(shapes: Path) -> None:
    dls = make_dls(shapes)
    with pytest.raises(InvalidConfig, match="efficientnet_lite0"):
        vision_learner(dls, "no_such_net")
    with pytest.raises(InvalidConfig, match=r"vision_learner\(arch\): got 3"):
        vision_learner(dls, 3)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match=r"vision_learner\(dropout\)"):
        vision_learner(dls, tiny_backbone(), dropout=1.5)
    network = build_network(tiny_backbone(), n_out=3)
    with pytest.raises(InvalidConfig, match="it beside a Network"):
        vision_learner(dls, network, dropout=0.5)
    assert vision_learner(dls, network, progress=Told()).model is network
    with pytest.raises(InvalidInput, match="model: got 5 outputs; want 3: circle, square, stripes"):
        vision_learner(dls, build_network(tiny_backbone(), n_out=5))


def test_a_class_of_ones_own(shapes: Path) -> None:
    class Exporting(Learner):
        def export(self) -> str:
            return "exported"

    learn = vision_learner(make_dls(shapes), tiny_backbone(), kind=Exporting, progress=Told())
    assert learn.export() == "exported"


def test_from_random_weights_batch_norms_learn(shapes: Path, tmp_path: Path) -> None:
    learn = make_learner(shapes, tmp_path, pretrained=False)
    assert learn.train_bn
    assert not same_weights(weights_of(learn), weights_of(make_learner(shapes, tmp_path)))
    again = make_learner(shapes, tmp_path, pretrained=False, train_bn=False)
    assert not again.train_bn
    assert same_weights(weights_of(learn), weights_of(again))


def test_lr_find_leaves_all_as_it_was(learner: MakeLearner) -> None:
    learn = learner()
    before = weights_of(learn)
    found = learn.lr_find(num_it=30, show_plot=False)
    assert 1e-7 < found.valley < 10
    assert same_weights(weights_of(learn), before)
