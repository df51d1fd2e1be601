"""The soak of the bench: it reads memory as it is, fails what fails, and holds a server of a few kilobytes to it."""

from __future__ import annotations

import importlib.util
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

from drivetrain.serve.server import start_server

from . import tiny
from .fakes import make_app, picture
from .processes import Served

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory in /proc")


def open_soak() -> ModuleType:
    """bench/soak.py: the bench is no part of the package, and need not be on the path."""
    spec = importlib.util.spec_from_file_location("soak_of_the_bench", Path(__file__).parents[2] / "bench" / "soak.py")
    assert spec
    assert spec.loader
    sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[spec.name])
    return sys.modules[spec.name]


soak = open_soak()


def given(**changed: float) -> Namespace:
    return Namespace(**{"minutes": 2 / 60, "share": 0.8, "workers": 1, "clients": 4, **changed})


def test_memory_that_grows_has_its_slope() -> None:
    memory = soak.Memory(pid=0)
    memory.samples = [(float(second), 200_000_000 + 50_000 * second) for second in range(600)]
    assert memory.slope() == pytest.approx(3.0)
    memory.samples = [(float(second), 100_000_000 if second < 60 else 250_000_000) for second in range(600)]
    assert memory.slope() == pytest.approx(0.0, abs=1e-6)  # what a start takes is no leak


def test_the_family_is_counted_whole(tmp_path: Path) -> None:
    bundle = tiny.write(tmp_path, "tiny", tiny.archive())
    with Served(tmp_path, bundle, "--workers", 2) as server:
        server.until_ready()
        found = soak.family(server.process.pid)
        assert sorted(found) == sorted([server.process.pid, *server.workers()])
        assert sum(map(soak.resident_bytes, found)) > 100_000_000
        assert server.end() == 0
    assert soak.resident_bytes(server.process.pid) == 0


def test_a_load_keeps_its_rate_and_tells_what_failed() -> None:
    with start_server(make_app(address_rate_limit=0)) as running:
        load = soak.Load(running.url, [picture(), b"no picture"], clients=2)
        load.run(2.0, rate=20.0)
    assert 20 <= sum(load.outcomes.values()) <= 42
    assert load.outcomes["200"] == len(load.seconds)
    assert abs(load.outcomes["200"] - load.outcomes["422"]) <= 1


@pytest.mark.parametrize("is_broken", [False, True])
def test_a_soak_holds_or_does_not(
    is_broken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "_FASTEST_S", 1.0)
    monkeypatch.setattr(soak, "_SLOPE_MAX", 1e9)  # of two seconds it says nothing
    bodies = [picture()] + [b"no picture"] * is_broken
    bundle = tiny.write(tmp_path, "tiny", tiny.archive())
    with Served(tmp_path, bundle) as server:
        server.until_ready()
        assert soak._soak(server.process.pid, server.url, bodies, given()) is not is_broken
    told = capsys.readouterr().out
    assert ("failed: none" in told) is not is_broken
    assert "p99" in told
    assert "MB a minute" in told
