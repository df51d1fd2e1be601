"""A store for each kind of database: SQLite always, PostgreSQL where DRIVETRAIN_TEST_POSTGRES names one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivetrain.store.database import connect
from drivetrain.store.store import Store, open_store

# read before the fixture of all tests clears what starts with DRIVETRAIN_
POSTGRES_URL = os.environ.get("DRIVETRAIN_TEST_POSTGRES")


class Clock:
    """Seconds since 1970 that move when they are told to."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _postgres_url() -> Iterator[str]:
    """A schema of its own in the database that was named, gone afterwards."""
    if not POSTGRES_URL:
        pytest.skip("set DRIVETRAIN_TEST_POSTGRES to postgresql://USER:PASSWORD@HOST/NAME")
    schema = f"t{uuid.uuid4().hex}"
    database = connect(POSTGRES_URL)
    with database.write() as db:
        db.exec_driver_sql(f"CREATE SCHEMA {schema}")
    yield f"{POSTGRES_URL}{'&' if '?' in POSTGRES_URL else '?'}options=-csearch_path%3D{schema}"
    with database.write() as db:
        db.exec_driver_sql(f"DROP SCHEMA {schema} CASCADE")
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=[pytest.mark.slow, pytest.mark.postgres])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/data/drivetrain.db"
    else:
        yield from _postgres_url()


@pytest.fixture
def store(url: str, clock: Callable[[], float], tmp_path: Path) -> Iterator[Store]:
    with open_store(url, clock=clock, images=f"{tmp_path}/pictures") as opened:
        yield opened
