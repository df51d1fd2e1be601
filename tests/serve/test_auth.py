"""Keys, roles and the table of rules."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.datastructures import Headers

from drivetrain.errors import InvalidConfig
from drivetrain.serve.auth.exposure import check_exposure
from drivetrain.serve.auth.gate import BELIEVED_S, _Remembered
from drivetrain.serve.auth.limits import RateLimit
from drivetrain.serve.auth.origin import address_of, is_from_here
from drivetrain.serve.auth.refusals import RateLimited
from drivetrain.serve.auth.rules import KNOWN, PUBLIC, RULES, rule_for
from drivetrain.serve.server import start_server
from drivetrain.store.roles import ROLES
from drivetrain.store.store import open_store

from .doors import FAR, Door, all_routes, open_door, soon
from .fakes import WAIT_S, make_app, picture, settings

PNG = {"Content-Type": "image/png"}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    """A server where a key was made, so that being here is no proof."""
    with open_door(tmp_path) as opened:
        opened.key("admin")
        yield opened


def predict(door: Door, **headers: str) -> httpx.Response:
    return door.post("/predict", content=picture(), headers={**PNG, **headers})


def test_without_keys_this_machine_may_all() -> None:
    with open_door(None) as door:
        assert predict(door).status_code == 200
        assert door.get("/metrics").status_code == 200
        assert door.get("/").status_code == 200
        assert door.post("/v2/repository/index").status_code == 200


def test_without_keys_others_may_nothing(tmp_path: Path) -> None:
    for where in (None, tmp_path):
        with open_door(where) as door:
            far = door.seen_from(FAR)
            for method, path in (("POST", "/predict"), ("GET", "/model"), ("GET", "/metrics"), ("GET", "/admin")):
                assert far.ask(method, path).status_code == 401, path
            assert far.get("/health/ready").status_code == 200


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "X-Forwarded-Host", "X-Forwarded-Proto"]
)
def test_behind_a_proxy_nobody_is_this_machine(header: str) -> None:
    """Else a proxy on the same machine would open the server to the whole web."""
    with open_door(None) as door:
        reply = predict(door, **{header: "for=1.2.3.4"})
        assert reply.status_code == 401
        assert door.get("/metrics", headers={header: "1.2.3.4"}).status_code == 401


def test_no_key_is_401_and_says_what_to_send(door: Door) -> None:
    reply = predict(door)
    assert reply.status_code == 401
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="drivetrain"'
    assert reply.json()["code"] == "unauthorized"
    assert reply.json()["request_id"] == reply.headers["X-Request-ID"]
    assert "Authorization: Bearer dt_..." in reply.json()["message"]
    assert "Content-Security-Policy" in reply.headers
    assert reply.headers["Cache-Control"] == "no-store"


def test_the_protocol_has_its_own_error_body(door: Door) -> None:
    reply = door.get("/v2")
    assert reply.status_code == 401
    assert set(reply.json()) == {"error"}


@pytest.mark.parametrize("make", [lambda key: {"Authorization": f"Bearer {key}"}, lambda key: {"X-API-Key": key},
                                  lambda key: {"authorization": f"bearer  {key}"}])  # fmt: skip
def test_a_key_opens(door: Door, make: object) -> None:
    reply = predict(door, **make(door.key("predict")))  # type: ignore[operator]
    assert reply.status_code == 200


def test_a_key_that_does_not_hold_is_refused_everywhere(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:  # no keys at all: this machine may all, but not with a wrong key
        for key in ("dt_abcdefghjk_" + "0" * 64, "nonsense", "x" * 5_000):
            reply = predict(door, **{"X-API-Key": key})
            assert reply.status_code == 401
            assert "unknown, expired or revoked" in reply.json()["message"]
            assert key not in reply.text


def test_two_different_keys_are_none(door: Door) -> None:
    one, two = door.key("predict"), door.key("predict")
    assert predict(door, **{"X-API-Key": one, "Authorization": f"Bearer {two}"}).status_code == 401
    assert predict(door, **{"X-API-Key": one, "Authorization": f"Bearer {one}"}).status_code == 200


def test_a_proxys_own_password_is_no_key(door: Door) -> None:
    """A proxy with Basic authentication passes its header on."""
    basic = {"Authorization": "Basic YW5uOnNlY3JldA=="}
    assert predict(door, **basic).status_code == 401
    assert predict(door, **basic, **{"X-API-Key": door.key("predict")}).status_code == 200


def test_an_expired_key_is_refused(door: Door) -> None:
    assert door.store is not None
    token = door.key("predict", expires_at=time.time() + 3600)
    assert predict(door, **{"X-API-Key": token}).status_code == 200
    with door.store.database.write() as db:
        db.exec_driver_sql("UPDATE api_key SET expires_at = 5 WHERE expires_at IS NOT NULL")
    fresh = Door(make_app_again(door), door.store)
    reply = predict(fresh, **{"X-API-Key": token})
    assert (reply.status_code, reply.json()["code"]) == (401, "unauthorized")


def make_app_again(door: Door) -> object:
    from drivetrain.serve.app import create_app

    from .fakes import FakeModel

    return create_app(FakeModel(), settings(), store=door.store)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_opens_its_own_rows_alone(door: Door, role: str) -> None:
    caller = door.with_key(role)
    for rule in RULES:
        if rule.role in {PUBLIC, KNOWN} or rule.is_open_here:
            continue
        path = rule.pattern.replace("**", "x/y").replace("*", "x")
        for method in rule.methods.split():
            status = caller.ask(method, path).status_code
            may = role in {*rule.role.split(), "admin"}
            assert (status not in {401, 403}) == may, (method, path, status)


def test_the_wrong_role_is_403_and_names_the_right_one(door: Door) -> None:
    reply = door.with_key("review").post("/predict", content=picture(), headers=PNG)
    assert reply.status_code == 403
    assert reply.json()["code"] == "forbidden"
    assert "role: got review; want the role predict" in reply.json()["message"]


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    app = make_app()
    asked = [
        (method, re.sub(r"\{[^}]+\}", "x", route.path)) for route in all_routes(app) for method in route.methods or ()
    ]
    assert len(asked) > 25
    unruled = [(method, path) for method, path in asked if rule_for(method, path) not in RULES]
    assert unruled == []  # each route was given its role on purpose
    used = {rule_for(method, path).pattern for method, path in asked}
    assert {rule.pattern for rule in RULES} - used == set()


def test_what_nobody_thought_of_needs_the_admin(door: Door) -> None:
    for method, path in (
        ("GET", "/secret"),
        ("DELETE", "/model"),
        ("PUT", "/predict"),
        ("OPTIONS", "/"),
        ("TRACE", "/"),
    ):
        assert door.ask(method, path).status_code == 401, path
        assert door.with_key("predict", "review", "approve").ask(method, path).status_code == 403, path
    assert door.with_key("admin").get("/secret").status_code == 404


def test_probes_need_no_key_and_no_name(door: Door) -> None:
    far = door.seen_from(FAR, host="10.1.2.3:8000")
    for path in ("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
        assert far.get(path).status_code == 200
        assert far.ask("HEAD", path).status_code in {200, 405}


def test_metrics_are_open_to_this_machine_and_the_admin(door: Door) -> None:
    assert door.get("/metrics").status_code == 200
    assert door.seen_from(FAR).get("/metrics").status_code == 401
    assert (
        door.with_key("predict").seen_from(FAR, headers={"X-API-Key": door.key("predict")}).get("/metrics").status_code
        == 403
    )
    assert door.seen_from(FAR, headers={"X-API-Key": door.key("admin")}).get("/metrics").status_code == 200


def test_a_browser_is_led_to_the_login(door: Door) -> None:
    for path, to in (
        ("/", "login?next=/"),
        ("/card", "login?next=/card"),
        ("/admin/parts/x", "../../login?next=/admin/parts/x"),
    ):
        reply = door.get(path, headers={"Accept": "text/html,*/*"})
        assert (reply.status_code, reply.headers["Location"]) == (303, to)
    assert door.get("/", headers={"Accept": "*/*"}).status_code == 401
    assert door.get("/model", headers={"Accept": "text/html"}).status_code == 401


def test_a_revoked_key_is_out_at_once_in_a_new_process_and_soon_in_a_running_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/d.db"
    store = open_store(url)
    key, token = store.keys.create("test", roles=["predict"], by="test")
    from drivetrain.serve.app import create_app

    from .fakes import FakeModel

    async def status(session: httpx.AsyncClient) -> int:
        return (await session.get("/model", headers={"X-API-Key": token})).status_code

    async def go() -> float:
        async with httpx.AsyncClient(base_url=running.url, timeout=WAIT_S) as session:
            assert await status(session) == 200
            revoke = (
                "import sys; from drivetrain.store.store import open_store; "
                "open_store(sys.argv[1]).keys.revoke(sys.argv[2])"
            )
            await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", revoke, url, key.id], check=True, timeout=240
            )
            begun = time.monotonic()

            async def is_out() -> bool:
                return await status(session) == 401

            await soon(is_out)
            return time.monotonic() - begun

    with start_server(create_app(FakeModel(), settings(), store=store)) as running:
        asyncio.run(go())
    assert BELIEVED_S <= 5  # what is promised
    store.close()


def test_the_first_key_made_elsewhere_closes_a_running_server(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        assert predict(door).status_code == 200
        with open_store(f"sqlite:///{tmp_path}/door.db") as other:
            other.keys.create("first", roles=["admin"], by="test")
        gate_sees = Door(make_app_again(door), door.store)  # a process that never looked before
        assert predict(gate_sees).status_code == 401

        async def is_closed() -> bool:
            return (await asyncio.to_thread(predict, door)).status_code == 401

        asyncio.run(soon(is_closed))


def test_revoking_the_last_key_does_not_open_the_server(tmp_path: Path) -> None:
    with open_door(tmp_path) as door:
        assert door.store is not None
        key, _ = door.store.keys.create("only", roles=["admin"], by="test")
        door.store.keys.revoke(key.id)
        assert predict(door).status_code == 401


def test_use_of_a_key_is_noted(door: Door) -> None:
    assert door.store is not None
    caller = door.with_key("predict")
    assert caller.get("/model").status_code == 200
    assert sorted(key.used_at is not None for key in door.store.keys.list()) == [False, True]


def test_a_key_holds_where_its_use_cannot_be_noted(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """A database that can be read and not written."""
    assert door.store is not None
    caller = door.with_key("predict")
    with door.store.database.write() as db:
        db.exec_driver_sql("CREATE TRIGGER no BEFORE UPDATE ON api_key BEGIN SELECT RAISE(ABORT, 'read only'); END")
    assert caller.get("/model").status_code == 200
    assert "the use of a key was not noted" in caplog.text


def test_what_is_remembered_of_callers_is_bounded() -> None:
    async def go() -> None:
        known: _Remembered[str] = _Remembered(lambda: 0.0)
        asked: list[int] = []

        async def ask(n: int) -> str:
            asked.append(n)
            return "yes"

        for n in range(5_000):
            await known.get(n, lambda: ask(n))  # noqa: B023
        await known.get(4_999, lambda: ask(-1))
        assert asked == list(range(5_000))
        await known.get(0, lambda: ask(-2))  # the oldest is asked for anew
        assert asked[-1] == -2
        rates = RateLimit(1, what="x", clock=lambda: 0.0)
        for n in range(20_002):
            rates.take(str(n))
        rates.take("0")  # forgotten
        with pytest.raises(RateLimited):
            rates.take("20001")

    asyncio.run(go())


def test_many_at_once_ask_the_database_once() -> None:
    async def go() -> None:
        known: _Remembered[str] = _Remembered(lambda: 0.0)
        asked: list[int] = []

        async def ask() -> str:
            asked.append(1)
            await asyncio.sleep(0.01)
            return "yes"

        assert await asyncio.gather(*(known.get("k", ask) for _ in range(50))) == ["yes"] * 50
        assert asked == [1]

    asyncio.run(go())


def test_an_address_that_cannot_be_read_is_nobodys() -> None:
    assert address_of({"type": "http", "client": ("a unix socket", 0)}) == "a unix socket"
    assert address_of({"type": "http", "client": None}) == ""
    assert address_of({"type": "http", "client": ("::ffff:10.0.0.1", 0)}) == "10.0.0.1"
    assert not is_from_here({"type": "http", "client": None}, Headers())


def test_insecure_lets_everyone_ask_and_no_one_rule(tmp_path: Path) -> None:
    with open_door(tmp_path, insecure=1, host="0.0.0.0") as door:
        far = door.seen_from(FAR, host="models.example")
        assert predict(far).status_code == 200
        assert far.get("/").status_code == 200
        assert far.post("/v2/repository/index").status_code == 403
        assert far.get("/admin").status_code == 403
        assert far.get("/metrics").status_code == 403
        assert predict(far, **{"X-API-Key": "dt_wrong"}).status_code == 401
        assert (
            far.seen_from(FAR, headers={"X-API-Key": door.key("admin")}).post("/v2/repository/index").status_code == 200
        )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_an_open_address_needs_a_key_or_insecure(host: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=rf"host: got {host}.*drivetrain key create.*--insecure"):
        check_exposure(settings(host=host), None)
    with open_store(f"sqlite:///{tmp_path}/d.db") as store:
        with pytest.raises(InvalidConfig, match="nobody has a key"):
            check_exposure(settings(host=host), store)
        said = check_exposure(settings(host=host, insecure=1), store)
        assert said[0].startswith("WARNING: --insecure: everyone who reaches this machine may ask")
        store.keys.create("a", roles=["predict"], by="test")
        said = check_exposure(settings(host=host), store)
        assert said[0].startswith("Callers need a key")
        assert "plain HTTP" in said[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.10"])
def test_this_machine_alone_needs_none(host: str) -> None:
    said = check_exposure(settings(host=host), None)
    assert said == ["Whoever sits at this machine may use it, without a key. The first key or person made ends that."]
    assert "WARNING" in check_exposure(settings(host=host, insecure=1), None)[0]


def test_rates_are_per_key(tmp_path: Path) -> None:
    with open_door(tmp_path, key_rate_limit=3) as door:
        one, two = door.with_key("predict"), door.with_key("predict")
        assert [one.get("/model").status_code for _ in range(4)] == [200, 200, 200, 429]
        reply = one.get("/model")
        assert reply.json()["code"] == "rate_limited"
        assert reply.headers["Retry-After"] == "20"
        assert "at most 3 a minute" in reply.json()["message"]
        assert two.get("/model").status_code == 200


def test_rates_are_per_address_without_a_key(tmp_path: Path) -> None:
    with open_door(tmp_path, insecure=1, address_rate_limit=3) as door:
        one, two = door.seen_from(FAR), door.seen_from("203.0.113.10")
        assert [one.get("/model").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert two.get("/model").status_code == 200
        assert one.get("/health/live").status_code == 200  # probes are never turned away
        one.headers["X-API-Key"] = door.key("predict")
        assert one.get("/model").status_code == 200


def test_an_ipv6_network_is_one_address(tmp_path: Path) -> None:
    with open_door(tmp_path, insecure=1, address_rate_limit=2) as door:
        far = [door.seen_from(f"2001:db8:1:2::{n}").get("/model").status_code for n in range(3)]
        assert far == [200, 200, 429]
        assert door.seen_from("2001:db8:1:3::1").get("/model").status_code == 200


def test_no_limit_is_no_limit(tmp_path: Path) -> None:
    with open_door(tmp_path, insecure=1, address_rate_limit=0, key_rate_limit=0) as door:
        far, key = door.seen_from(FAR), door.with_key("predict")
        assert {far.get("/model").status_code for _ in range(700)} == {200}
        assert {key.get("/model").status_code for _ in range(50)} == {200}


def test_a_local_caller_is_not_limited() -> None:
    with open_door(None, address_rate_limit=1) as door:
        assert {door.get("/model").status_code for _ in range(5)} == {200}


def test_wrong_keys_are_slowed(tmp_path: Path) -> None:
    with open_door(tmp_path, login_rate_limit=3) as door:
        far = door.seen_from(FAR)
        said = [far.get("/model", headers={"X-API-Key": f"dt_guess_{n}"}).status_code for n in range(5)]
        assert said == [401, 401, 401, 429, 429]
        assert door.seen_from("203.0.113.10").get("/model", headers={"X-API-Key": "dt_x"}).status_code == 401


def test_admin_acts_are_written_down(door: Door) -> None:
    assert door.store is not None
    caller = door.with_key("admin")
    reply = caller.post("/v2/repository/models/absent/load", headers={"X-Request-ID": "r-77"}, json={})
    assert reply.status_code >= 400
    failed, asked = door.store.audit.list()
    assert (asked.action, asked.subject, asked.request_id) == (
        "admin.request",
        "POST /v2/repository/models/absent/load",
        "r-77",
    )
    assert asked.by.startswith("key:")
    assert (failed.action, failed.detail) == ("admin.failed", {"status": reply.status_code})
    assert door.with_key("predict").post("/v2/repository/models/a/load").status_code == 403
    assert len(door.store.audit.list()) == 2
    assert caller.headers["X-API-Key"] not in repr(door.store.audit.list())


def test_an_act_that_cannot_be_written_down_is_not_done(door: Door) -> None:
    assert door.store is not None
    caller = door.with_key("admin")
    assert caller.get("/model").status_code == 200
    with door.store.database.write() as db:
        db.exec_driver_sql("DROP TABLE audit")
    reply = caller.post("/v2/repository/index")
    assert reply.status_code == 503
    assert "audit" not in reply.text


def test_a_database_that_is_gone_lets_nobody_in(door: Door, tmp_path: Path) -> None:
    assert door.store is not None
    caller = door.with_key("predict")
    with door.store.database.write() as db:
        db.exec_driver_sql("ALTER TABLE api_key RENAME TO away")
    reply = caller.get("/model")
    assert reply.status_code == 503
    assert "api_key" not in reply.text
    assert str(tmp_path) not in reply.text


def test_a_path_without_a_star_finds_the_first_row_that_fits() -> None:
    plain = [(method, rule.pattern) for rule in RULES if "*" not in rule.pattern for method in rule.methods.split()]
    assert len(plain) > 15
    for method, path in plain:
        assert rule_for(method, path) is next(rule for rule in RULES if rule.fits(method, path))
    assert rule_for("DELETE", "/predict") not in RULES
