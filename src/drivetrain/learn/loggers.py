"""Callbacks that tell others of a training: a table in a file, MLflow, Weights & Biases, a figure that grows."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.errors import Conflict, InvalidConfig, MissingExtra

from .callbacks import Callback

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CSVLogger", "MLflowCallback", "ShowGraphCallback", "WandbCallback"]

_ORDER = 60  # after those that save, before those that stop
_PARAM_CHARS = 500  # the least that a version of MLflow takes


class CSVLogger(Callback):
    """A row for each epoch in `fname` below `learn.path`: epoch, losses, metrics, time in seconds.

    A row is on the disk before the next epoch begins. `append` keeps the rows that are there; else the first fit begins
    the file anew, and later ones, as the second of `fine_tune`, add to it. A resumed training takes back the rows of
    epochs that it trains again.
    """

    order = _ORDER

    def __init__(
        self, fname: str | Path = "history.csv", append: bool = False, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.fname, self.append, self.clock = Path(fname), append, clock
        self.path = self.fname
        self._goes_on = append
        self._kept_bytes: int | None = None  # of a file that is resumed
        self._began_at = 0.0

    def before_fit(self, learn: Any) -> None:
        self.path, self._began_at = Path(learn.path) / self.fname, self.clock()
        if not self._goes_on or not self.path.is_file():
            return
        with self.path.open("rb") as file:
            there = file.readline()
        header = _header(learn)
        if there and there != header and self.append:
            raise Conflict(
                str(self.path),
                got=f"columns {there.decode(errors='replace').strip()}",
                want=header.decode().strip(),
                hint="Give another fname, or append=False.",
            )
        self._goes_on = there == header  # other metrics than in the fit before: another table

    def before_epoch(self, learn: Any) -> None:
        self._began_at = self.clock()

    def after_epoch(self, learn: Any) -> None:
        if not _is_first(learn):
            return
        self._open(learn)
        seconds = round(self.clock() - self._began_at, 3)
        with self.path.open("ab") as file:
            file.write(_as_line([learn.epoch, *learn.recorder.values[-1], seconds]))
            file.flush()
            os.fsync(file.fileno())

    def read_log(self) -> list[dict[str, float]]:
        """The rows there are, numbers by column."""
        with self.path.open(encoding="utf-8", newline="") as file:
            return [{name: float(cell) for name, cell in row.items()} for row in csv.DictReader(file)]

    def state_dict(self) -> dict[str, Any]:
        return {"bytes": self.path.stat().st_size if self._goes_on and self.path.is_file() else 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._goes_on, self._kept_bytes = True, state["bytes"]

    def _open(self, learn: Any) -> None:
        """Let the file be one to append to: begun anew, or cut back to what was there when it was kept."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            if not self._goes_on:
                file.truncate(0)
            elif self._kept_bytes is not None and file.tell() > self._kept_bytes:
                file.truncate(self._kept_bytes)
            if not self.path.stat().st_size:
                file.write(_header(learn))
        self._goes_on, self._kept_bytes = True, None


class _ServiceLogger(Callback):
    """The numbers of every epoch, and of each `every_batches`th batch, to a service, in one run for all fits.

    The run begins with the first numbers; `params` are told with what the fit was asked for. A resumed training goes
    on with the run it had, and tells again of the epoch it trains again.
    """

    order = _ORDER

    def __init__(self, *, params: Mapping[str, Any] | None, every_batches: int) -> None:
        if every_batches < 1:
            owner = f"{type(self).__name__}(every_batches)"
            raise InvalidConfig(owner, got=every_batches, want="a whole number of at least 1")
        self.params, self.every_batches = dict(params or {}), every_batches
        self.run_id: str | None = None
        self._is_open = False
        self._n_steps = 0  # of all fits

    def after_batch(self, learn: Any) -> None:
        if not learn.training:
            return
        self._n_steps += 1
        if self._n_steps % self.every_batches == 0 and _is_first(learn):
            record = learn.recorder
            self._tell(learn, {"batch_loss": record.losses[-1], "lr": record.lrs[-1], "mom": record.moms[-1]})

    def after_epoch(self, learn: Any) -> None:
        numbers = zip(learn.recorder.metric_names, learn.recorder.values[-1], strict=True)
        if _is_first(learn):
            self._tell(learn, {"epoch": learn.epoch, **dict(numbers)})

    def state_dict(self) -> dict[str, Any]:
        return {"run_id": self.run_id, "n_steps": self._n_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.run_id, self._n_steps = state["run_id"], state["n_steps"]

    def open_run(self, params: Mapping[str, Any]) -> None:
        """Begin a run, or go on with `run_id`."""
        raise NotImplementedError

    def send(self, numbers: Mapping[str, float], step: int) -> None:
        """Give the run these numbers, all finite."""
        raise NotImplementedError

    def _tell(self, learn: Any, numbers: Mapping[str, float]) -> None:
        if not self._is_open:
            self._is_open = True
            asked = (getattr(learn, "fits", None) or [{}])[-1]
            self.open_run({"task": learn.task, "n_epoch": learn.n_epoch, **asked, **self.params})
        self.send({name: float(value) for name, value in numbers.items() if math.isfinite(value)}, self._n_steps)


class MLflowCallback(_ServiceLogger):
    """Tells MLflow, at `tracking_uri` (None: where MLflow itself is set to), under `experiment`.

    A run that is active is used and left open; one of our own is finished at the end of each fit, and stays RUNNING
    where a training breaks off. Needs the extra `mlflow`.
    """

    def __init__(
        self,
        experiment: str = "drivetrain",
        *,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        params: Mapping[str, Any] | None = None,
        every_batches: int = 50,
    ) -> None:
        super().__init__(params=params, every_batches=every_batches)
        self.experiment, self.run_name = experiment, run_name
        self._mlflow = _load("mlflow", "MLflowCallback")
        self._client = self._mlflow.MlflowClient(tracking_uri)
        self._is_own = True

    def open_run(self, params: Mapping[str, Any]) -> None:
        active = self._mlflow.active_run()
        if active is not None:
            self.run_id, self._is_own = active.info.run_id, False
        elif self.run_id is None:
            found = self._client.get_experiment_by_name(self.experiment)
            own_id = found.experiment_id if found else self._client.create_experiment(self.experiment)
            self.run_id = self._client.create_run(own_id, run_name=self.run_name).info.run_id
        else:
            self._client.update_run(self.run_id, status="RUNNING")
            return  # its parameters are told, and cannot be told anew
        for name, value in _flatten(params).items():
            self._client.log_param(self.run_id, _plain_name(name), str(value)[:_PARAM_CHARS])

    def send(self, numbers: Mapping[str, float], step: int) -> None:
        for name, value in numbers.items():
            self._client.log_metric(self.run_id, _plain_name(name), value, step=step)

    def after_fit(self, learn: Any) -> None:
        if self._is_open and self._is_own:
            self._client.set_terminated(self.run_id)
            self._is_open = False


class WandbCallback(_ServiceLogger):
    """Tells Weights & Biases, in `project`; `mode` "offline" keeps it in `dir`, to be sent later by `wandb sync`.

    A run that is active is used. One of our own stays open for the next fit, until `finish()` or the end of the
    process. Needs the extra `wandb`.
    """

    def __init__(
        self,
        project: str = "drivetrain",
        *,
        run_name: str | None = None,
        mode: str | None = None,
        dir: str | Path | None = None,  # noqa: A002 -- wandb's own word
        params: Mapping[str, Any] | None = None,
        every_batches: int = 50,
    ) -> None:
        super().__init__(params=params, every_batches=every_batches)
        self.project, self.run_name, self.mode, self.dir = project, run_name, mode, dir
        self._wandb = _load("wandb", "WandbCallback")
        self._run: Any = None
        self._is_own = True

    def open_run(self, params: Mapping[str, Any]) -> None:
        active = self._wandb.run
        if active is not None:
            self._run, self._is_own = active, False
            self._run.config.update(params, allow_val_change=True)
        else:
            self._run = self._wandb.init(
                project=self.project,
                name=self.run_name,
                mode=self.mode,
                dir=None if self.dir is None else str(self.dir),
                config=dict(params),
                id=self.run_id,
                resume=None if self.run_id is None else "allow",
            )
        self.run_id = self._run.id

    def send(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def finish(self) -> None:
        """End our own run; the next fit goes on with it."""
        if self._is_open and self._is_own:
            self._run.finish()
            self._is_open = False


class ShowGraphCallback(Callback):
    """Shows the loss plot of the record after every epoch, in a notebook the new one in the place of the old.

    `show(figure)` takes it elsewhere.
    """

    order = _ORDER

    def __init__(self, show: Callable[[Figure], None] | None = None) -> None:
        self.show = show
        self._handle: Any = None

    def before_fit(self, learn: Any) -> None:
        self._handle = None

    def after_epoch(self, learn: Any) -> None:
        from .loss_plots import show_in_notebook

        if not _is_first(learn):
            return
        if self.show is not None:
            self.show(learn.recorder.plot_loss())
        else:
            self._handle = show_in_notebook(learn.recorder.plot_loss, self._handle)


def _is_first(learn: Any) -> bool:
    """Whether this is the one process that tells, of several that train together."""
    processes = getattr(learn, "processes", None)
    return processes is None or processes.share[0] == 0


def _header(learn: Any) -> bytes:
    return _as_line(["epoch", *learn.recorder.metric_names, "time_s"])


def _as_line(cells: list[Any]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _flatten(params: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested names joined by dots, lists as JSON."""
    flat: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{above}{name}.")
        else:
            flat[above + name] = json.dumps(value, default=str) if isinstance(value, list | tuple) else value
    return flat


def _plain_name(name: str) -> str:
    """With the characters only that MLflow takes."""
    return re.sub(r"[^\w\-./ ]", "_", name)


def _load(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as exc:
        if exc.name not in {package, None}:
            raise
        raise MissingExtra(what, package=package, extra=package) from None
