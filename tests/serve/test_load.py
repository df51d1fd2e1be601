"""Many clients over real sockets: everyone gets their own, and a full server says so at once."""

from __future__ import annotations

import asyncio
import random

import httpx

from drivetrain.runtime.batch_types import Tuning
from drivetrain.serve.server import start_server

from .fakes import WAIT_S, FakeModel, make_app, pending, picture

CLIENTS, EACH = 16, 25
WANTED = {"red": [], "blue": ["unknown", "shifted"], "lime": ["low_confidence"]}


async def one_client(url: str, number: int) -> int:
    """Pictures one at a time, in forms, and broken ones; how many were answered."""
    rng, answered = random.Random(number), 0
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_S) as session:
        for at in range(EACH):
            names = {f"{number}-{at}-{i}": rng.choice([*WANTED, ""]) for i in range(rng.choice((1, 1, 3)))}
            files = [("f", (name, picture(colour) if colour else b"no picture")) for name, colour in names.items()]
            reply = await session.post("/predict", files=files)
            assert reply.status_code == 200
            for (name, colour), told in zip(names.items(), reply.json()["predictions"], strict=True):
                assert told["name"] == name
                assert told["error"]["field"] == name if not colour else told["reasons"] == WANTED[colour]
                answered += 1
    return answered


def test_sixteen_clients_each_get_their_own() -> None:
    app = make_app(FakeModel(tuning=Tuning(workers=3, sessions=2, max_size=4)), threads=2)

    async def go(url: str) -> list[int]:
        return await asyncio.gather(*(one_client(url, number) for number in range(CLIENTS)))

    with start_server(app) as running:
        assert sum(asyncio.run(go(running.url))) > CLIENTS * EACH
        assert pending(app) == 0


def test_more_than_fit_are_told_when_to_come_again_and_then_get_in() -> None:
    app = make_app(threads=1, queue_max_pictures=4, request_max_pictures=4)

    async def insist(session: httpx.AsyncClient, number: int) -> int:
        refused = 0
        while True:
            reply = await session.post(
                f"/predict?name={number}", content=picture(), headers={"Content-Type": "image/png"}
            )
            if reply.status_code == 200:
                assert reply.json()["name"] == str(number)
                return refused
            assert (reply.status_code, int(reply.headers["Retry-After"]) >= 1) == (429, True)
            refused += 1
            await asyncio.sleep(0.001)

    async def go(url: str) -> list[int]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=url, timeout=WAIT_S, limits=limits) as session:
            return await asyncio.gather(*(insist(session, number) for number in range(200)))

    with start_server(app) as running:
        refused = asyncio.run(go(running.url))
        assert (len(refused), sum(refused) > 0) == (200, True)
        assert pending(app) == 0
