"""The script that gives a command a PostgreSQL of its own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent / "postgres.py"
TELL = "import os, sys; sys.exit(7 if os.environ.get('DRIVETRAIN_TEST_POSTGRES', '') == sys.argv[1] else 8)"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("postgres_script", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_that_is_named_is_taken(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(script.NAME, "postgresql://somewhere")
    monkeypatch.setattr(script, "find_programs", lambda: pytest.fail("looked for another"))
    assert script.main([sys.executable, "-c", TELL, "postgresql://somewhere"]) == 7


def test_where_none_can_be_had_it_says_how_and_goes_on(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv(script.NAME, raising=False)
    monkeypatch.setattr(script, "INSTALLED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert script.main([sys.executable, "-c", TELL, ""]) == 7
    told = capfd.readouterr().err
    assert "Without PostgreSQL: it is not installed, and only root can, with apt-get. Its tests will skip." in told
    assert "apt-get install postgresql" in told


def test_the_newest_of_those_installed_is_taken(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "INSTALLED", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for version in ("9.6", "15", "17"):
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for name in ("initdb", "pg_ctl") if version != "17" else ("pg_ctl",):  # of 17 only the client is there
            (folder / name).write_bytes(b"")
    assert script.find_programs() == tmp_path / "15" / "bin"


def test_it_wants_a_command(script: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    assert script.main([]) == 2
    assert "python tests/postgres.py COMMAND" in capfd.readouterr().err
