from __future__ import annotations

import threading
from statistics import median
from time import process_time

import pytest

from drivetrain.errors import Conflict, InvalidInput, NotFound
from drivetrain.store.store import Store

from .conftest import Clock

PASSWORD = "three green bottles"


def add(store: Store, name: str = "ann") -> str:
    return store.users.add(name, password=PASSWORD, roles=["review"], by="test").id


def test_a_person_is_known_by_name_and_password(store: Store) -> None:
    id_ = add(store, "Ann Müller")
    for name in ("Ann Müller", "ann müller", "  ANN MÜLLER ", "Ann Mu\N{COMBINING DIAERESIS}ller"):
        user = store.users.check(name, PASSWORD)
        assert user is not None
        assert (user.id, user.roles) == (id_, {"review"})
    assert store.users.check("Ann Müller", PASSWORD + " ") is None
    assert store.users.check("Ann", PASSWORD) is None
    assert store.users.check("", "") is None
    assert store.users.check("Ann Müller", PASSWORD * 100) is None


def test_passwords_are_kept_as_argon2id(store: Store) -> None:
    add(store)
    add(store, "bob")
    with store.database.read() as db:
        kept = [row[0] for row in db.exec_driver_sql("SELECT password_hash FROM user_account")]
    assert all(one.startswith("$argon2id$v=19$m=19456,t=2,p=1$") for one in kept)
    assert kept[0] != kept[1]  # salted


def test_older_costs_are_renewed_at_sign_in(store: Store) -> None:
    from argon2 import PasswordHasher

    add(store)
    old = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)
    with store.database.write() as db:
        db.exec_driver_sql(f"UPDATE user_account SET password_hash = '{old}'")
    assert store.users.check("ann", "wrong password!") is None
    assert store.users.check("ann", PASSWORD) is not None
    with store.database.read() as db:
        assert "m=19456" in str(db.exec_driver_sql("SELECT password_hash FROM user_account").scalar())
    assert store.users.check("ann", PASSWORD) is not None


def test_an_unknown_name_costs_as_much_as_a_wrong_password(store: Store) -> None:
    """Else the time tells who has an account. CPU time: the machine may be busy."""
    add(store)
    store.users.check("warm", "up the hash of nobody")

    def cost(name: str) -> float:
        begun = process_time()
        assert store.users.check(name, "a wrong password") is None
        return process_time() - begun

    known, unknown = ([cost(name) for _ in range(5)] for name in ("ann", "nobody"))
    assert 0.5 < median(known) / median(unknown) < 2


def test_a_removed_person_is_out_at_once(store: Store, clock: Clock) -> None:
    id_ = add(store)
    token = store.sessions.create(user_id=id_)
    assert store.sessions.find(token, idle_s=60, max_s=60) is not None
    removed = store.users.remove("ANN")
    assert removed.removed_at == clock.now
    assert store.users.check("ann", PASSWORD) is None
    assert store.sessions.find(token, idle_s=60, max_s=60) is None
    with pytest.raises(Conflict, match="removed already"):
        store.users.remove("ann")
    with pytest.raises(Conflict, match="taken"):
        add(store)
    store.users.set_password("ann", "another long one")
    assert store.users.check("ann", "another long one") is not None


def test_a_new_password_ends_every_session(store: Store) -> None:
    id_ = add(store)
    tokens = [store.sessions.create(user_id=id_) for _ in range(2)]
    store.users.set_password("ann", "another long one")
    assert [store.sessions.find(token, idle_s=60, max_s=60) for token in tokens] == [None, None]
    assert store.users.check("ann", PASSWORD) is None
    assert store.users.check("ann", "another long one") is not None


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("short", "5 characters"),
        ("x" * 1025, "1025 characters"),
        ("a" * 12, "easily guessed"),
        ("Ann-of-Green-Gables", "easily guessed"),
    ],
)
def test_passwords_that_are_refused(store: Store, password: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=f"password: got .*{said}") as caught:
        store.users.add("ann-of-green-gables", password=password, roles=["review"], by="test")
    if len(password) < 100 and said != "5 characters":
        assert password not in str(caught.value)


@pytest.mark.parametrize("name", ["", " ", "x" * 65, "a\tb"])
def test_names_that_are_refused(store: Store, name: str) -> None:
    with pytest.raises(InvalidInput, match="name: got"):
        store.users.add(name, password=PASSWORD, roles=["review"], by="test")


def test_a_name_is_taken_once_however_it_is_written(store: Store) -> None:
    add(store, "Ann")
    with pytest.raises(Conflict, match="the name ANN, which is taken"):
        add(store, "ANN")
    with pytest.raises(NotFound, match="drivetrain user list"):
        store.users.remove("bob")
    assert [user.name for user in store.users.list()] == ["Ann"]
    assert store.has_callers()


def test_hashes_are_made_in_one_thread(store: Store) -> None:
    """Each takes 19 MiB, which stays with the thread: sign-ins from twenty of them held 250 MB for ever."""
    import resource

    add(store)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    threads = [threading.Thread(target=store.users.check, args=("ann", f"wrong {i}")) for i in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80_000  # kB
