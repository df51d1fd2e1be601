"""`rollout`, as it is typed."""

from __future__ import annotations

import importlib.util
import io
import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
import typer

from drivetrain.flows.premortem import QUESTIONS
from drivetrain.store.store import open_store

from .runner import run as run_here

GIVEN = ["--objective", "less work", "--cost-error", "10", "--cost-review", "0.5"]
SIGNED = ["--by", "ann", "--reason", "to try it"]
EASY = ["--bound", "0.1", "--n-min", "0", "--class-min", "0", "--hours-min", "0", "--day-hours-min", "0"]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Run(Protocol):
    def __call__(self, *args: str | Path) -> Done: ...


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/db/d.db"


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command of `rollout` with its database; what it reads is no terminal."""

    def call(*args: str | Path) -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        code = run_here("rollout", *args, "--db", url)
        return Done(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def made() -> Any:
    """The roll-outs that the tests of flows make."""
    spec = importlib.util.spec_from_file_location(
        "cli_rollout_traffic", Path(__file__).parents[1] / "flows" / "rollout_traffic.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bundle(made: Any, tmp_path: Path) -> Path:
    return made.write_bundle(tmp_path / "new.dt", seed=2)  # type: ignore[no-any-return]


def start(run: Run, bundle: Path, *args: str | Path, name: str = "shapes") -> Done:
    return run("start", name, "--candidate", bundle, *EASY, *GIVEN, *SIGNED, *args)


def fill(made: Any, url: str, n: int, **how: Any) -> None:
    """Requests from now on, all labelled."""
    import time

    clock = made.Clock()
    clock.now = time.time()
    with open_store(url, clock=clock) as store:
        made.Traffic(store, clock, store.deployments.get("shapes"), gap_s=0.0).send(n, **how)


def test_a_roll_out_as_it_is_typed(run: Run, made: Any, url: str, bundle: Path, tmp_path: Path) -> None:
    answers = tmp_path / "premortem.toml"
    answers.write_text("\n".join(f'{name} = "thought of"' for name in QUESTIONS))
    assert "No roll-outs yet" in run("status").stderr
    begun = start(run, bundle, "--premortem", answers)
    assert begun.returncode == 0, begun.stderr
    assert "beside people. Stage: manual." in begun.stdout
    assert begun.stderr == ""
    assert "not enough: Not enough evidence" in run("advance", "shapes", *SIGNED).stderr
    told = run("advance", "shapes", *SIGNED, "--dry-run")
    assert told.returncode == 1
    assert "missing  Not enough evidence yet" in told.stdout
    assert "shapes may not yet go from manual to limited." in told.stdout

    fill(made, url, 60)
    dry = run("advance", "shapes", *SIGNED, "--dry-run", "--json")
    assert (dry.returncode, dry.json["may"]) == (0, True)
    status = run("status", "shapes").stdout
    assert "shapes: manual" in status
    assert "next: limited, all is shown" in status
    facts = run("status", "shapes", "--json").json
    assert facts["evidence"]["whole"]["n_labelled"] == 60
    assert facts["config"]["objective"] == "less work"
    assert facts["costs"] == {"reviews": 30.0, "per_thousand": 0.0}
    moved = run("advance", "shapes", *SIGNED, "--json")
    assert (moved.json["before"], moved.json["after"]) == ("manual", "limited")
    assert run("hold", "shapes", *SIGNED).stdout == "shapes: limited -> limited, held\n"
    assert run("resume", "shapes", *SIGNED).stdout == "shapes: limited, held -> limited\n"
    assert run("rollback", "shapes", *SIGNED, "--json").json["after"] == "rolled back"
    lines = run("log", "shapes").stdout.splitlines()
    assert [line.split("  ")[3] if line.startswith(" ") else line for line in lines]
    assert [entry["action"] for entry in run("log", "shapes", "--json").json["entries"]] == [
        "start",
        "advance",
        "hold",
        "resume",
        "rollback",
    ]
    assert lines[1].endswith("ann  advance  manual -> limited  to try it")
    whole = run("verify", "shapes")
    assert "The ledger is whole: 5 entries" in whole.stdout
    assert run("verify", "shapes", "--json").json["is_whole"]
    assert run("status").stdout.startswith("shapes  rolled back  ")
    assert run("status", "--json").json["rollouts"][0]["stands"] == "rolled back"


def test_every_option_of_start_is_kept(run: Run, made: Any, tmp_path: Path) -> None:
    new = made.write_bundle(tmp_path / "new.dt", seed=2, datasheet="# empty")
    old = made.write_bundle(tmp_path / "old.dt")
    sheet = tmp_path / "datasheet.md"
    sheet.write_text(made.DATASHEET)
    options = {
        "bound": 0.07, "margin": 0.03, "alpha": 0.04, "harm_alpha": 0.02, "n_min": 11, "class_min": 3, "hours_min": 5.0,
        "day_hours_min": 4, "defer_max": 0.5, "fail_max": 0.02,
    }  # fmt: skip
    others = {
        "audit_share": 0.2, "second_share": 0.3, "due_hours": 6.0, "scope": "site=north", "objective": "o",
        "cost_error": 3.0, "cost_review": 1.0, "review_budget": 50.0, "traffic": 400.0,
    }  # fmt: skip
    given: list[str] = []
    for name, value in {**options, **others}.items():
        given += [f"--{name.replace('_', '-')}", str(value)]
    files = ["--candidate", new, "--incumbent", old]
    dry = run("start", "shapes", *files, *given, *SIGNED, "--dry-run", "--json")
    assert dry.returncode == 0, dry.stderr
    assert dry.json["id"] is None
    assert len(dry.json["config"]["open_questions"]) == 8
    assert dry.json["config"]["has_shadow"] is True
    parted = run("start", "shapes", *files, *given, *SIGNED, "--no-shadow", "--dry-run", "--json").json
    assert parted["config"]["has_shadow"] is False
    assert parted["plan"]["sentence"].startswith("Without shadow")
    assert run("status", "--json").json == {"rollouts": []}
    done = run("start", "shapes", *files, *given, *SIGNED, "--datasheet", sheet, "--json").json
    assert done["incumbent"].startswith("tiny@") or done["incumbent"]
    config = done["config"]
    assert config["gate"] == {**options, "has_incumbent": True}
    assert {name: config[name] for name in others} == others
    assert config["open_questions"] == []
    assert done["plan"]["days"] > 0
    assert "at your traffic" in done["plan"]["sentence"]


def test_a_version_of_another_model_is_refused(run: Run, made: Any, bundle: Path, tmp_path: Path) -> None:
    other = made.write_bundle(tmp_path / "other.dt", seed=7, name="other")
    done = run("start", "shapes", "--candidate", bundle, "--incumbent", other, *GIVEN, "--margin", "0.02", *SIGNED)
    assert done.returncode == 2
    assert "want a version of other" in done.stderr
    assert "train ... --name other" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--bound", "0.1"], "no --objective, --cost-error, --cost-review"),
        ([*GIVEN], "bound: got none"),
        ([*GIVEN, "--bound", "0.1", "--margin", "0.02"], "people are the incumbent"),
        ([*GIVEN, "--bound", "2"], "bound 2, not above 0 and below 1"),
        ([*GIVEN, "--bound", "0.1", "--scope", "class=zebra"], "a class of the model"),
        ([*GIVEN, "--bound", "0.1", "--audit-share", "0"], "audit_share 0, not above 0"),
        ([*GIVEN, "--bound", "0.1", "--no-shadow"], "scope: got everywhere, without shadow"),
    ],
)
def test_misuse_of_start(run: Run, bundle: Path, args: Sequence[str], said: str) -> None:
    done = run("start", "shapes", "--candidate", bundle, *args, *SIGNED)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_what_was_not_given_is_asked_at_a_terminal(
    url: str, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    answers = {
        "Objective": "fewer misses", "wrong decision": 7.0, "label cost": 2.0, "Where": "site=a", "a day": 30.0,
        "mistaken": "4", "How sure": "50",
    }  # fmt: skip

    def ask(text: str, **_: Any) -> Any:
        return next(answer for part, answer in answers.items() if part in text)

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(typer, "prompt", ask)
    assert run_here("rollout", "start", "shapes", "--candidate", str(bundle), *EASY, *SIGNED, "--db", url) == 0
    told = capsys.readouterr()
    assert "questions of the pre-mortem wait: drivetrain rollout premortem shapes" in told.err
    with open_store(url) as store:
        deployment = store.deployments.get("shapes")
    assert deployment is not None
    asked = ("objective", "cost_error", "cost_review", "scope", "review_budget")
    assert [deployment.config[name] for name in asked] == ["fewer misses", 7.0, 2.0, "site=a", 30.0]
    assert deployment.config["prior"] == [2.0, 48.0]
    assert deployment.config["prior_from"] == "expected 4 %, as sure as 50 pictures"

    monkeypatch.setattr(typer, "prompt", lambda text, **_: "so it is" if "who" in text.lower() else "")
    assert run_here("rollout", "premortem", "shapes", "--by", "bob", "--db", url) == 0
    shown = capsys.readouterr().out
    assert shown.count("so it is (bob)") == sum("who" in one.lower() for one in QUESTIONS.values())
    assert shown.count("not answered yet") == sum("who" not in one.lower() for one in QUESTIONS.values())


def test_the_premortem_from_a_file(run: Run, bundle: Path, tmp_path: Path) -> None:
    start(run, bundle)
    file = tmp_path / "a.toml"
    file.write_text('goes_wrong = "rust"\nnoticed = ""\n')
    kept = run("premortem", "shapes", "--by", "bob", "--answers", file, "--json").json["questions"]
    assert [one["name"] for one in kept if "answer" in one] == ["goes_wrong"]
    file.write_text('other = "x"')
    assert (
        "got other; want text for some of: goes_wrong"
        in run("premortem", "shapes", "--by", "bob", "--answers", file).stderr
    )
    file.write_text("no toml")
    assert "want a TOML file" in run("premortem", "shapes", "--by", "bob", "--answers", file).stderr
    assert run("premortem", "shapes", "--by", "b", "--answers", tmp_path / "none").returncode == 1
    assert run("premortem", "shapes", "--answers", file).returncode == 2
    assert "nobody to ask" in run("premortem", "shapes", "--by", "bob").stderr


def test_an_alert_is_closed(run: Run, url: str, bundle: Path) -> None:
    start(run, bundle)
    with open_store(url) as store:
        deployment = store.deployments.get("shapes")
        assert deployment is not None
        opened = store.alerts.open(deployment.id, "sample_ratio", "3 of 100")
    assert f"alert    {opened.id}  sample_ratio: 3 of 100" in run("status", "shapes").stdout
    assert run("alert", "close", opened.id, *SIGNED).stdout == f"Closed {opened.id}.\n"
    assert run("alert", "close", opened.id, *SIGNED, "--json").json["error"]["code"] == "conflict"
    assert run("alert", "open", opened.id, *SIGNED).returncode == 2
    assert run("status", "shapes", "--json").json["alerts"] == []


def test_a_ledger_that_was_changed_fails(run: Run, url: str, bundle: Path) -> None:
    from sqlalchemy import text

    start(run, bundle)
    with open_store(url) as store, store.database.write() as db:
        db.execute(text("UPDATE stage_event SET by = 'eve'"))
    done = run("verify", "shapes")
    assert (done.returncode, done.stdout) == (1, "The ledger is not whole: entry 1 was changed after it was written.\n")
    assert run("verify", "shapes", "--json").json["problem"] == "entry 1 was changed after it was written"


def test_rollback_without_a_database_leaves_a_file(run: Run, url: str, bundle: Path, tmp_path: Path) -> None:
    start(run, bundle)
    file = tmp_path / "db" / "d.db"
    kept = file.rename(tmp_path / "kept.db")
    file.mkdir()  # nothing can open it
    done = run("rollback", "shapes", *SIGNED)
    assert done.returncode == 0, done.stderr
    marker = tmp_path / "db" / "shapes.rolled-back"
    assert done.stdout == f"shapes: rolled back, by {marker}\n"
    assert run("rollback", "shapes", *SIGNED, "--json").json["marker"] == str(marker)
    file.rmdir()
    kept.rename(file)
    assert start(run, bundle, name="again").returncode == 0  # enters it first, else the model has one that goes on
    assert not marker.exists()
    assert run("log", "shapes", "--json").json["entries"][-1]["action"] == "rollback"


@pytest.mark.parametrize("command", ["status", "advance", "hold", "resume", "rollback", "log", "verify", "premortem"])
def test_a_roll_out_that_is_not_there(run: Run, command: str) -> None:
    signed = SIGNED if command in ("advance", "hold", "resume", "rollback") else []
    done = run(command, "nobody", *signed, "--json")
    assert (done.returncode, done.json["error"]["code"]) == (1, "not_found")


def test_a_report_is_written(run: Run, made: Any, url: str, bundle: Path, tmp_path: Path) -> None:
    start(run, bundle)
    page = tmp_path / "r.html"
    assert run("report", "shapes", "--out", page).stdout == f"{page}\n"
    fill(made, url, 3)
    again = run("report", "shapes", "-o", page, "--json")
    assert again.json["report"] == str(page)
    assert "3 more requests counted" in again.json["changes"][1]
    assert "3 more requests counted" not in run("report", "shapes", "-o", page).stdout
    assert "<h1>shapes</h1>" in page.read_text("utf-8")


def test_a_report_has_a_place_of_its_own(
    run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(run, bundle)
    monkeypatch.chdir(tmp_path)
    assert run("report", "shapes").stdout == "shapes-rollout.html\n"
    assert (tmp_path / "shapes-rollout.html").is_file()


def test_replay_as_it_is_typed(run: Run, made: Any, bundle: Path, tmp_path: Path) -> None:
    start(run, bundle)
    other = made.write_bundle(tmp_path / "other.dt", seed=5)
    told = run("replay", "shapes", "--threads", "1").stdout
    assert ": 0 pictures, 0 left to people\nof 0 decided and labelled: 0 wrong\n" in told
    first, second = (run("replay", "shapes", *args, "--json").json for args in ([], ["--candidate", other]))
    assert first["version"] != second["version"]


def test_a_prior_is_kept_and_shown_and_called_no_gate(run: Run, bundle: Path) -> None:
    assert start(run, bundle, "--prior", "expected 3 %, as sure as 100 pictures").returncode == 0
    status = run("status", "shapes").stdout
    assert "belief   shown, never a gate (expected 3 %, as sure as 100 pictures). Believed before: 3 % wrong" in status
    assert run("status", "shapes", "--json").json["belief"]["error"]["prior_right"] == 97.0


@pytest.mark.parametrize(
    ("prior", "said"), [("three", "want such as 'expected 3 %"), ("past", "an earlier roll-out of tiny with labels")]
)
def test_a_prior_that_cannot_be_had(run: Run, bundle: Path, prior: str, said: str) -> None:
    done = start(run, bundle, "--prior", prior)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_a_report_is_told_to_a_webhook(run: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(run, bundle)
    page = tmp_path / "r.html"
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        unsigned = run("report", "shapes", "-o", page, "--webhook", url)
        assert (unsigned.returncode, page.exists()) == (2, False)  # refused before anything is done
        assert "webhook_secret: got none" in unsigned.stderr
        monkeypatch.setenv("DRIVETRAIN_WEBHOOK_SECRET", "sixteen and more characters")
        assert run("report", "shapes", "-o", page, "--webhook", url).returncode == 0
        thread.join(10)
    body = json.loads(got[0])
    assert (body["event"], body["rollout"], body["report"]) == ("rollout.report", "shapes", str(page))
    again = run("report", "shapes", "-o", page, "--webhook", url)  # nobody listens there now
    assert (again.returncode, "webhook" in again.stderr) == (1, True)


def test_reports_go_on_until_they_are_stopped(run: Run, url: str, bundle: Path, tmp_path: Path) -> None:
    start(run, bundle)
    command = [sys.executable, "-m", "drivetrain", "rollout", "report", "shapes", "--every", "week"]
    command += ["--db", url, "-o", str(tmp_path / "r.html")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert re.match(r"The next report is due at \d{4}-\d\d-\d\d 00:00 UTC\.", process.stderr.readline())
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr.read() == "Stopped.\n"
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()
    assert not (tmp_path / "r.html").exists()
