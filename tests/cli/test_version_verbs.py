"""`versions` and `forget`, as they are typed."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
import typer

from drivetrain.store.ids import new_id
from drivetrain.store.predictions import Stored
from drivetrain.store.store import open_store

from .runner import run as run_here

DAY_S = 86_400.0


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Run(Protocol):
    def __call__(self, *args: str | Path) -> Done: ...


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/d.db"


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A verb with its database; what it reads is no terminal."""

    def call(*args: str | Path) -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        code = run_here(*args, "--db", url)
        return Done(code, *capsys.readouterr())

    return call


def write(path: Path, **sections: Any) -> Path:
    key = "cli_forge_bundle"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, Path(__file__).parents[1] / "bundle" / "forge.py")
        assert spec
        assert spec.loader
        sys.modules[key] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[key])
    path.write_bytes(sys.modules[key].tiny_parts().changed(**sections).archive())
    return path


def measured(accuracy: float) -> dict[str, Any]:
    return {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.05}


def test_versions_from_registering_to_comparing(run: Run, url: str, tmp_path: Path) -> None:
    assert "No versions yet" in run("versions", "list").stderr
    first = write(tmp_path / "a.dt", evaluation=measured(0.8))
    second = write(tmp_path / "b.dt", evaluation=measured(0.85), training={"n_train": 1234})
    made = run("versions", "register", first, "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["is_new"], told["path"], told["is_live"]) == (True, str(first), False)
    again = run("versions", "register", first)
    assert "registered before" in again.stderr
    run("versions", "register", second)

    lines = run("versions", "list").stdout.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\S+@[0-9a-f]{12}  registered \d{4}-.* accuracy 80\.0 %  /.*a\.dt", lines[0])
    assert "1,234 pictures  accuracy 85.0 %" in lines[1]
    listed = json.loads(run("versions", "list", "--json").stdout)["versions"]
    assert [one["path"] for one in listed] == [str(first), str(second)]
    assert run("versions", "list", "--model", "none such").stdout == ""

    shown = run("versions", "compare", listed[0]["version"], listed[1]["digest"][:8]).stdout
    assert re.search(r"accuracy +80\.0 \(70\.0 to 85\.0\) +85\.0 \(75\.0 to 90\.0\) +\+5\.0", shown)
    assert "measured on different pictures" in shown
    found = json.loads(run("versions", "compare", str(first), str(second), "--json").stdout)
    assert found["measures"][0]["name"] == "accuracy"
    assert found["measures"][0]["difference"] == pytest.approx(0.05)
    with open_store(url) as store:
        assert [event.subject for event in store.audit.list(action="version.register")] == [
            listed[1]["version"], listed[0]["version"],
        ]  # fmt: skip


def test_a_version_that_is_not_there(run: Run, tmp_path: Path) -> None:
    done = run("versions", "compare", "a", "b", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "not_found"
    assert run("versions", "register", tmp_path / "absent.dt").returncode == 1


def fill(url: str, *, at: float, data: bytes) -> str:
    with open_store(url, clock=lambda: at) as store:
        sha256 = store.images.put(data)
        store.predictions.add(
            Stored(
                id=new_id(),
                at=at,
                model="m",
                version="v",
                caller_id="c",
                request_id="r",
                name="anna.jpg",
                sha256=sha256,
                answer={"label": "x"},
            )
        )
    return sha256


def names(url: str) -> list[str]:
    with open_store(url) as store:
        return [one.name for one in reversed(store.predictions.recent())]


def test_a_picture_is_forgotten_by_its_sha256_or_its_file(run: Run, url: str, tmp_path: Path) -> None:
    now = time.time()
    shas = [fill(url, at=now + i, data=b"picture %d" % i) for i in range(3)]
    done = run("forget", "--image", shas[0].upper(), "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "pictures": 1, "answers": 1, "notes": 0, "reviews": 0, "is_compact": True, "copies": [],
    }  # fmt: skip
    (tmp_path / "one.jpg").write_bytes(b"picture 1")
    assert (
        "Forgotten: 1 pictures, the names of 1 answers, 0 notes."
        in run("forget", "--image", tmp_path / "one.jpg", "--yes").stdout
    )
    assert names(url) == ["", "", "anna.jpg"]
    with open_store(url) as store:
        assert [store.images.get(one) is not None for one in shas] == [False, False, True]
        event = store.audit.list(action="forget")[-1]
        assert (event.subject, event.detail) == (shas[0], {"pictures": 1, "answers": 1, "notes": 0, "reviews": 0})


@pytest.mark.parametrize("before", ["2001-09-20", "2001-09-20T00:00:00+00:00", "2001-09-19T19:00:00-05:00", "{days}d"])
def test_what_came_before_a_time_is_forgotten(run: Run, url: str, before: str) -> None:
    day = 1_000_944_000.0  # 2001-09-20 UTC
    old, new = fill(url, at=day - 1, data=b"old"), fill(url, at=day + DAY_S, data=b"new")
    days = int((time.time() - day) // DAY_S)
    done = run("forget", "--before", before.format(days=days), "--yes")
    assert done.returncode == 0, done.stderr
    assert names(url) == ["", "anna.jpg"]
    with open_store(url) as store:
        assert [store.images.get(one) is not None for one in (old, new)] == [False, True]


def test_nothing_is_forgotten_unasked(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = fill(url, at=time.time(), data=b"kept")
    for extra in ([], ["--json"]):
        done = run("forget", "--image", sha256, *extra)
        assert done.returncode == 2
        assert "nobody to ask whether to forget 1 pictures, the names of 1 answers" in done.stderr
    asked: list[str] = []

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def ask(answer: bool) -> int:
        monkeypatch.setattr("sys.stdin", Terminal())
        monkeypatch.setattr(typer, "confirm", lambda text, **_: asked.append(text) or answer)
        return run_here("forget", "--image", sha256, "--db", url)

    assert ask(False) == 1
    assert names(url) == ["anna.jpg"]
    assert ask(True) == 0
    assert names(url) == [""]
    assert asked == ["Go on?"] * 2


def test_copies_beside_the_file_are_named(run: Run, url: str, tmp_path: Path) -> None:
    sha256 = fill(url, at=time.time(), data=b"x")
    (tmp_path / "d.db.before-restore.1").write_bytes(b"")
    assert f"still whole: {tmp_path}/d.db.before-restore.1" in run("forget", "--image", sha256, "--yes").stderr


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "neither --image nor --before"),
        (["--image", "a" * 64, "--before", "1d"], 2, "or both"),
        (["--image", "abc"], 1, "want a sha256 of 64 digits, or a file"),
        (["--before", "yesterday"], 1, "want a day such as 2026-01-31"),
        (["--before", "9999-01-01"], 1, "which is to come"),
    ],
)
def test_misuse(run: Run, args: Sequence[str], code: int, said: str) -> None:
    done = run("forget", *args, "--yes")
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_a_sha256_that_was_never_kept_forgets_its_names(run: Run, url: str) -> None:
    """Pictures without a roll-out are not kept, but their names are."""
    sha256 = hashlib.sha256(b"y").hexdigest()
    with open_store(url) as store:
        store.predictions.add(
            Stored(
                id=new_id(),
                at=1.0,
                model="m",
                version="v",
                caller_id="c",
                request_id="r",
                name="anna.jpg",
                sha256=sha256,
                answer={},
            )
        )
    assert "0 pictures, the names of 1 answers" in run("forget", "--image", sha256, "--yes").stdout
    assert names(url) == [""]
