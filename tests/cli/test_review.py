"""`drivetrain review`, as it is typed."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from drivetrain.store.store import open_store

from .runner import run


def _flows(name: str) -> ModuleType:
    """tests/flows/NAME.py, as part of that folder; the folders of tests are no packages of one another."""
    package, folder = "flows_for_cli", Path(__file__).parents[1] / "flows"
    if package not in sys.modules:
        init = folder / "__init__.py"
        spec = importlib.util.spec_from_file_location(package, init, submodule_search_locations=[str(folder)])
        assert spec
        assert spec.loader
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}.{name}")


_QUEUE = _flows("review_queue")


@pytest.fixture
def db(tmp_path: Path) -> str:
    """Two roll-outs, the one with two pictures that wait, the other with none."""
    url = f"sqlite:///{tmp_path}/d.db"
    with open_store(url) as store:
        bundle = _flows("rollout_traffic").write_bundle(tmp_path / "bears.dt")
        bears = _QUEUE.start(store, bundle)
        for due_s in (600.0, 90_000.0):
            _QUEUE.ask(store, bears, due_s=due_s)
    return url


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    for label, colour in (("circle", "red"), ("square", "lime")):
        (tmp_path / "gold" / label).mkdir(parents=True)
        (tmp_path / "gold" / label / "1.png").write_bytes(_QUEUE.draw(colour))
    return tmp_path / "gold"


def test_where_pictures_wait(db: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("review", "--db", db) == 0
    said = "2 pictures wait for a person, 1 of them due within the hour.\nhttp://127.0.0.1:8000/review\n"
    assert capsys.readouterr().out == said
    monkeypatch.setenv("DRIVETRAIN_PORT", "8123")
    monkeypatch.setenv("DRIVETRAIN_HOST", "0.0.0.0")
    assert run("review", "bears", "--db", db) == 0
    assert capsys.readouterr().out.splitlines()[1] == "http://127.0.0.1:8123/review?rollout=bears"
    monkeypatch.setenv("DRIVETRAIN_HOST", "::1")
    assert run("review", "--db", db) == 0
    assert capsys.readouterr().out.splitlines()[1] == "http://[::1]:8123/review"
    assert run("review", "--db", db, "--url", "https://bears.example/x/", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["url"] == "https://bears.example/x/review"
    assert (told["open"], told["due_soon"], told["late"]) == (2, 1, 0)
    assert told["oldest_s"] >= 0
    assert run("review", "cats", "--db", db) == 1
    assert "There are: bears." in capsys.readouterr().err


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_page_opens_at_a_terminal(
    db: str, is_terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    assert run("review", "--db", db) == 0
    assert opened == []
    assert run("review", "--db", db, "--open") == 0
    assert opened == (["http://127.0.0.1:8000/review"] if is_terminal else [])


def test_pictures_of_known_label(db: str, gold: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (gold / "circle" / "broken.png").write_bytes(b"no picture")
    assert run("review", "gold", gold, "--db", db) == 0
    told = capsys.readouterr()
    assert told.out.startswith("Added 2 pictures of known label for the reviewers of bears.\n")
    assert "not readable, left out: circle/broken.png" in told.err
    assert run("review", "gold", gold, "--db", db, "--rollout", "bears", "--threads", "1", "--json") == 0
    again: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert again == {"rollout": "bears", "added": {}, "known": 2, "unreadable": ["circle/broken.png"]}
    assert run("review", "--db", db) == 0
    assert capsys.readouterr().out.startswith("2 pictures wait")  # they are no work
    with open_store(db) as store:
        assert [event.subject for event in store.audit.list(action="review.gold")] == ["bears", "bears"]
    assert run("review", "gold", gold, "--db", db, "--rollout", "cats") == 1


def test_what_makes_no_sense(db: str, gold: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["bears", str(gold)], ["bears", "--rollout", "bears"]):
        assert run("review", *wrong, "--db", db) == 2
        assert "without gold" in capsys.readouterr().err
    assert run("review", "--db", "none") == 2
