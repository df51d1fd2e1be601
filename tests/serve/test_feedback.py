"""Whose voice on an answer is heard, and what it may say of several values."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from drivetrain.serve import answers
from drivetrain.store import predictions
from drivetrain.store.predictions import Predictions, Stored
from drivetrain.store.store import open_store

from .doors import Door, open_door
from .fakes import picture
from .values import TwoValues


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path, address_rate_limit=0) as opened:
        yield opened


def ask(caller: Door) -> str:
    reply = caller.post("/predict", content=picture(), headers={"Content-Type": "image/png"})
    return str(reply.json()["prediction_id"])


def judge(caller: Door, prediction_id: str, **body: Any) -> httpx.Response:
    return caller.post(f"/feedback/{prediction_id}", json=body or {"verdict": "right"})


def voices(door: Door, prediction_id: str) -> int:
    assert door.store is not None
    return len(door.store.feedback.list(prediction_id))


def test_only_who_asked_and_who_reviews_is_heard(door: Door) -> None:
    """Any key could speak of any other's answers, and its voice was counted like theirs."""
    shop, other = door.with_key("predict"), door.with_key("predict")
    asked = ask(shop)
    refused = judge(other, asked)
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "role review beside predict" in refused.json()["message"]
    assert voices(door, asked) == 0
    for heard in (shop, door.with_key("predict", "review"), door.with_key("admin")):
        assert judge(heard, asked).status_code == 200
    assert voices(door, asked) == 3
    assert judge(door.with_key("review"), asked).status_code == 403  # by the table: the path needs predict


def test_a_person_is_heard_on_what_they_asked_alone(door: Door) -> None:
    ann, ben, ada = (
        door.person("ann", "predict"), door.person("ben", "predict"), door.person("ada", "predict", "review")
    )  # fmt: skip
    headers = {"Content-Type": "image/png", "X-CSRF-Token": ann.csrf()}
    asked = str(ann.post("/predict", content=picture(), headers=headers).json()["prediction_id"])
    for person, status in ((ann, 200), (ben, 403), (ada, 200)):
        said = person.post(f"/feedback/{asked}", json={"verdict": "wrong"}, headers={"X-CSRF-Token": person.csrf()})
        assert said.status_code == status
    assert voices(door, asked) == 2


@pytest.mark.parametrize(
    ("label", "status"),
    [("3.25;-7", 200), ("3.25", 422), ("1;2;3", 422), ("3.25;wide", 422), ("1;", 422), ("1;nan", 422)],
)
def test_of_several_values_each_is_told(label: str, status: int, tmp_path: Path) -> None:
    with open_door(tmp_path, TwoValues()) as door:
        asked = ask(door)
        reply = judge(door, asked, verdict="wrong", label=label)
        assert reply.status_code == status
        if status == 422:
            assert "want 2 numbers as text, apart by ;" in reply.json()["message"]
        assert voices(door, asked) == (status == 200)


def test_an_answer_that_another_process_writes_in_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "_GATHER_S", 600.0)
    monkeypatch.setattr(predictions, "_ELSEWHERE_S", 600.0)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        elsewhere.predictions.flush()

    monkeypatch.setattr(answers.asyncio, "sleep", sleep)
    url = f"sqlite:///{tmp_path}/one.db"
    with open_store(url) as here, open_store(url) as elsewhere:
        given = Stored(
            id=Predictions.new_id(),
            at=1.0,
            model="bears",
            version="bears@0123456789ab",
            caller_id="local",
            request_id="r1",
            name="",
            sha256="0" * 64,
            answer={"label": "grizzly"},
        )
        elsewhere.predictions.add(given)
        assert here.predictions.get(given.id) is None
        assert asyncio.run(answers.find_remembered(here, given.id)) == given
        assert len(waited) == 1
        assert 0 < waited[0] <= 600
        assert asyncio.run(answers.find_remembered(here, Predictions.new_id())) is None
        assert len(waited) == 2
        assert asyncio.run(answers.find_remembered(here, given.id)) == given
        assert asyncio.run(answers.find_remembered(here, "../" + given.id)) is None
        assert len(waited) == 2
