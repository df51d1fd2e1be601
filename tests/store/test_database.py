from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

import drivetrain.store
from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, MissingExtra, Unavailable
from drivetrain.store.database import Database, connect, open_database, parse_url, revision_of, shown
from drivetrain.store.schema import METADATA, NEWEST
from drivetrain.store.store import open_store
from drivetrain.store.upkeep import backup, restore, upgrade

ROOM = Path(drivetrain.store.__file__).parent


def tables(database: Database) -> dict[str, object]:
    """All that tells one schema from another."""
    with database.read() as db:
        look = inspect(db)
        return {
            name: (
                [{**column, "type": str(column["type"])} for column in look.get_columns(name)],
                look.get_pk_constraint(name),
                sorted(look.get_foreign_keys(name), key=str),
                sorted(look.get_unique_constraints(name), key=str),
                sorted(look.get_check_constraints(name), key=str),
                sorted((_plain(index) for index in look.get_indexes(name)), key=str),
            )
            for name in sorted(look.get_table_names())
        }


def _plain(index: Mapping[str, Any]) -> dict[str, Any]:
    """With the condition of a partial index as text: two objects of one text differ."""
    options = {key: str(value) for key, value in index.get("dialect_options", {}).items()}
    return {**index, "dialect_options": options}


def test_migrations_make_what_the_code_makes(url: str) -> None:
    made = open_database(url)
    new = tables(made)
    assert set(METADATA.tables) | {"alembic_version"} == set(new)
    with made.write() as db:
        METADATA.drop_all(db)
        db.execute(text("DROP TABLE alembic_version"))
    made.close()

    done = upgrade(url)
    assert (done.before, done.after, done.copy) == (None, NEWEST, None)
    migrated = connect(url)
    assert tables(migrated) == new
    with migrated.read() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
    migrated.close()


def test_the_newest_revision_is_the_last_file() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOM / "migrations"))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [NEWEST]
    revisions = list(script.walk_revisions())
    assert sorted(Path(one.path).name[:5] for one in revisions) == sorted(f"r{one.revision}" for one in revisions)


def test_every_constraint_has_a_name() -> None:
    unnamed = [
        f"{table}: {constraint}"
        for table in METADATA.tables.values()
        for constraint in table.constraints
        if not constraint.name
    ]
    assert unnamed == []


def test_a_new_file_is_for_its_owner_alone_and_in_wal(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "d.db"
    with closing_store(f"sqlite:///{file}") as database, database.read() as db:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        pragmas = {name: db.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "foreign_keys")}
        assert pragmas == {"journal_mode": "wal", "foreign_keys": 1}
        assert db.exec_driver_sql("PRAGMA busy_timeout").scalar() >= 5_000
        assert db.exec_driver_sql("PRAGMA synchronous").scalar() == 2


def test_what_must_last_is_synced_and_what_need_not_is_not(tmp_path: Path) -> None:
    with closing_store(f"sqlite:///{tmp_path}/d.db") as database:
        for is_lasting, level in ((True, 2), (False, 1), (True, 2)):
            with database.write(is_lasting=is_lasting) as db:
                assert db.exec_driver_sql("PRAGMA synchronous").scalar() == level


def closing_store(url: str) -> closing[Database]:
    return closing(open_database(url))


def test_an_old_database_is_refused_with_what_to_do(url: str) -> None:
    open_database(url).close()
    with closing(connect(url)) as database, database.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(Conflict, match=rf"at revision 0000; want revision {NEWEST}.*drivetrain db upgrade"):
        open_store(url)
    with closing(connect(url)) as database, database.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for use in (open_store, upgrade):
        with pytest.raises(Conflict, match="newer drivetrain"):
            use(url)


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    with closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE invoices (id)")
        db.commit()
    before = file.read_bytes()
    with pytest.raises(Conflict, match="holds other tables"):
        open_store(f"sqlite:///{file}")
    with pytest.raises(Conflict, match="holds other tables"):
        upgrade(f"sqlite:///{file}")
    assert sqlite3.connect(file).execute("SELECT name FROM sqlite_master").fetchall() == [("invoices",)]
    assert len(before) <= file.stat().st_size


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("nothing of the kind " * 100)
    with pytest.raises(Unavailable, match="file is not a database"):
        open_store(f"sqlite:///{file}")
    assert file.read_text().startswith("nothing")


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        "mysql://u:secret@h/n",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+pysqlite:///x",
        "postgresql+asyncpg://h/n",
    ],
)
def test_urls_that_cannot_be(given: str) -> None:
    with pytest.raises(InvalidConfig, match=r"db: got .* want sqlite:///FILE, postgresql://") as caught:
        parse_url(given)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    assert (
        shown(parse_url("postgresql://ann:hunter2@db.example/d?password=again")) == "postgresql://ann:***@db.example/d"
    )
    with pytest.raises(Unavailable) as caught, closing(connect("postgresql://ann:hunter2@127.0.0.1:1/d")) as database:
        revision_of(database)
    assert "hunter2" not in str(caught.value)
    assert "ann:***@127.0.0.1" in str(caught.value)


def test_the_extra_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"drivetrain\[postgres\]"):
        connect("postgresql://h/n")


def test_a_home_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with closing_store("sqlite:///~/x/d.db"):
        assert (tmp_path / "x" / "d.db").is_file()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidConfig, match=r"db: got .*/file/d\.db \(.*\); want a file that can be written"):
        connect(f"sqlite:///{tmp_path}/file/d.db")


def test_tables_of_ours_without_a_revision_are_not_touched(url: str) -> None:
    """Half a database, or another program's table of the same name."""
    open_database(url).close()
    for damage in ("DELETE FROM alembic_version", "DROP TABLE alembic_version"):
        with closing(connect(url)) as database, database.write() as db:
            db.execute(text(damage))
        with pytest.raises(Conflict, match="holds other tables"):
            open_store(url)


def test_a_store_says_where_it_is(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/d.db") as store:
        assert store.url == f"sqlite:///{tmp_path}/d.db"


def test_two_processes_make_one_database(url: str, tmp_path: Path) -> None:
    """Symptom to avoid: `--workers 4` on a new database, and one of them fails on a table that exists."""
    program = (
        "import sys; from drivetrain.store.store import open_store; open_store(sys.argv[1]).close(); print('made')"
    )
    with ThreadPoolExecutor(4) as pool:
        runs = list(
            pool.map(
                lambda _: subprocess.run(
                    [sys.executable, "-c", program, url], check=False, capture_output=True, text=True, timeout=240
                ),
                range(4),
            )
        )
    assert [(run.returncode, run.stdout) for run in runs] == [(0, "made\n")] * 4, [run.stderr for run in runs]


def test_a_fault_of_the_database_is_unavailable(url: str) -> None:
    with closing_store(url) as database, pytest.raises(Unavailable, match="db: got"), database.read() as db:
        db.execute(text("SELECT * FROM no_such_table"))


def test_a_failed_write_changes_nothing(url: str) -> None:
    store = open_store(url)
    store.audit("one", by="local")

    def fail() -> None:
        with store.database.write() as db:
            db.execute(text("DELETE FROM audit"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [event.action for event in store.audit.list()] == ["one"]
    store.close()


def test_upgrade_of_the_newest_does_nothing(url: str) -> None:
    open_database(url).close()
    done = upgrade(url)
    assert (done.before, done.after, done.copy) == (NEWEST, NEWEST, None)


def test_backup_and_restore(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/live/d.db"
    copy = tmp_path / "copies" / "monday.db"
    store = open_store(url)
    key, _ = store.keys.create("before", roles=["predict"], by="test")
    user = store.users.add("ann", password="correct horse", roles=["review"], by="test")
    token = store.sessions.create(user_id=user.id)
    assert backup(url, copy) == copy
    assert sorted(path.name for path in copy.parent.iterdir()) == ["monday.db"]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with pytest.raises(Conflict, match="which exists"):
        backup(url, copy)

    store.keys.create("after", roles=["predict"], by="test")
    assert len(store.keys.list()) == 2
    kept = restore(url, copy)  # under an open store
    assert [one.name for one in store.keys.list()] == ["before"]
    assert store.sessions.find(token, idle_s=1e9, max_s=1e9) is None  # else an ended session could be back
    assert store.keys.find(key.id) == key
    assert kept is not None
    with closing(sqlite3.connect(kept)) as db:
        assert db.execute("SELECT count(*) FROM api_key").fetchone() == (2,)
    store.close()

    assert restore(f"sqlite:///{tmp_path}/new/d.db", copy) is None
    with open_store(f"sqlite:///{tmp_path}/new/d.db") as moved:
        assert [one.name for one in moved.keys.list()] == ["before"]


@pytest.mark.parametrize("content", [b"", b"text", b"SQLite format 3\0" + bytes(100)])
def test_what_is_no_copy_is_not_restored(content: bytes, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    with open_store(url) as store:
        store.keys.create("mine", roles=["predict"], by="test")
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(InvalidInput, match="restore: got"):
            restore(url, tmp_path / "bad")
        with pytest.raises(InvalidInput, match="which is no file"):
            restore(url, tmp_path / "absent")
        assert len(store.keys.list()) == 1
    with pytest.raises(InvalidInput, match="which is not there"):
        backup(f"sqlite:///{tmp_path}/absent.db", tmp_path / "copy")


def test_a_copy_of_a_newer_version_is_not_restored(tmp_path: Path) -> None:
    url, copy = f"sqlite:///{tmp_path}/d.db", tmp_path / "copy.db"
    open_database(url).close()
    backup(url, copy)
    with closing(sqlite3.connect(copy)) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
        db.commit()
    with pytest.raises(Conflict, match=f"at revision 9999; want {NEWEST} or older"):
        restore(url, copy)
    with closing(sqlite3.connect(copy)) as db:
        db.execute("DROP TABLE api_key")
        db.commit()
    with pytest.raises(InvalidInput, match="damaged or not ours"):
        restore(url, copy)


def test_a_copy_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    (tmp_path / "d.db").write_bytes(b"no database" * 100)
    with pytest.raises(Unavailable, match="file is not a database"):
        backup(url, tmp_path / "copies" / "a.db")
    assert list((tmp_path / "copies").iterdir()) == []


def test_postgresql_has_its_own_tools(tmp_path: Path) -> None:
    url = "postgresql://ann:hunter2@db/d"
    with pytest.raises(InvalidConfig, match=r"pg_dump .*'postgresql://ann:\*\*\*@db/d'"):
        backup(url, tmp_path / "x")
    with pytest.raises(InvalidConfig, match="pg_restore"):
        restore(url, tmp_path / "x")


def test_an_upgrade_that_fails_keeps_a_copy(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    with open_store(url) as store:
        store.keys.create("mine", roles=["predict"], by="test")
    with closing(connect(url)) as database, database.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(Conflict, match="'0000'"):
        upgrade(url)
    copies = [path for path in tmp_path.iterdir() if "before" in path.name]
    assert len(copies) == 1
    with closing(sqlite3.connect(copies[0])) as db:
        assert db.execute("SELECT name FROM api_key").fetchall() == [("mine",)]
