"""Several processes on one port: they answer and count together, and outlive one another."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import httpx
import pytest

from drivetrain.errors import (
    BundleRefused,
    DrivetrainError,
    InvalidConfig,
    MissingExtra,
    NotFound,
    Unavailable,
)
from drivetrain.serve.process.launch import Launch
from drivetrain.serve.process.listen import listen_on
from drivetrain.serve.process.supervisor import Supervisor, told, untold
from drivetrain.store.store import open_store

from . import tiny
from .fakes import settings
from .processes import Clients, Served, poll
from .test_metrics import value

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes through /proc")

TOTAL = "drivetrain_http_requests_total"
PREDICT = {"route": "/predict", "method": "POST", "code": "200"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tiny.write(tmp_path, "tiny", tiny.archive())


def test_they_share_the_port_the_counters_and_the_store(bundle: Path, tmp_path: Path) -> None:
    with Served(tmp_path, bundle, "--workers", 2, "--log-format", "json") as server:
        server.until_ready()
        assert len(server.workers()) == 2
        ids = [str(server.post().json()["prediction_id"]) for _ in range(40)]
        assert '"worker": 0' in server.said
        assert '"worker": 1' in server.said
        poll(lambda: value(server.metrics(), TOTAL, **PREDICT) == 40)
        text = server.metrics()
        assert value(text, "drivetrain_inference_items_total", outcome="success") == 40
        assert value(text, "drivetrain_inference_pending_items") == 0
        assert value(text, "drivetrain_model_ready", model_name="tiny") == 1
        assert server.end() == 0
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:
        assert all(store.predictions.get(one) for one in ids)


def test_kill_9_under_load_costs_only_what_that_worker_had_in_hand(bundle: Path, tmp_path: Path) -> None:
    with Served(tmp_path, bundle, "--workers", 2) as server:
        server.until_ready()
        clients = Clients(server.url, 6)
        poll(lambda: len(clients.answers) > 100)
        before = value(server.metrics(), TOTAL, **PREDICT) or 0
        victim, *others = server.workers()
        os.kill(victim, signal.SIGKILL)
        killed_at = len(clients.answers)
        poll(lambda: len(clients.answers) > killed_at + 100)  # the other one goes on
        poll(lambda: "answers again" in server.said)
        assert victim not in server.workers()
        assert len(server.workers()) == 2
        back_at = len(clients.answers)
        poll(lambda: len(clients.answers) > back_at + 100)
        clients.stop()
        assert all(len(failed) <= 1 for failed in clients.failed), clients.failed  # one request a connection
        assert not any("refused" in failed for failed in clients.failed)
        assert all(httpx.get(f"{server.url}/health/ready").status_code == 200 for _ in range(20))
        after = value(server.metrics(), TOTAL, **PREDICT) or 0
        assert after >= before  # what the dead one had counted is still counted
        assert abs(after - len(clients.answers)) <= 6
        assert value(server.metrics(), "drivetrain_inference_pending_items") == 0
        assert others[0] in server.workers()
        assert server.end() == 0


def test_sigterm_under_load_fails_no_request_of_those_who_look_at_readiness(bundle: Path, tmp_path: Path) -> None:
    with Served(tmp_path, bundle, "--workers", 2, env={"DRIVETRAIN_SHUTDOWN_WAIT_S": "5"}) as server:
        server.until_ready()
        workers = server.workers()
        clients = Clients(server.url, 4)
        poll(lambda: len(clients.answers) > 50)
        server.process.send_signal(signal.SIGTERM)
        poll(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503)
        seen = len(clients.answers)
        poll(lambda: len(clients.answers) > seen)  # a balancer takes a moment to see it
        clients.stop()
        assert clients.failed == [[]] * 4
        assert server.process.wait(timeout=60) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def test_without_their_supervisor_the_workers_end(bundle: Path, tmp_path: Path) -> None:
    with Served(tmp_path, bundle, "--workers", 2) as server:
        server.until_ready()
        workers = server.workers()
        server.process.kill()
        server.process.wait()
        poll(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
        with pytest.raises(httpx.ConnectError):
            server.post()


def test_a_model_that_an_admin_loads_is_loaded_by_all_and_by_those_that_start_again(
    bundle: Path, tmp_path: Path
) -> None:
    tiny.write(tmp_path / "more", "second", tiny.archive("second"))
    with Served(tmp_path, bundle, "--workers", 2, "--models", tmp_path / "more") as server:
        server.until_ready()

        def statuses() -> set[int]:
            return {httpx.get(f"{server.url}/v2/models/second/ready").status_code for _ in range(30)}

        assert statuses() == {404}
        assert httpx.post(f"{server.url}/v2/repository/models/second/load").status_code == 200
        poll(lambda: statuses() == {200})
        os.kill(server.workers()[0], signal.SIGKILL)
        poll(lambda: "answers again" in server.said)
        assert statuses() == {200}
        assert httpx.post(f"{server.url}/v2/repository/models/second/unload").status_code == 200
        poll(lambda: statuses() == {404})
        assert server.end() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_refused_bundle_ends_it_with_1_and_the_same_words(workers: int, bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(bytes(content))
    with Served(tmp_path, bundle, "--workers", workers) as server:
        assert server.process.wait(timeout=90) == 1
        assert [line for line in server.said.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in server.said
        assert not server.workers()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_setting_that_is_off_ends_it_with_2(workers: int, bundle: Path, tmp_path: Path) -> None:
    env = {"DRIVETRAIN_QUEUE_MAX_PICTURES": "1", "DRIVETRAIN_WORKERS": str(workers)}
    with Served(tmp_path, bundle, "--log-format", "xml", env=env) as server:
        assert server.process.wait(timeout=90) == 2
        assert "error: log_format: got xml; want text or json." in server.said


@pytest.mark.parametrize("workers", [1, 2])
def test_open_to_others_without_a_key_it_does_not_start(workers: int, bundle: Path, tmp_path: Path) -> None:
    with Served(tmp_path, bundle, "--workers", workers, "--host", "0.0.0.0") as server:
        assert server.process.wait(timeout=90) == 2
        assert "error: host: got 0.0.0.0" in server.said
    with Served(tmp_path, bundle, "--workers", workers, "--host", "0.0.0.0", "--insecure") as server:
        server.until_ready()
        assert server.said.count("WARNING: --insecure") == 1
        assert server.end() == 0


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("when", ["at once", "once ready"])
def test_ctrl_c_ends_it_with_0_and_no_traceback(workers: int, when: str, bundle: Path, tmp_path: Path) -> None:
    with Served(tmp_path, bundle, "--workers", workers) as server:
        if when == "once ready":
            server.until_ready()
        else:
            poll(lambda: len(server.workers()) == workers or (workers == 1 and "sits at this machine" in server.said))
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=90) == 0
        assert "Traceback" not in server.said
        assert not server.workers()


def test_two_bundles_of_one_name_stand_side_by_side(bundle: Path, tmp_path: Path) -> None:
    other = tiny.write(tmp_path, "newer", tiny.archive(seed=7))
    with Served(tmp_path, bundle, other) as server:
        server.until_ready()
        versions = httpx.get(f"{server.url}/v2/models/tiny").json()["versions"]
        assert len(versions) == 2


def test_the_processes_divide_threads_and_queue() -> None:
    given = settings(threads=8, workers=3, queue_max_pictures=64, request_max_pictures=16)
    part = Launch(bundles=(), settings=given).share().settings
    assert (part.threads, part.queue_max_pictures, part.workers) == (2, 22, 3)
    given = settings(threads=1, workers=4, queue_max_pictures=64, request_max_pictures=32)
    part = Launch(bundles=(), settings=given).share().settings
    assert (part.threads, part.queue_max_pictures) == (1, 32)  # a request of allowed size finds room


@pytest.mark.parametrize(
    "error",
    [
        BundleRefused("bundle_zip", "x.dt", got="no zip", want="a bundle"),
        NotFound("model", got="x.dt", want="a .dt file", hint="Make one."),
        InvalidConfig("host", got="nowhere", want="an address"),
        Unavailable("db", got="no answer", want="a database"),
    ],
)
def test_an_error_is_told_between_processes(error: DrivetrainError) -> None:
    again = untold(told(error))
    assert (type(again), again.code, again.message) == (type(error), error.code, error.message)


def test_an_error_that_takes_other_words_becomes_unavailable() -> None:
    again = untold(told(MissingExtra("the database", package="psycopg", extra="postgres")))
    assert isinstance(again, Unavailable)
    assert "drivetrain[postgres]" in again.message


def test_one_that_keeps_dying_waits_ever_longer(tmp_path: Path) -> None:
    now = [0.0]
    launch = Launch(bundles=(), settings=settings(workers=2))
    with listen_on("127.0.0.1", 0) as listener:
        boss = Supervisor(
            launch, listener, metrics=tmp_path, on_ready=lambda _: None, say=lambda _: None, clock=lambda: now[0]
        )
        boss._was_ready = True
        worker = boss._workers[0]
        waits = []
        for _ in range(10):
            worker.begun = now[0]
            now[0] += 1.0
            boss._mourn(worker, -9)
            waits.append(worker.start_at - now[0])
        assert waits[:4] == [0.0, 0.5, 1.0, 2.0]
        assert waits[-1] == 30.0
        worker.is_ready, worker.begun = True, now[0]
        now[0] += 60.0  # it ran for a while: what comes is another story
        boss._mourn(worker, -9)
        assert worker.start_at == now[0]
        boss._selector.close()


def test_workers_that_never_start_end_the_server(tmp_path: Path) -> None:
    launch = Launch(bundles=(), settings=settings(workers=1))
    with listen_on("127.0.0.1", 0) as listener:
        boss = Supervisor(
            launch, listener, metrics=tmp_path, on_ready=lambda _: None, say=lambda _: None, clock=time.monotonic
        )
        for _ in range(3):
            boss._mourn(boss._workers[0], -11)
        assert boss._refused is not None
        assert "by signal 11 before it was ready, 3 times" in boss._refused.message
        boss._selector.close()
