"""The record of a training, and its figures."""

from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure

import drivetrain.learn
from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra
from drivetrain.learn.loss_plots import draw_lr_find, show_in_notebook
from drivetrain.learn.recorder import Recorder


def make_record(*, epochs: int = 3, batches: int = 20, metrics: tuple[str, ...] = ("accuracy", "f1_score")) -> Recorder:
    record = Recorder(metrics)
    for epoch in range(epochs):
        for batch in range(batches):
            done = (epoch * batches + batch) / (epochs * batches)
            record.batch(2 - done + 0.1 * (batch % 2), 1e-3 * (1 - done), 0.9)
        record.epoch([2 - epoch, 1.5 - 0.5 * min(epoch, 1) + 0.1 * epoch, *[0.5 + 0.1 * epoch] * len(metrics)])
    return record


def test_losses_are_smoothed_from_the_first_on() -> None:
    record = Recorder()
    for loss in (4.0, 2.0, 3.0):
        record.batch(loss, 0.1, 0.9)
    assert record.raw_losses == [4.0, 2.0, 3.0]
    assert record.losses[0] == pytest.approx(4.0)
    assert record.losses[1] == pytest.approx((0.98 * 4 + 2) / 1.98)
    assert record.losses[2] == pytest.approx((0.98**2 * 4 + 0.98 * 2 + 3) / (0.98**2 + 0.98 + 1))
    assert record.smooth_loss == record.losses[-1]
    assert (record.lrs, record.moms) == ([0.1] * 3, [0.9] * 3)
    assert math.isnan(Recorder().smooth_loss)


def test_a_loss_that_is_no_number_does_not_stay_in_the_mean() -> None:
    record = Recorder()
    for loss in (math.inf, 2.0, math.nan, 2.0):
        record.batch(loss, 0.1, 0.9)
    assert math.isnan(record.losses[0])
    assert record.losses[1:] == pytest.approx([2.0, 2.0, 2.0])


def test_numbers_of_epochs_stand_under_their_names() -> None:
    record = make_record()
    assert record.metric_names == ("train_loss", "valid_loss", "accuracy", "f1_score")
    assert record.column("train_loss") == [2.0, 1.0, 0.0]
    assert record.column("accuracy") == pytest.approx([0.5, 0.6, 0.7])
    assert record.iters == [20, 40, 60]
    with pytest.raises(InvalidInput, match=r"got 2 numbers; want train_loss, valid_loss, accuracy, f1_score"):
        record.epoch([1.0, 2.0])
    with pytest.raises(InvalidConfig, match="got auc; want one of train_loss"):
        record.column("auc")


@pytest.mark.parametrize("names", [("accuracy", "accuracy"), ("valid_loss",)])
def test_two_columns_of_one_name_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(InvalidConfig, match="want names that differ"):
        Recorder(names)


def test_json_gives_the_same_record_back_which_goes_on_alike() -> None:
    record = make_record()
    record.batch(math.nan, 1e-4, 0.9)
    record.batch(math.inf, 1e-4, 0.9)
    record.epoch([1.0, math.nan, math.inf, -math.inf])
    plain = json.loads(json.dumps(record.as_json(), allow_nan=False))
    back = Recorder.from_json(plain)
    assert back.as_json() == record.as_json()
    for one in (record, back):
        one.batch(0.123, 2e-4, 0.85)
    assert back.metric_names == record.metric_names
    assert back.losses == record.losses
    assert back.lrs == record.lrs
    assert back.moms == record.moms
    assert back.iters == record.iters
    assert str(back.values) == str(record.values)
    assert Recorder.from_json(json.loads(json.dumps(Recorder().as_json()))).as_json() == Recorder().as_json()


def lines_of(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    return {
        str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata()))  # type: ignore[arg-type]
        for line in figure.axes[0].lines
    }


def test_the_loss_plot_shows_batches_and_epochs() -> None:
    record = make_record()
    figure = record.plot_loss(skip_start=0)
    lines = lines_of(figure)
    batches, smooth = lines["training, smoothed"]
    assert batches == list(range(1, 61))
    weights = np.array([1, 2, 3, 2, 1]) / 9
    assert smooth[10] == pytest.approx(weights @ record.raw_losses[8:13])  # the mean of those around, twice
    assert lines["validation"] == ([20, 40, 60], record.column("valid_loss"))
    assert "best: 1.1, after 40 batches" in lines
    assert figure.axes[0].get_xlabel() == "batch (grey lines: epochs)"
    assert "validation" not in lines_of(record.plot_loss(with_valid=False))


def test_the_loss_plot_leaves_out_the_start() -> None:
    assert lines_of(make_record().plot_loss())["training, smoothed"][0][0] == 6
    assert lines_of(make_record().plot_loss(skip_start=20))["training, smoothed"][0][0] == 21
    short = make_record(epochs=1, batches=8)
    assert lines_of(short.plot_loss())["training, smoothed"][0][0] == 1  # too few to leave any out
    with pytest.raises(InvalidConfig, match=r"plot_loss\(skip_start\): got -1"):
        short.plot_loss(skip_start=-1)


def test_one_wild_loss_does_not_set_the_scale() -> None:
    record = Recorder()
    for batch in range(200):
        record.batch(1000.0 if batch == 100 else 1.0 + batch % 2, 1e-3, 0.9)
    record.epoch([1.5, 1.2])
    low, high = record.plot_loss().axes[0].get_ylim()
    assert high < 1000
    assert low < 1.2


def test_a_record_with_holes_can_be_drawn() -> None:
    record = Recorder(["accuracy"])
    for loss in (math.inf, math.nan):
        record.batch(loss, 1e-3, 0.0)
    record.epoch([math.nan, math.nan, math.nan])
    lines = lines_of(record.plot_loss())
    assert "validation" not in lines
    record.batch(1.0, 1e-3, 0.0)
    record.epoch([1.0, 2.0, 0.5])
    assert "best: 2, after 3 batches" in lines_of(record.plot_loss())
    for figure in (record.plot_loss(), record.plot_metrics()):
        assert figure._repr_png_()  # type: ignore[attr-defined]


def test_the_schedule_plot_shows_rate_and_momentum() -> None:
    record = make_record()
    figure = record.plot_sched()
    assert [axes.get_ylabel() for axes in figure.axes] == ["learning rate", "momentum"]
    assert list(figure.axes[0].lines[0].get_ydata()) == record.lrs
    assert list(figure.axes[1].lines[0].get_ydata()) == record.moms
    plain = Recorder()
    plain.batch(1.0, 0.1, 0.0)  # an optimiser without momentum
    assert [axes.get_ylabel() for axes in plain.plot_sched().axes] == ["learning rate"]


def test_the_metrics_plot_has_a_panel_each() -> None:
    figure = make_record().plot_metrics()
    assert [axes.get_ylabel() for axes in figure.axes] == ["accuracy", "f1_score"]
    assert list(figure.axes[1].lines[0].get_ydata()) == pytest.approx([0.5, 0.6, 0.7])
    assert figure.axes[-1].get_xlabel() == "epoch"
    with pytest.raises(InvalidInput, match="plot_metrics: got nothing recorded"):
        make_record(metrics=()).plot_metrics()


def test_nothing_recorded_is_said() -> None:
    for what in ("plot_loss", "plot_sched"):
        with pytest.raises(InvalidInput, match=f"{what}: got nothing recorded"):
            getattr(Recorder(), what)()


def test_figures_are_pngs_that_pyplot_does_not_know_of() -> None:
    for figure in (make_record().plot_loss(), make_record().plot_sched(), make_record().plot_metrics()):
        assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
        assert not _pylab_helpers.Gcf.figs


def test_the_plot_of_rates_marks_what_is_suggested() -> None:
    lrs, losses = list(np.geomspace(1e-6, 1, 60)), [*np.linspace(2, 1, 50), *np.linspace(1, 9, 10)]
    figure = draw_lr_find(lrs, losses, points=[("valley", 1e-3, 1.5), ("steep", 1e-4, 1.8)])
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert "learning rate" in axes.get_xlabel()
    lines = lines_of(figure)
    assert lines["valley: 1.0e-03"] == ([1e-3], [1.5])
    assert lines["steep: 1.0e-04"] == ([1e-4], [1.8])
    assert len(axes.lines[0].get_xdata()) == 55  # type: ignore[arg-type]
    assert len(draw_lr_find(lrs, losses, skip_end=0).axes[0].lines[0].get_xdata()) == 60  # type: ignore[arg-type]
    assert draw_lr_find(lrs, losses).axes[0].get_legend() is None
    with pytest.raises(InvalidConfig, match=r"plot_lr_find\(skip_end\): got -1"):
        draw_lr_find(lrs, losses, skip_end=-1)
    with pytest.raises(InvalidInput, match="nothing recorded"):
        draw_lr_find([], [])


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "drivetrain.learn.loss_plots")
    monkeypatch.delattr(drivetrain.learn, "loss_plots")
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    with pytest.raises(MissingExtra, match=r"plot_loss: got no package 'matplotlib.axes' here.*drivetrain\[train\]"):
        make_record().plot_loss()


class Handle:
    def __init__(self) -> None:
        self.updates: list[object] = []

    def update(self, figure: object) -> None:
        self.updates.append(figure)


def test_figures_are_shown_in_notebooks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Figure:
        raise AssertionError("drawn for nobody")

    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert show_in_notebook(fail) is None
    handle, shown = Handle(), []

    def display(figure: object, *, display_id: bool) -> Handle:
        shown.append((figure, display_id))
        return handle

    shell = SimpleNamespace()  # as in a terminal
    fake = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", fake)  # type: ignore[arg-type]
    assert show_in_notebook(fail) is None
    shell.kernel = object()
    figure = make_record().plot_loss()
    assert show_in_notebook(lambda: figure) is handle
    assert shown == [(figure, True)]
    assert show_in_notebook(lambda: figure, handle) is handle
    assert handle.updates == [figure]
