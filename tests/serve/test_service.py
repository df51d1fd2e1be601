"""How answers are waited for between the event loop and the batcher's threads, and with which threads."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from drivetrain.arrays import FloatArray
from drivetrain.errors import DeadlinePassed, InvalidConfig, InvalidInput, MissingExtra
from drivetrain.flows.train import TrainResult
from drivetrain.runtime.batch_types import NO_METER, PictureJob, Tuning
from drivetrain.runtime.prediction import Answer, Prediction
from drivetrain.serve.app import create_app
from drivetrain.serve.batching import open_batcher, wait_for
from drivetrain.serve.bodies import ClientGone, Upload
from drivetrain.serve.model import open_bundle
from drivetrain.serve.service import Service

from .fakes import WAIT_S, BlockingModel, FakeModel, make_app, pending, picture, settings, until


async def silence() -> Any:
    """A client that stays and says nothing."""
    await asyncio.Event().wait()


async def hang_up() -> Any:
    return {"type": "http.disconnect"}


def answered(model: FakeModel | None = None) -> Future[Answer]:
    future: Future[Answer] = Future()
    future.set_result((model or FakeModel()).predict(picture(), name="a"))
    return future


def test_answers_and_errors_come_in_order() -> None:
    broken: Future[Answer] = Future()
    broken.set_exception(RuntimeError("its own"))

    async def go() -> None:
        first, second, third = await wait_for([answered(), broken, answered()], silence)
        assert isinstance(first, Prediction)
        assert isinstance(third, Prediction)
        assert isinstance(second, RuntimeError)

    asyncio.run(go())


@pytest.mark.parametrize("receive", [hang_up, silence], ids=["hangs up", "is cancelled"])
def test_who_leaves_cancels_what_has_not_begun(receive: Callable[[], Any]) -> None:
    futures: list[Future[Answer]] = [answered(), Future(), Future()]

    async def go() -> None:
        waiting = asyncio.ensure_future(wait_for(futures, receive))
        if receive is silence:
            await asyncio.sleep(0)
            waiting.cancel()
        with pytest.raises((ClientGone, asyncio.CancelledError)):
            async with asyncio.timeout(WAIT_S):
                await waiting

    asyncio.run(go())
    assert [future.cancelled() for future in futures] == [False, True, True]


def test_an_answer_that_comes_after_the_loop_has_gone_disturbs_nobody() -> None:
    late: Future[Answer] = Future()
    late.set_running_or_notify_cancel()  # as one that cannot be cancelled any more

    async def go() -> None:
        with pytest.raises(ClientGone):
            await wait_for([late], hang_up)

    asyncio.run(go())
    late.set_result(answered().result())


def test_an_answer_that_is_no_json_fails_alone() -> None:
    class Odd(FakeModel):
        def decide(self, logits: FloatArray, frozen: FloatArray, style: FloatArray | None) -> Prediction:
            return self._answer(float("nan") if logits[2] > logits[0] else 0.9)

    app = make_app(Odd())
    service, served = app.state.service, app.state.registry.get()
    uploads = [Upload("a", picture("red")), Upload("b", picture("blue"))]
    fine, odd = asyncio.run(service.answer(served, uploads, silence))
    assert isinstance(fine, Prediction)
    assert isinstance(odd, ValueError)


def test_pictures_are_named_and_rows_answered() -> None:
    model = FakeModel()
    app = make_app(model)
    service, served = app.state.service, app.state.registry.get()
    asyncio.run(service.answer(served, [Upload("", picture()), Upload("b.png", picture())], silence))
    assert model.seen == ["picture 1", "b.png"]
    colours = np.array([[250, 3, 3], [3, 3, 255]], dtype=np.float32).reshape(2, 3, 1, 1)
    red, blue = asyncio.run(service.answer_pixels(served, colours, silence))
    assert (red.reasons, blue.reasons) == ((), ("unknown", "shifted"))


def test_the_setting_for_a_requests_time_is_kept() -> None:
    model = BlockingModel()
    app = make_app(model, request_timeout_s=1, threads=1)
    service = app.state.service
    assert (Service.of(settings(request_timeout_s=7)).timeout_s, service.timeout_s) == (7, 1)
    [late] = asyncio.run(service.answer(app.state.registry.get(), [Upload("a", picture())], silence))
    assert isinstance(late, DeadlinePassed)
    model.release.set()
    asyncio.run(until(lambda: pending(app) == 0))


def test_settings_bound_the_queue_and_its_threads() -> None:
    batcher = open_batcher(FakeModel(), settings(threads=1, queue_max_pictures=2), NO_METER)
    assert batcher.tuning == Tuning(workers=1)
    batcher.check_room(3)
    with pytest.raises(InvalidInput, match="at most 3 at once"):
        batcher.check_room(4)
    batcher.close(drain_s=0)
    batcher = open_batcher(FakeModel(), settings(threads=4), NO_METER)
    assert (batcher.tuning.workers, batcher.tuning.sessions) == (5, 4)
    batcher.close(drain_s=0)
    batcher = open_batcher(FakeModel(tuning=Tuning(workers=2, max_size=3)), settings(threads=4), NO_METER)
    assert batcher.tuning == Tuning(workers=2, max_size=3)
    batcher.close(drain_s=0)


def test_a_thread_that_hangs_for_twice_a_requests_time_is_told() -> None:
    model = BlockingModel()
    app = make_app(model, request_timeout_s=1, threads=1)
    batcher = app.state.registry.get().batcher
    [future] = batcher.submit([PictureJob(picture(), "a")])
    asyncio.run(until(lambda: "more than 2 s" in str(batcher.why_not_ready())))
    model.release.set()
    assert future.result(WAIT_S).label == "amber"
    asyncio.run(until(lambda: batcher.why_not_ready() is None))


def test_a_bundle_is_opened_as_the_settings_say(trained: TrainResult, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "drivetrain.serve"):
        model = open_bundle(trained.bundle, settings(device="cpu", threads=2))
    assert "device: cpu was asked for, cpu is used: it was asked for" in caplog.text
    assert f"{trained.version}: 3 threads, 2 at a time" in caplog.text
    assert model.tuning is not None
    assert model.tuning.alone_threads == 2
    app = create_app(model, settings(threads=2))
    [answer] = asyncio.run(
        app.state.service.answer(app.state.registry.get(), [Upload("a", picture(size=(99, 99)))], silence)
    )
    assert answer == model.predict(picture(size=(99, 99)), name="a")
    with pytest.raises(MissingExtra, match="drivetrain\\[gpu\\]"):
        open_bundle(trained.bundle, settings(device="cuda"))
    with pytest.raises(InvalidConfig, match="device: got tpu"):
        open_bundle(trained.bundle, settings(device="tpu"))
