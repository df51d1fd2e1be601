"""`key`, `user` and `db`, as they are typed."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from drivetrain.store.schema import NEWEST
from drivetrain.store.store import open_store

from .runner import run as run_here

PASSWORD = "three green bottles"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/d.db"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Run(Protocol):
    def __call__(self, args: Sequence[str], url: str = "", *, stdin: str = "") -> Done: ...


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A verb with its database; what it reads is no terminal."""

    def call(args: Sequence[str], url: str = "", *, stdin: str = "") -> Done:
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        code = run_here(*args, *(["--db", url] if url else []))
        return Done(code, *capsys.readouterr())

    return call


def test_a_key_from_making_to_revoking(run: Run, url: str) -> None:
    made = run(["key", "create", "camera 3", "--roles", "predict,review", "--expires", "90d"], url)
    assert made.returncode == 0, made.stderr
    token = made.stdout.removesuffix("\n")
    assert re.fullmatch(r"dt_[a-z0-9]{10}_[0-9a-f]{64}", token)
    assert token not in made.stderr
    assert "not shown again" in made.stderr
    with open_store(url) as store:
        key = store.keys.check(token)
        assert key is not None
        assert (key.name, key.roles) == ("camera 3", {"predict", "review"})
        assert key.expires_at is not None
        assert key.expires_at - key.created_at == pytest.approx(90 * 86_400, abs=60)
        assert key.created_by.startswith("command line")

    listed = run(["key", "list"], url)
    assert re.fullmatch(rf"{key.id}  camera 3  predict,review  holds until \S+ \S+  made .*  used -\n", listed.stdout)
    assert token not in listed.stdout

    gone = run(["key", "revoke", token, "--json"], url)  # a whole key pasted names its id too
    assert json.loads(gone.stdout)["state"] == "revoked"
    assert token not in gone.stdout
    again = run(["key", "revoke", key.id], url)
    assert (again.returncode, again.stdout) == (1, "")
    assert "revoked already" in again.stderr
    with open_store(url) as store:
        acts = [(event.action, event.subject) for event in store.audit.list()]
    assert acts == [("key.revoke", key.id), ("key.create", key.id)]


def test_a_key_for_machines(run: Run, url: str) -> None:
    made = json.loads(run(["key", "create", "ci", "--json"], url).stdout)
    assert made["roles"] == ["predict"]
    assert made["expires_at"] is None
    listed = json.loads(run(["key", "list", "--json"], url).stdout)["keys"]
    assert [key["id"] for key in listed] == [made["id"]]
    assert "key" not in listed[0]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["key", "create", "a", "--roles", "god"], 1, "roles: got god; want one or more of predict"),
        (["key", "create", "a", "--expires", "soon"], 1, "--expires: got soon; want a number and m, h, d, w or y"),
        (["key", "revoke", "nobody"], 1, "key: got nobody; want an id of `drivetrain key list`"),
        (["key", "bogus"], 2, "No such command"),
        (["key"], 2, "create"),
        (["user", "remove", "nobody"], 1, "user: got nobody"),
        (["user", "password", "nobody"], 1, "user: got nobody"),
        (["db", "restore", "absent"], 1, "restore: got absent, which is no file"),
    ],
)
def test_misuse_is_told(args: list[str], code: int, said: str, run: Run, url: str) -> None:
    done = run(args, url if len(args) > 1 and args[1] != "bogus" else "")
    assert done.returncode == code, done.stderr
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_no_database_is_told(run: Run) -> None:
    done = run(["key", "list"], "none")
    assert done.returncode == 2
    assert "db: got none; want a database" in done.stderr


def test_a_person_from_adding_to_removing(run: Run, url: str) -> None:
    added = run(["user", "add", "Ann", "--roles", "review,approve"], url, stdin=PASSWORD + "\n")
    assert added.returncode == 0, added.stderr
    assert PASSWORD not in added.stdout + added.stderr
    with open_store(url) as store:
        user = store.users.check("ann", PASSWORD)
        assert user is not None
        assert user.roles == {"review", "approve"}
    short = run(["user", "add", "Bob"], url, stdin="short\n")
    assert (short.returncode, "password: got 5 characters" in short.stderr) == (1, True)

    changed = run(["user", "password", "ann"], url, stdin="four blue bottles\n")
    assert changed.returncode == 0, changed.stderr
    removed = run(["user", "remove", "ANN"], url)
    assert re.match(r"Ann  removed \S+ \S+  added", removed.stdout)
    listed = json.loads(run(["user", "list", "--json"], url).stdout)["users"]
    assert [one["name"] for one in listed] == ["Ann"]
    assert listed[0]["removed_at"] is not None
    assert "password" not in str(listed).lower()
    with open_store(url) as store:
        assert store.users.check("ann", "four blue bottles") is None
        assert [event.action for event in store.audit.list()] == ["user.remove", "user.password", "user.add"]


def test_a_password_is_asked_for_twice_at_a_terminal(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    typed = iter([PASSWORD, PASSWORD, PASSWORD, "three green bottle"])
    monkeypatch.setattr("getpass.getpass", lambda _: next(typed))
    monkeypatch.setattr("io.StringIO", Terminal)
    assert run(["user", "add", "ann"], url).returncode == 0
    differs = run(["user", "add", "bob"], url)
    assert (differs.returncode, "two that differ" in differs.stderr) == (1, True)


def test_empty_lists_say_what_to_do_and_each_row_has_a_line(run: Run, url: str) -> None:
    assert "drivetrain key create NAME" in run(["key", "list"], url).stderr
    assert "drivetrain user add NAME" in run(["user", "list"], url).stderr
    run(["user", "add", "ann", "--json"], url, stdin=PASSWORD)
    assert run(["user", "list"], url).stdout.startswith("ann  predict  added ")
    made = run(["key", "create", "a"], url).stdout
    assert run(["key", "revoke", made.split("_")[1]], url).stdout.split()[3] == "revoked"


def test_backup_and_upgrade_for_people(run: Run, url: str, tmp_path: Path) -> None:
    assert f"at revision {NEWEST} (it was at none)" in run(["db", "upgrade"], url).stdout
    assert "(it was there already)" in run(["db", "upgrade"], url).stdout
    assert re.search(r"copy\.db  [0-9,]+ bytes", run(["db", "backup", str(tmp_path / "copy.db")], url).stdout)
    assert json.loads(run(["db", "restore", str(tmp_path / "copy.db"), "--json"], url).stdout)["kept"]


def test_backup_restore_and_upgrade(run: Run, url: str, tmp_path: Path) -> None:
    run(["key", "create", "first"], url)
    copy = tmp_path / "copy.db"
    assert json.loads(run(["db", "backup", str(copy), "--json"], url).stdout)["bytes"] == copy.stat().st_size
    run(["key", "create", "second"], url)
    restored = run(["db", "restore", str(copy)], url)
    assert restored.returncode == 0, restored.stderr
    assert "What was there: " in restored.stdout
    assert "are back" in restored.stderr
    assert "second" not in run(["key", "list"], url).stdout
    upgraded = json.loads(run(["db", "upgrade", "--json"], url).stdout)
    assert upgraded["before"] == upgraded["after"]
    assert upgraded["copy"] is None


def test_an_escape_in_a_name_cannot_steer_the_terminal(run: Run, url: str) -> None:
    with open_store(url) as store, store.database.write() as db:
        db.exec_driver_sql(
            "INSERT INTO api_key (id, name, secret_sha256, roles, created_at, created_by)"
            " VALUES ('k', 'a\x1b[2Jb', 'x', 'predict', 0, 'x')"
        )
    assert r"a\x1b[2Jb" in run(["key", "list"], url).stdout


OPTIONS = {
    ("key", "create"): ["--roles", "--expires"],
    ("key", "list"): [],
    ("key", "revoke"): [],
    ("user", "add"): ["--roles"],
    ("user", "list"): [],
    ("user", "remove"): [],
    ("user", "password"): [],
    ("db", "upgrade"): [],
    ("db", "backup"): [],
    ("db", "restore"): [],
}


@pytest.mark.parametrize("command", OPTIONS, ids=" ".join)
def test_help_names_every_option(command: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(*command, "--help") == 0
    out = capsys.readouterr().out
    assert set(re.findall(r"^  (--[a-z-]+)", out, re.MULTILINE)) == {*OPTIONS[command], "--db", "--json", "--help"}
    assert run_here(command[0], "--help") == 0
    listed = re.findall(r"^  ([a-z]+)  +\S.*\.$", capsys.readouterr().out.split("Commands:\n")[1], re.MULTILINE)
    assert listed == [name for verb, name in OPTIONS if verb == command[0]]
