"""What happened in a training: rate, momentum and loss of every batch, the numbers of every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Recorder"]

_BETA = 0.98  # of the smoothed loss: it remembers about 50 batches


class Recorder:
    """The record of one fit, or of several in a row; each of `values` stands under `metric_names`.

    `losses` are smoothed (moving average of weight 0.98 a batch, freed of its start at 0), `raw_losses` are not;
    `lrs` and `moms` are those of the last parameter group. `iters` has, for each epoch, how many batches there were by
    its end.
    """

    def __init__(self, metrics: Sequence[str] = ()) -> None:
        self.metric_names: tuple[str, ...] = ("train_loss", "valid_loss", *metrics)
        if len(set(self.metric_names)) < len(self.metric_names):
            raise InvalidConfig("metrics", got=list(metrics), want="names that differ, from the two losses' too")
        self.lrs: list[float] = []
        self.moms: list[float] = []
        self.raw_losses: list[float] = []
        self.losses: list[float] = []
        self.values: list[list[float]] = []
        self.iters: list[int] = []
        self._mean, self._n_finite = 0.0, 0

    def batch(self, loss: float, lr: float, mom: float) -> None:
        """Note a training step: its loss, and the rate and momentum it was made with."""
        self.raw_losses.append(float(loss))
        self.lrs.append(float(lr))
        self.moms.append(float(mom))
        if math.isfinite(loss):  # one that is not, of a step that was left out, would stay in the mean for ever
            self._mean = _BETA * self._mean + (1 - _BETA) * float(loss)
            self._n_finite += 1
        self.losses.append(self._mean / (1 - _BETA**self._n_finite) if self._n_finite else math.nan)

    def epoch(self, values: Iterable[float]) -> None:
        """Note the numbers of an epoch, one for each of `metric_names`; NaN where there is none."""
        row = [float(value) for value in values]
        if len(row) != len(self.metric_names):
            raise InvalidInput("recorder.epoch", got=f"{len(row)} numbers", want=f"{', '.join(self.metric_names)}")
        self.values.append(row)
        self.iters.append(len(self.raw_losses))

    @property
    def smooth_loss(self) -> float:
        """The smoothed training loss now; NaN before the first batch."""
        return self.losses[-1] if self.losses else math.nan

    def column(self, name: str) -> list[float]:
        """The numbers of all epochs under one of `metric_names`."""
        if name not in self.metric_names:
            raise InvalidConfig("recorder.column", got=name, want=f"one of {', '.join(self.metric_names)}")
        place = self.metric_names.index(name)
        return [row[place] for row in self.values]

    def as_json(self) -> dict[str, Any]:
        """Plain values for json.dumps; numbers that JSON does not have are strings: "nan", "inf", "-inf"."""
        return {
            "metric_names": list(self.metric_names),
            "lrs": _to_json(self.lrs),
            "moms": _to_json(self.moms),
            "raw_losses": _to_json(self.raw_losses),
            "values": [_to_json(row) for row in self.values],
            "iters": list(self.iters),
        }

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Recorder:
        """The record that as_json wrote; it can be gone on with."""
        record = cls(plain["metric_names"][2:])
        for loss, lr, mom in zip(plain["raw_losses"], plain["lrs"], plain["moms"], strict=True):
            record.batch(float(loss), float(lr), float(mom))
        record.values = [[float(value) for value in row] for row in plain["values"]]
        record.iters = [int(count) for count in plain["iters"]]
        return record

    def plot_loss(self, skip_start: int = 5, with_valid: bool = True) -> Figure:
        """A figure of the training loss by batch, without the first `skip_start`, and the validation's by epoch."""
        return _plots("plot_loss").draw_loss(self, skip_start=skip_start, with_valid=with_valid)  # type: ignore[no-any-return]

    def plot_sched(self) -> Figure:
        """A figure of the learning rate and the momentum by batch."""
        return _plots("plot_sched").draw_schedule(self)  # type: ignore[no-any-return]

    def plot_metrics(self) -> Figure:
        """A figure of the metrics by epoch, a panel each."""
        return _plots("plot_metrics").draw_metrics(self)  # type: ignore[no-any-return]


def _to_json(numbers: Iterable[float]) -> list[float | str]:
    return [number if math.isfinite(number) else str(number) for number in numbers]


def _plots(wanted: str) -> Any:
    try:
        from . import loss_plots
    except ModuleNotFoundError as exc:
        raise MissingExtra(wanted, package=exc.name or "matplotlib", extra="train") from None
    return loss_plots
