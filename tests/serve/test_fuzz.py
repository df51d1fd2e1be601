"""Whatever is sent, the server answers or closes, in time and in bounded memory, and goes on."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from . import fuzz, tiny
from .processes import Served

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory in /proc")

SEED = 6
TIMEOUT_S = 5  # of the server, for a request
DEADLINE_S = 60.0  # of the client: the server's own, and a machine with much else to do
GROWTH_MAX = 150_000_000  # bytes, over an idle server: eight bodies in hand, decoded


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzz")
    bundle = tiny.write(folder, "tiny", tiny.archive())
    env = {
        "DRIVETRAIN_DB": "none",
        "DRIVETRAIN_REQUEST_TIMEOUT_S": str(TIMEOUT_S),
        "DRIVETRAIN_UPLOAD_TIMEOUT_S": str(2 * TIMEOUT_S),
        "DRIVETRAIN_IMAGE_MAX_PIXELS": "4000000",
        "DRIVETRAIN_IMAGE_MAX_BYTES": "5000000",
    }
    with Served(folder, bundle, env=env) as server:
        server.until_ready()
        yield server
        assert server.process.poll() is None, "it crashed"


def memory(server: Served, what: str) -> int:
    """VmRSS, or its highest value VmHWM, in bytes."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(what)))


def run(server: Served, numbers: range) -> list[fuzz.Outcome]:
    port = int(server.url.rpartition(":")[2])

    def one(number: int) -> fuzz.Outcome:
        return fuzz.send(fuzz.attempt(number, seed=SEED), port, deadline_s=DEADLINE_S)

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(one, numbers))


def check(server: Served, numbers: range) -> None:
    for _ in range(20):
        assert server.post().status_code == 200
    before = memory(server, "VmRSS")
    outcomes = run(server, numbers)
    odd = [
        (number, outcome)
        for number, outcome in zip(numbers, outcomes, strict=True)
        if outcome.is_hung or outcome.status == 500
    ]
    assert odd == []
    statuses = Counter(outcome.status for outcome in outcomes)
    assert statuses[200] > len(numbers) / 20  # many a damaged picture is a picture still
    assert statuses[422] > len(numbers) / 20
    assert memory(server, "VmHWM") - before < GROWTH_MAX
    assert httpx.get(f"{server.url}/health/ready").status_code == 200
    assert server.post().status_code == 200
    assert "Traceback" not in server.said
    assert not re.search(r"Z error ", server.said)  # libtiff writes lines of its own, which bear no time


def test_what_is_not_damaged_is_answered(server: Served) -> None:
    port = int(server.url.rpartition(":")[2])
    for kind, data in fuzz.pictures():
        for wrap in (fuzz.raw_body, fuzz.form_body, fuzz.json_body):
            assert fuzz.send(wrap(kind, data), port, deadline_s=DEADLINE_S).status == 200, kind


def test_the_series_is_the_same_each_time_and_holds_everything() -> None:
    made = [fuzz.attempt(number, seed=SEED) for number in range(500)]
    assert made == [fuzz.attempt(number, seed=SEED) for number in range(500)]
    kinds = {one.kind.split()[0].rstrip(":,") for one in made}
    assert kinds >= {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "bomb", "length", "form", "json", "endless", "drip"}


def test_a_share_of_the_bodies(server: Served) -> None:
    check(server, range(90, 240))


@pytest.mark.slow
def test_two_thousand_bodies(server: Served) -> None:
    check(server, range(2_000))


@pytest.mark.slow
def test_a_body_that_drips_for_ever_is_cut(server: Served) -> None:
    port = int(server.url.rpartition(":")[2])
    whole = fuzz.raw_body("drip", bytes(100_000))
    slow = fuzz.Attempt("drip", whole.head, [b"\0"] * 600, pause_s=0.1)
    outcome = fuzz.send(slow, port, deadline_s=2 * DEADLINE_S)
    assert outcome.status == 408
    assert httpx.get(f"{server.url}/health/ready").status_code == 200
