"""From every released revision, with data in it."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, Table, insert, select

from drivetrain.errors import Conflict
from drivetrain.store.database import Database, connect, revision_of
from drivetrain.store.schema import NEWEST
from drivetrain.store.store import open_store
from drivetrain.store.upkeep import backup, restore, upgrade

from .made import add, break_of, deployment, review, task

BODY = bytes(range(256))
# what a database of this revision may hold; each value must come through as it is
ROWS: dict[str, dict[str, list[dict[str, Any]]]] = {
    "0001": {
        "user_account": [
            {
                "id": "u1", "name": "Ann Müller", "name_key": "ann müller", "password_hash": "$argon2id$x",
                "roles": "admin,review", "created_at": 1.5, "created_by": "local", "password_changed_at": 2.25,
                "removed_at": None,
            },
            {
                "id": "u2", "name": "bob", "name_key": "bob", "password_hash": "y", "roles": "review",
                "created_at": 1.0, "created_by": "user:u1", "password_changed_at": 1.0, "removed_at": 9.0,
            },
        ],
        "api_key": [
            {
                "id": "k1", "name": "camera", "secret_sha256": "a" * 64, "roles": "predict", "created_at": 1.0,
                "created_by": "local", "expires_at": 3e9, "revoked_at": None, "used_at": 60.0,
            }
        ],
        "session": [
            {"token_sha256": "b" * 64, "user_id": "u1", "api_key_id": None, "created_at": 1.0, "seen_at": 2.0,
             "address": "::1"},
            {"token_sha256": "c" * 64, "user_id": None, "api_key_id": "k1", "created_at": 1.0, "seen_at": 2.0,
             "address": ""},
        ],
        "audit": [
            {"id": "a1", "at": 1.0, "action": "key.create", "by": "local", "subject": "k1", "detail": '{"roles": []}',
             "address": "", "request_id": ""}
        ],
        "prediction": [
            {
                "id": f"p{i}", "at": 1_700_000_000.123456 + i, "model": "bears", "version": "bears@0123456789ab",
                "caller_id": "key:k1", "request_id": "r", "name": "bär.jpg", "sha256": "d" * 64,
                "answer": json.dumps({"label": "grizzly", "probability": 0.1 + 0.2}),
            }
            for i in range(50)
        ],
        "feedback": [
            {"id": "f1", "prediction_id": "p7", "at": 1.0, "verdict": "wrong", "label": "black", "by": "key:k1",
             "note": "<b>look</b>"}
        ],
        "idempotency": [
            {"caller_id": "key:k1", "key": "one", "body_sha256": "e" * 64, "begun_at": 1.0, "status": 200,
             "headers": "[]", "body": BODY},
            {"caller_id": "key:k1", "key": "two", "body_sha256": "e" * 64, "begun_at": 1.0, "status": None,
             "headers": None, "body": None},
        ],
    }
}  # fmt: skip


def rows_of(database: Database, name: str) -> list[dict[str, Any]]:
    with database.read() as db:
        table = Table(name, MetaData(), autoload_with=db)
        found = [dict(row._mapping) for row in db.execute(select(table).order_by(*table.primary_key.columns))]
    return [
        {key: bytes(value) if isinstance(value, memoryview) else value for key, value in row.items()} for row in found
    ]


def fill(url: str, revision: str) -> None:
    """A database of an older release, as that release left it."""
    upgrade(url, to=revision)
    with closing(connect(url)) as database:
        assert revision_of(database) == revision
        for name, rows in ROWS[revision].items():
            with database.write() as db:
                db.execute(insert(Table(name, MetaData(), autoload_with=db)), rows)


@pytest.mark.parametrize("revision", list(ROWS))
def test_every_row_comes_through(url: str, revision: str) -> None:
    fill(url, revision)
    with pytest.raises(Conflict, match=rf"at revision {revision}; want revision {NEWEST}.*drivetrain db upgrade"):
        open_store(url)
    done = upgrade(url)
    assert (done.before, done.after) == (revision, NEWEST)
    with closing(connect(url)) as database:
        for name, rows in ROWS[revision].items():
            found = rows_of(database, name)
            keys = rows[0].keys()
            wanted = sorted(rows, key=lambda row: [str(row[key]) for key in list(keys)[:2]])
            assert sorted(({k: row[k] for k in keys} for row in found), key=str) == sorted(wanted, key=str)
        assert database.is_sqlite == (done.copy is not None)
    if done.copy is not None:
        with closing(connect(f"sqlite:///{done.copy}")) as old:
            assert revision_of(old) == revision
            assert len(rows_of(old, "prediction")) == 50


def test_a_raised_database_takes_a_roll_out(url: str, tmp_path: Path) -> None:
    """Old answers can be looked at again, beside new requests."""
    fill(url, "0001")
    upgrade(url)
    with open_store(url, images=f"{tmp_path}/pictures") as store:
        bears = deployment(store)
        add(store, bears.id)
        store.reviews.ask(task("p7", bears.id, why="feedback"))
        settled = review(store, "ann", "black")
        assert settled is not None
        assert (settled.prediction_id, settled.truth) == ("p7", "black")
        assert store.feedback.list("p7")[0].label == "black"
        assert store.predictions.count() == 51
        assert break_of(store, bears.id) is None


def test_a_database_that_was_never_used_is_raised_too(url: str) -> None:
    upgrade(url, to="0001")
    upgrade(url)
    open_store(url).close()


def test_a_backup_holds_the_roll_out(tmp_path: Path) -> None:
    url, copy = f"sqlite:///{tmp_path}/d.db", tmp_path / "copy.db"
    with open_store(url) as store:
        bears = deployment(store)
        add(store, bears.id)
        backup(url, copy)
        add(store, bears.id)
        restore(url, copy)
        assert [row.seq for row, _, _ in store.requests.outcomes(bears.id)] == [1]
        assert add(store, bears.id).seq == 2
        assert break_of(store, bears.id) is None


def test_a_backup_of_an_older_release_is_restored_and_raised(tmp_path: Path) -> None:
    old, url, copy = f"sqlite:///{tmp_path}/old.db", f"sqlite:///{tmp_path}/new.db", tmp_path / "copy.db"
    fill(old, "0001")
    backup(old, copy)
    open_store(url).close()
    restore(url, copy)
    with pytest.raises(Conflict, match="drivetrain db upgrade"):
        open_store(url)
    upgrade(url)
    with open_store(url) as store:
        assert store.predictions.count() == 50
