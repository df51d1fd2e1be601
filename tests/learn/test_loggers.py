"""What others are told of a training: rows in a file, numbers in MLflow and in Weights & Biases."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from drivetrain.errors import Conflict, InvalidConfig, MissingExtra
from drivetrain.learn.callbacks import Callback
from drivetrain.learn.loggers import CSVLogger, MLflowCallback, ShowGraphCallback, WandbCallback
from drivetrain.learn.recorder import Recorder


class FakeLearn:
    """What loggers find at a Learner."""

    def __init__(self, path: Path, *metrics: str) -> None:
        self.path = path
        self.task = "classification"
        self.recorder = Recorder(metrics or ["accuracy"])
        self.epoch = self.n_epoch = 0
        self.training = False
        self.fits: list[dict[str, Any]] = []
        self.processes = SimpleNamespace(share=(0, 1))

    def fit(self, cb: Callback, *, epochs: int, start: int = 0, state: Any = None, batches: int = 3) -> None:
        """Train as a Learner does; `state` resumes in epoch `start`. The losses tell where they come from."""
        self.n_epoch = epochs
        self.fits.append({"method": "fit", "lrs": [0.1, 0.2], "loss": {"name": "CrossEntropy", "weights": None}})
        cb.before_fit(self)
        if state is not None:
            cb.load_state_dict(state)  # type: ignore[attr-defined]
        for self.epoch in range(start, epochs):
            cb.before_epoch(self)
            self.training = True
            for batch in range(batches):
                self.recorder.batch(self.epoch + batch / 10, 0.01 * (batch + 1), 0.9)
                cb.after_batch(self)
            self.training = False
            cb.after_batch(self)  # of held-out pictures
            self.recorder.epoch([self.epoch, self.epoch + 0.5, *[0.25] * (len(self.recorder.metric_names) - 2)])
            cb.after_epoch(self)
        cb.after_fit(self)


def ticking() -> Callable[[], float]:
    """A clock on which every epoch takes a second."""
    return map(float, count()).__next__


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text().splitlines()))


HEADER = ["epoch", "train_loss", "valid_loss", "accuracy", "time_s"]


# CSV


def test_a_row_for_each_epoch(tmp_path: Path) -> None:
    log = CSVLogger(clock=ticking())
    FakeLearn(tmp_path).fit(log, epochs=2)
    assert rows_of(tmp_path / "history.csv") == [
        HEADER,
        ["0", "0.0", "0.5", "0.25", "1.0"],
        ["1", "1.0", "1.5", "0.25", "1.0"],
    ]
    assert log.read_log()[1] == {"epoch": 1, "train_loss": 1, "valid_loss": 1.5, "accuracy": 0.25, "time_s": 1}
    assert b"\r" not in (tmp_path / "history.csv").read_bytes()


def test_the_file_is_where_it_is_asked_for(tmp_path: Path) -> None:
    FakeLearn(tmp_path).fit(CSVLogger("logs/mine.csv"), epochs=1)
    assert len(rows_of(tmp_path / "logs" / "mine.csv")) == 2


@pytest.mark.parametrize(("append", "epochs"), [(False, ["0"]), (True, ["0", "1", "0"])])
def test_append_keeps_the_rows_of_another_training(tmp_path: Path, append: bool, epochs: list[str]) -> None:
    FakeLearn(tmp_path).fit(CSVLogger(), epochs=2)
    FakeLearn(tmp_path).fit(CSVLogger(append=append), epochs=1)
    rows = rows_of(tmp_path / "history.csv")
    assert rows[0] == HEADER
    assert [row[0] for row in rows[1:]] == epochs


def test_append_to_a_file_that_is_not_there_begins_it(tmp_path: Path) -> None:
    FakeLearn(tmp_path).fit(CSVLogger(append=True), epochs=1)
    assert len(rows_of(tmp_path / "history.csv")) == 2


def test_two_fits_of_one_logger_stand_in_one_file(tmp_path: Path) -> None:
    log, learn = CSVLogger(), FakeLearn(tmp_path)
    learn.fit(log, epochs=1)
    learn.fit(log, epochs=2)
    assert [row[0] for row in rows_of(tmp_path / "history.csv")] == ["epoch", "0", "0", "1"]


def test_other_columns_do_not_come_below(tmp_path: Path) -> None:
    log = CSVLogger()
    FakeLearn(tmp_path).fit(log, epochs=1)
    other = FakeLearn(tmp_path, "f1_score")
    with pytest.raises(Conflict, match=r"got columns epoch,train_loss,valid_loss,accuracy,time_s; want .*f1_score"):
        other.fit(CSVLogger(append=True), epochs=1)
    assert len(rows_of(tmp_path / "history.csv")) == 2
    other.fit(log, epochs=1)  # asked to begin anew
    assert [row[3] for row in rows_of(tmp_path / "history.csv")] == ["f1_score", "0.25"]


def test_a_row_is_on_the_disk_when_its_epoch_is_over(tmp_path: Path) -> None:
    class Kill(Callback):
        def __init__(self) -> None:
            self.log = CSVLogger()

        def before_fit(self, learn: Any) -> None:
            self.log.before_fit(learn)

        def after_epoch(self, learn: Any) -> None:
            self.log.after_epoch(learn)
            if learn.epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        FakeLearn(tmp_path).fit(Kill(), epochs=3)
    assert [row[0] for row in rows_of(tmp_path / "history.csv")] == ["epoch", "0", "1"]


@pytest.mark.parametrize("append", [False, True])
def test_a_resumed_training_has_the_rows_of_the_unbroken_one(tmp_path: Path, append: bool) -> None:
    if append:
        FakeLearn(tmp_path).fit(CSVLogger(clock=ticking()), epochs=1)
    log = CSVLogger(append=append, clock=ticking())
    FakeLearn(tmp_path).fit(log, epochs=2)
    state = log.state_dict()
    FakeLearn(tmp_path).fit(CSVLogger(append=True, clock=ticking()), epochs=1)  # told, but killed before it was kept
    FakeLearn(tmp_path).fit(CSVLogger(append=append, clock=ticking()), epochs=4, start=2, state=state)
    assert [row[0] for row in rows_of(tmp_path / "history.csv")] == ["epoch", *["0"] * append, "0", "1", "2", "3"]


def test_a_training_killed_before_its_first_row_begins_the_file_anew_when_resumed(tmp_path: Path) -> None:
    FakeLearn(tmp_path).fit(CSVLogger(), epochs=3)  # of another day
    state = CSVLogger().state_dict()
    FakeLearn(tmp_path).fit(CSVLogger(), epochs=1, state=state)
    assert len(rows_of(tmp_path / "history.csv")) == 2


def test_a_log_that_was_thrown_away_is_begun_again(tmp_path: Path) -> None:
    log = CSVLogger()
    FakeLearn(tmp_path).fit(log, epochs=2)
    state = log.state_dict()
    (tmp_path / "history.csv").unlink()
    FakeLearn(tmp_path).fit(CSVLogger(), epochs=3, start=2, state=state)
    assert [row[0] for row in rows_of(tmp_path / "history.csv")] == ["epoch", "2"]


# MLflow


class FakeMlflow:
    """As much of MLflow as we use, in memory."""

    def __init__(self) -> None:
        self.runs: dict[str, Any] = {}
        self.experiments: dict[str, str] = {}
        self.active: Any = None
        self.uri: str | None = None

    def MlflowClient(self, tracking_uri: str | None) -> FakeMlflow:  # noqa: N802 -- its name
        self.uri = tracking_uri
        return self

    def active_run(self) -> Any:
        return self.active

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(len(self.experiments)))

    def create_run(self, experiment_id: str, run_name: str | None = None) -> Any:
        run = SimpleNamespace(info=SimpleNamespace(run_id=f"run{len(self.runs)}", run_name=run_name, status="RUNNING"))
        run.params, run.history, run.experiment_id = {}, defaultdict(list), experiment_id
        self.runs[run.info.run_id] = run
        return run

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].info.status = status

    def log_param(self, run_id: str, name: str, value: str) -> None:
        assert name not in self.runs[run_id].params
        self.runs[run_id].params[name] = value

    def log_metric(self, run_id: str, name: str, value: float, step: int) -> None:
        assert math.isfinite(value)
        self.runs[run_id].history[name].append((step, value))

    def set_terminated(self, run_id: str) -> None:
        self.runs[run_id].info.status = "FINISHED"

    def told(self, run_id: str) -> Any:
        run = self.runs[run_id]
        return SimpleNamespace(
            params=run.params, status=run.info.status, name=run.info.run_name, history=lambda name: run.history[name]
        )


class RealMlflow:
    """MLflow itself, on files in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.uri = folder.as_uri()

    def told(self, run_id: str) -> Any:
        import mlflow

        client = mlflow.MlflowClient(self.uri)
        run = client.get_run(run_id)

        def history(name: str) -> list[tuple[int, float]]:
            return [(one.step, one.value) for one in client.get_metric_history(run_id, name)]

        return SimpleNamespace(params=run.data.params, status=run.info.status, name=run.info.run_name, history=history)


@pytest.fixture(params=["fake", "real"])
def mlflow(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    if request.param == "fake":
        fake = FakeMlflow()
        monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
        yield fake
        return
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    pytest.importorskip("mlflow")
    yield RealMlflow(tmp_path / "runs")


def test_mlflow_is_told_of_epochs_and_batches(mlflow: Any, tmp_path: Path) -> None:
    log = MLflowCallback(
        run_name="bears", tracking_uri=mlflow.uri, params={"who": "me", "long": "x" * 900}, every_batches=2
    )
    learn = FakeLearn(tmp_path, "accuracy", "F1 (macro)")
    learn.fit(log, epochs=2)
    assert log.run_id is not None
    told = mlflow.told(log.run_id)
    assert told.history("valid_loss") == [(3, 0.5), (6, 1.5)]
    assert told.history("epoch") == [(3, 0.0), (6, 1.0)]
    assert told.history("F1 _macro_") == [(3, 0.25), (6, 0.25)]
    assert told.history("lr") == [(2, 0.02), (4, 0.01), (6, 0.03)]
    assert [step for step, _ in told.history("batch_loss")] == [2, 4, 6]
    assert told.params["method"] == "fit"
    assert told.params["loss.name"] == "CrossEntropy"
    assert told.params["lrs"] == "[0.1, 0.2]"
    assert (told.params["who"], len(told.params["long"])) == ("me", 500)
    assert (told.name, told.status) == ("bears", "FINISHED")


def test_all_fits_are_one_run_of_mlflow(mlflow: Any, tmp_path: Path) -> None:
    log, learn = MLflowCallback(tracking_uri=mlflow.uri), FakeLearn(tmp_path)
    learn.fit(log, epochs=1)
    first = log.run_id
    learn.fit(log, epochs=1)
    assert log.run_id == first
    told = mlflow.told(first)
    assert told.history("valid_loss") == [(3, 0.5), (6, 0.5)]
    assert told.status == "FINISHED"


def test_a_resumed_training_goes_on_with_its_run_of_mlflow(mlflow: Any, tmp_path: Path) -> None:
    first = MLflowCallback(tracking_uri=mlflow.uri)
    FakeLearn(tmp_path).fit(first, epochs=1)
    second = MLflowCallback(tracking_uri=mlflow.uri)
    FakeLearn(tmp_path).fit(second, epochs=2, start=1, state=first.state_dict())
    assert second.run_id == first.run_id
    assert mlflow.told(first.run_id).history("valid_loss") == [(3, 0.5), (6, 1.5)]


def test_the_experiment_of_mlflow_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeMlflow()
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    for experiment in ("bears", "bears", "drivetrain"):
        FakeLearn(tmp_path).fit(MLflowCallback(experiment), epochs=1)
    assert fake.experiments == {"bears": "0", "drivetrain": "1"}
    assert [run.experiment_id for run in fake.runs.values()] == ["0", "0", "1"]


def test_a_run_of_mlflow_that_is_active_is_used_and_left_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeMlflow()
    fake.active = fake.create_run("7")
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    log = MLflowCallback()
    FakeLearn(tmp_path).fit(log, epochs=1)
    assert log.run_id == fake.active.info.run_id
    assert fake.active.info.status == "RUNNING"
    assert len(fake.runs) == 1


def test_numbers_that_are_none_are_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake, learn = FakeMlflow(), FakeLearn(tmp_path)
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    log = MLflowCallback()
    learn.recorder.epoch([1.0, math.nan, math.inf])
    log.before_fit(learn)
    log.after_epoch(learn)
    assert set(fake.told(str(log.run_id)).params) >= {"task", "n_epoch"}
    assert fake.told(str(log.run_id)).history("train_loss") == [(0, 1.0)]


# Weights & Biases


class FakeWandb:
    """As much of wandb as we use."""

    def __init__(self) -> None:
        self.run: Any = None
        self.inits: list[dict[str, Any]] = []

    def init(self, **options: Any) -> Any:
        self.inits.append(options)
        logged: list[tuple[int, dict[str, float]]] = []
        self.run = SimpleNamespace(
            id=options["id"] or f"id{len(self.inits)}",
            logged=logged,
            log=lambda numbers, step: logged.append((step, numbers)),
            config=SimpleNamespace(update=lambda params, allow_val_change: self.inits.append(dict(params))),
        )
        self.run.finish = self._finish
        return self.run

    def _finish(self) -> None:
        self.run = None


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    return fake


def test_wandb_is_told_of_epochs_and_batches(wandb: FakeWandb, tmp_path: Path) -> None:
    log = WandbCallback("bears", run_name="first", mode="offline", dir=tmp_path, params={"who": "me"}, every_batches=3)
    FakeLearn(tmp_path).fit(log, epochs=1)
    (options,) = wandb.inits
    config = options.pop("config")
    assert options == {
        "project": "bears",
        "name": "first",
        "mode": "offline",
        "dir": str(tmp_path),
        "id": None,
        "resume": None,
    }
    assert (config["who"], config["method"], config["n_epoch"]) == ("me", "fit", 1)
    (batch_step, of_batch), (step, of_epoch) = wandb.run.logged
    assert (batch_step, of_batch["lr"], of_batch["mom"]) == (3, 0.03, 0.9)
    assert (step, of_epoch) == (3, {"epoch": 0.0, "train_loss": 0.0, "valid_loss": 0.5, "accuracy": 0.25})


def test_all_fits_are_one_run_of_wandb_until_it_is_finished(wandb: FakeWandb, tmp_path: Path) -> None:
    log, learn = WandbCallback(), FakeLearn(tmp_path)
    learn.fit(log, epochs=1)
    learn.fit(log, epochs=1)
    assert [step for step, _ in wandb.run.logged] == [3, 6]
    log.finish()
    log.finish()
    assert wandb.run is None
    learn.fit(log, epochs=1)
    assert [options["id"] for options in wandb.inits] == [None, "id1"]
    assert wandb.inits[1]["resume"] == "allow"


def test_a_resumed_training_goes_on_with_its_run_of_wandb(wandb: FakeWandb, tmp_path: Path) -> None:
    first = WandbCallback()
    FakeLearn(tmp_path).fit(first, epochs=1)
    first.finish()
    FakeLearn(tmp_path).fit(WandbCallback(), epochs=2, start=1, state=first.state_dict())
    assert wandb.inits[1]["id"] == "id1"
    assert [step for step, _ in wandb.run.logged] == [6]


def test_a_run_of_wandb_that_is_active_is_used_and_left_open(wandb: FakeWandb, tmp_path: Path) -> None:
    active = wandb.init(id="theirs")
    log = WandbCallback(params={"who": "me"})
    FakeLearn(tmp_path).fit(log, epochs=1)
    log.finish()
    assert wandb.run is active
    assert log.run_id == "theirs"
    assert wandb.inits[1]["who"] == "me"
    assert len(active.logged) == 1


def test_wandb_itself_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    pytest.importorskip("wandb")
    log = WandbCallback(mode="offline", dir=tmp_path, params={"who": "somebody"})
    learn = FakeLearn(tmp_path)
    learn.fit(log, epochs=2)
    learn.fit(log, epochs=1)
    log.finish()
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert str(log.run_id) in kept.name
    deadline = time.monotonic() + 60
    while (content := kept.read_bytes()).count(b"valid_loss") < 3 and time.monotonic() < deadline:
        time.sleep(0.05)  # its own process writes
    assert content.count(b"valid_loss") >= 3
    assert b"somebody" in content


@pytest.mark.parametrize(("kind", "name"), [(MLflowCallback, "mlflow"), (WandbCallback, "wandb")])
def test_without_the_package_the_extra_is_named(
    kind: Callable[[], Callback], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf"got no package '{name}' here.*drivetrain\[{name}\]"):
        kind()


def test_a_package_that_is_broken_says_so_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb.py").write_text("import no_such_part_of_it")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(ModuleNotFoundError, match="no_such_part_of_it"):
        WandbCallback()


def test_every_batches_is_checked(wandb: FakeWandb) -> None:
    with pytest.raises(InvalidConfig, match=r"WandbCallback\(every_batches\): got 0"):
        WandbCallback(every_batches=0)


def test_of_several_processes_the_first_alone_tells(
    wandb: FakeWandb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, shown = FakeMlflow(), []
    monkeypatch.setitem(sys.modules, "mlflow", fake)  # type: ignore[arg-type]
    for number in (1, 0):
        learn = FakeLearn(tmp_path / str(number))
        learn.processes.share = (number, 2)
        for log in (CSVLogger(), MLflowCallback(every_batches=1), WandbCallback(), ShowGraphCallback(shown.append)):
            learn.fit(log, epochs=1)
        told = [learn.path.exists(), len(fake.runs), len(wandb.inits), len(shown)]
        assert told == ([False, 0, 0, 0] if number else [True, 1, 1, 1])


# The figure that grows


def test_the_graph_is_shown_after_every_epoch(tmp_path: Path) -> None:
    shown: list[Figure] = []
    FakeLearn(tmp_path).fit(ShowGraphCallback(shown.append), epochs=3)
    assert [len(figure.axes[0].lines[1].get_xdata()) for figure in shown] == [3, 6, 9]  # type: ignore[arg-type]


def test_the_graph_takes_its_own_place_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    handle = SimpleNamespace(update=lambda figure: events.append("update"))

    def display(figure: Figure, *, display_id: bool) -> Any:
        events.append("display")
        return handle

    shell = SimpleNamespace(kernel=object())
    fake = SimpleNamespace(get_ipython=lambda: shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", fake)  # type: ignore[arg-type]
    graph, learn = ShowGraphCallback(), FakeLearn(tmp_path)
    learn.fit(graph, epochs=3)
    learn.fit(graph, epochs=1)
    assert events == ["display", "update", "update", "display"]
