"""People: signing in and out, sessions, and forms that another site cannot send."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import process_time

import httpx
import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from drivetrain.serve.auth.csrf import require_csrf
from drivetrain.serve.auth.refusals import Forbidden

from .doors import FAR, PASSWORD, Door, form_fields, open_door
from .fakes import picture

PNG = {"Content-Type": "image/png"}
HTML = {"Accept": "text/html"}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path) as opened:
        opened.key("admin")
        yield opened


def cookie_of(reply: httpx.Response, name: str = "drivetrain_session") -> str:
    """The Set-Cookie line."""
    return next((line for line in reply.headers.get_list("set-cookie") if line.startswith(f"{name}=")), "")


def actions(door: Door) -> list[str]:
    assert door.store is not None
    return [event.action for event in door.store.audit.list()]


def test_a_person_signs_in_and_out(door: Door) -> None:
    browser = door.person("Ann", "predict")
    page = browser.get("/", headers=HTML)
    assert page.status_code == 200
    assert actions(door) == ["session.begin"]
    out = browser.post("/logout", data={"csrf": browser.csrf()})
    assert (out.status_code, out.headers["Location"]) == (303, "login")
    assert '"cache"' in out.headers["Clear-Site-Data"]
    assert browser.get("/", headers=HTML).status_code == 303
    assert actions(door) == ["session.end", "session.begin"]


def test_a_session_that_ended_is_dead_not_only_forgotten(door: Door) -> None:
    browser = door.person("ann")
    stolen = browser.cookies.get("drivetrain_session")
    assert browser.get("/model").status_code == 200
    browser.post("/logout", headers={"X-CSRF-Token": browser.csrf()})
    thief = door.seen_from(FAR, headers={"Cookie": f"drivetrain_session={stolen}"})
    assert thief.get("/model").status_code == 401  # at once, although it was believed a moment ago


def test_where_one_wanted_to_go(door: Door) -> None:
    door.person("ann")
    browser = door.seen_from("127.0.0.1")
    form = form_fields(browser.get("/login?next=/admin/parts/queue").text)
    assert form["next"] == "/admin/parts/queue"
    reply = browser.post("/login", data={**form, "name": "ann", "password": PASSWORD})
    assert (reply.status_code, reply.headers["Location"]) == (303, "./admin/parts/queue")


@pytest.mark.parametrize(
    "to",
    ["//evil.example", "https://evil.example", "/\\evil.example", "/%2f/evil", "javascript:alert(1)", "/a//b", "/../x",
     "/a?b", "/a\r\nSet-Cookie: x=1", "", "/a/../../x", "/@evil.example/..", "\t//evil.example"],
)  # fmt: skip
def test_login_leads_nowhere_else(door: Door, to: str) -> None:
    door.person("ann")
    browser = door.seen_from("127.0.0.1")
    form = form_fields(browser.get("/login").text)
    reply = browser.post("/login", data={**form, "next": to, "name": "ann", "password": PASSWORD})
    assert (reply.status_code, reply.headers["Location"]) == (303, "./")
    assert form_fields(browser.get("/login", params={"next": to}).text)["next"] == "/"


def test_the_cookie_is_for_this_server_alone(door: Door) -> None:
    door.person("ann")
    browser = door.seen_from("127.0.0.1")
    plain = cookie_of(browser.sign_in("ann"))
    for flag in ("HttpOnly", "SameSite=lax", "Path=/", "Max-Age=86400"):
        assert flag in plain
    assert "Domain" not in plain
    assert "Secure" not in plain  # over http a browser would drop it
    safe = door.seen_from("127.0.0.1", scheme="https")
    assert "Secure" in cookie_of(safe.sign_in("ann"))
    assert "max-age=31536000" in safe.get("/login").headers["Strict-Transport-Security"]
    assert "Strict-Transport-Security" not in browser.get("/login").headers


def test_a_session_planted_before_is_not_the_session_after(door: Door) -> None:
    """Session fixation."""
    door.person("ann")
    browser = door.seen_from("127.0.0.1")
    browser.cookies.set("drivetrain_session", "planted-by-someone")
    reply = browser.sign_in("ann")
    token = cookie_of(reply).partition("=")[2].partition(";")[0]
    assert token != "planted-by-someone"
    assert len(token) == 43
    assert (
        door.seen_from(FAR, headers={"Cookie": "drivetrain_session=planted-by-someone"}).get("/model").status_code
        == 401
    )


def test_signing_in_again_ends_the_session_before(door: Door) -> None:
    browser = door.person("ann")
    first = browser.cookies.get("drivetrain_session")
    assert browser.sign_in("ann").status_code == 303
    assert browser.cookies.get("drivetrain_session") != first
    assert door.seen_from(FAR, headers={"Cookie": f"drivetrain_session={first}"}).get("/model").status_code == 401


def test_a_key_signs_in_too(door: Door) -> None:
    assert door.store is not None
    browser = door.seen_from("127.0.0.1")
    token = door.key("predict")
    assert browser.sign_in("", token).status_code == 303
    assert browser.get("/", headers=HTML).status_code == 200
    assert browser.get("/admin").status_code == 403
    door.store.keys.revoke(token.split("_")[1])
    fresh = door.seen_from("127.0.0.1")
    assert fresh.sign_in("", token).status_code == 401
    assert fresh.sign_in("ann", token).status_code == 401


def test_roles_of_a_person_are_theirs(door: Door) -> None:
    assert door.person("reviewer", "review").get("/model").status_code == 403
    assert door.person("boss", "admin").get("/metrics").status_code == 200


def test_an_idle_session_ends_and_so_does_an_old_one(tmp_path: Path) -> None:
    with open_door(tmp_path, session_idle_minutes=30, session_max_hours=2) as door:
        assert door.store is not None
        for column, age_s, status in (
            ("seen_at", 1_700, 200),
            ("seen_at", 1_801, 401),
            ("created_at", 7_100, 200),
            ("created_at", 7_201, 401),
        ):
            browser = door.person(f"ann{column}{age_s}")
            with door.store.database.write() as db:
                db.exec_driver_sql(f"UPDATE session SET {column} = {column} - {age_s}")
            assert browser.get("/model").status_code == status, (column, age_s)


def test_sessions_that_are_over_are_cleared_away(door: Door) -> None:
    assert door.store is not None
    browser = door.person("ann")
    with door.store.database.write() as db:
        db.exec_driver_sql("UPDATE session SET seen_at = seen_at - 7201")
    browser.sign_in("ann")
    with door.store.database.read() as db:
        assert db.exec_driver_sql("SELECT count(*) FROM session").scalar() == 1


@pytest.mark.parametrize(
    ("name", "password"), [("ann", "a wrong password"), ("nobody", "a wrong password"), ("", "dt_x"), ("ann", "")]
)
def test_a_wrong_guess_says_the_same_whoever_is_meant(door: Door, name: str, password: str) -> None:
    door.person("ann")
    browser = door.seen_from("127.0.0.1")
    reply = browser.sign_in(name, password)
    assert reply.status_code == 401
    assert cookie_of(reply) == ""
    shown = re.sub(r'value="[^"]*"', "", reply.text)
    other = browser.sign_in("someone else", "another wrong one")
    assert shown == re.sub(r'value="[^"]*"', "", other.text)
    assert "do not belong together" in shown
    assert actions(door)[0] == "session.refused"


def test_a_wrong_guess_takes_the_same_time_whoever_is_meant(tmp_path: Path) -> None:
    with open_door(tmp_path, login_rate_limit=1_000) as door:
        browser = door.person("ann")
        browser.sign_in("warm", "up the code paths")

        def cost(name: str) -> float:
            begun = process_time()
            assert browser.sign_in(name, "a wrong password").status_code == 401
            return process_time() - begun

        known, unknown = ([cost(name) for _ in range(7)] for name in ("ann", "nobody"))
        assert 0.5 < median(known) / median(unknown) < 2


def test_guessing_is_slowed_for_the_address(tmp_path: Path) -> None:
    with open_door(tmp_path, login_rate_limit=3) as door:
        door.person("ann")
        thief = door.seen_from(FAR)
        said = [thief.sign_in(f"name{n}", "a wrong password").status_code for n in range(5)]
        assert said == [401, 401, 401, 429, 429]
        late = thief.sign_in("ann")  # a right guess gains nothing while one must wait
        assert late.status_code == 429
        assert late.headers["Retry-After"] == "20"
        assert "Wait 20 seconds" in late.text
        assert door.seen_from("203.0.113.10").sign_in("ann").status_code == 303


def test_guessing_is_slowed_for_the_name(tmp_path: Path) -> None:
    """From as many addresses as one likes."""
    with open_door(tmp_path, login_rate_limit=3) as door:
        door.person("ann")
        said = [door.seen_from(f"203.0.113.{n}").sign_in("ANN ", "a wrong password").status_code for n in range(5)]
        assert said == [401, 401, 401, 429, 429]


def test_a_crowd_of_guesses_leaves_threads_for_answers(tmp_path: Path) -> None:
    """Each from an address and for a name of its own, so that no bucket slows them."""
    with open_door(tmp_path) as door:
        forms = []
        for n in range(12):
            browser = door.seen_from(f"203.0.113.{n}")
            forms.append((browser, form_fields(browser.get("/login").text)))

        async def crowd() -> list[int]:
            async def guess(browser: Door, form: dict[str, str], n: int) -> int:
                transport = httpx.ASGITransport(door.app, client=(browser.address, 1))
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost", cookies=browser.cookies
                ) as session:
                    fields = {**form, "name": f"name{n}", "password": "a wrong password"}
                    return (await session.post("/login", data=fields)).status_code

            return await asyncio.gather(*(guess(browser, form, n) for n, (browser, form) in enumerate(forms)))

        said = asyncio.run(crowd())
        assert said.count(401) >= 4
        assert said.count(429) >= 4
        assert set(said) == {401, 429}


def test_right_passwords_are_not_counted(tmp_path: Path) -> None:
    with open_door(tmp_path, login_rate_limit=2) as door:
        browser = door.person("ann")
        assert {browser.sign_in("ann").status_code for _ in range(5)} == {303}


def test_the_login_form_is_tied_to_its_browser(door: Door) -> None:
    """Login CSRF: a stranger's page must not sign my browser in as the stranger."""
    door.person("eve")
    evil = form_fields(door.seen_from(FAR).get("/login").text)
    mine = door.seen_from("127.0.0.1")
    mine.get("/login")
    for fields in (evil, {}, {"csrf": ""}):
        reply = mine.post("/login", data={**fields, "name": "eve", "password": PASSWORD})
        assert reply.status_code == 403
        assert cookie_of(reply) == ""
        assert "grown old" in reply.text
    no_cookie = door.seen_from("127.0.0.1").post("/login", data={**evil, "name": "eve", "password": PASSWORD})
    assert no_cookie.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "same-site"},
     {"Origin": "http://localhost:9999"}, {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}],
)  # fmt: skip
def test_another_sites_page_may_not_use_my_session(door: Door, headers: dict[str, str]) -> None:
    browser = door.person("ann")
    token = browser.csrf()
    reply = browser.post("/predict", content=picture(), headers={**PNG, **headers, "X-CSRF-Token": token})
    assert (reply.status_code, reply.json()["code"]) == (403, "forbidden")
    reply = browser.post("/login", data={}, headers=headers)
    assert reply.status_code == 403


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://localhost"}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
)
def test_our_own_pages_may(door: Door, headers: dict[str, str]) -> None:
    browser = door.person("ann")
    sent = {**PNG, **headers, "X-CSRF-Token": browser.csrf()}
    assert browser.post("/predict", content=picture(), headers=sent).status_code == 200


def test_another_sites_page_may_not_use_that_i_sit_here() -> None:
    """The local caller is let in for where they are, which every page in their browser shares."""
    with open_door(None) as door:
        for site in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert door.post("/predict", content=picture(), headers={**PNG, **site}).status_code == 403
            assert door.get("/model", headers=site).status_code == 200  # unreadable there: no CORS header
            assert "access-control-allow-origin" not in door.get("/model", headers=site).headers


def test_a_program_with_a_key_may_say_any_origin(door: Door) -> None:
    caller = door.with_key("predict")
    assert (
        caller.post("/predict", content=picture(), headers={**PNG, "Origin": "https://app.example"}).status_code == 200
    )


@pytest.mark.parametrize("token", [None, "", "wrong", "the other session's"])
def test_a_session_needs_its_own_token(door: Door, token: str | None) -> None:
    browser = door.person("ann")
    if token == "the other session's":
        token = door.person("bob").csrf()
    sent = PNG if token is None else {**PNG, "X-CSRF-Token": token}
    reply = browser.post("/predict", content=picture(), headers=sent)
    assert (reply.status_code, reply.json()["field"]) == (403, "csrf")
    fields = {} if token is None else {"csrf": token}
    assert browser.post("/logout", data=fields).status_code == 403
    assert browser.get("/model").status_code == 200  # still signed in


def test_the_token_stands_in_a_form_with_a_picture(door: Door) -> None:
    """As a page without a script sends it; the body then reaches the route whole."""
    browser = door.person("ann")
    files = {"file": ("ä.png", picture(size=(900, 700)), "image/png")}
    reply = browser.post("/predict", data={"csrf": browser.csrf()}, files=files)
    assert reply.status_code == 200
    assert reply.json()["predictions"][0]["name"] == "ä.png"
    for fields in ({}, {"csrf": "wrong"}, {"other": browser.csrf()}, {"other": "x", "csrf": browser.csrf()}):
        assert browser.post("/predict", data=fields, files=files).status_code == 403
    nested = {"file": ("x", b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\nx', "image/png")}
    assert browser.post("/predict", files=nested).status_code == 403


ODD_FORMS = [
    ("multipart/form-data", b"csrf"),
    ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\nTOKEN'),
    ("multipart/form-data; boundary=b", b'--b\r\nX: form-data; name="csrf"\r\n\r\nTOKEN\r\n--b--\r\n'),
    (
        "multipart/form-data; boundary=b",
        b"x" * 20_000 + b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\nTOKEN\r\n--b',
    ),
    ("application/x-www-form-urlencoded", b"a=1&" * 60 + b"csrf=TOKEN"),
    ("application/x-www-form-urlencoded", b"a=" + b"x" * 70_000 + b"&csrf=TOKEN"),
    ("text/plain", b"csrf=TOKEN"),
]


@pytest.mark.parametrize(("kind", "body"), ODD_FORMS, ids=range(len(ODD_FORMS)))
def test_a_token_in_an_odd_place_is_none(door: Door, kind: str, body: bytes) -> None:
    browser = door.person("ann")
    sent = body.replace(b"TOKEN", browser.csrf().encode())
    assert browser.post("/logout", content=sent, headers={"Content-Type": kind}).status_code == 403
    right = b"a=1&csrf=" + browser.csrf().encode()
    good = "application/x-www-form-urlencoded"
    assert browser.post("/logout", content=right, headers={"Content-Type": good}).status_code == 303


def test_a_form_that_stalls_or_leaves_before_its_token_is_refused() -> None:
    """Asked of the reader itself: a client that goes, or says nothing more."""

    async def go() -> None:
        headers = Headers({"content-type": "application/x-www-form-urlencoded"})

        async def leaves() -> Message:
            return {"type": "http.disconnect"}

        with pytest.raises(Forbidden, match="csrf"):
            await require_csrf(headers, leaves, "wanted")

        async def stalls() -> Message:
            await asyncio.sleep(60)
            raise AssertionError

        with pytest.raises(Forbidden, match="csrf"):
            await require_csrf(headers, stalls, "wanted", idle_s=0.01)

    asyncio.run(go())


def test_the_token_does_not_tell_the_cookie(door: Door) -> None:
    browser = door.person("ann")
    cookie = browser.cookies.get("drivetrain_session")
    assert cookie is not None
    assert browser.csrf() not in cookie
    assert cookie not in browser.get("/", headers=HTML).text
    assert browser.csrf() in browser.get("/", headers=HTML).text


def test_a_cookie_that_is_no_sessions_is_none(door: Door) -> None:
    for value in ("x", "x" * 5_000):
        assert door.seen_from(FAR, headers={"Cookie": f"drivetrain_session={value}"}).get("/model").status_code == 401
    with open_door(None) as alone:
        assert alone.get("/model", headers={"Cookie": "drivetrain_session=x"}).status_code == 200


def test_a_removed_person_is_out(door: Door) -> None:
    assert door.store is not None
    browser = door.person("ann")
    door.store.users.remove("ann")
    assert door.seen_from(FAR, headers={"Cookie": f"drivetrain_session={browser.cookies['drivetrain_session']}"}).get(
        "/model"
    ).status_code in {200, 401}  # believed for two seconds where it was just asked
    fresh = open_again(door)
    fresh.cookies = browser.cookies
    assert fresh.get("/model").status_code == 401


def open_again(door: Door) -> Door:
    from drivetrain.serve.app import create_app

    from .fakes import FakeModel, settings

    return Door(create_app(FakeModel(), settings(), store=door.store), door.store)


def test_without_a_database_there_is_no_login() -> None:
    with open_door(None) as door:
        assert door.get("/login").status_code == 404
        assert "Set DRIVETRAIN_DB" in door.get("/login").json()["message"]


def test_the_form_shows_a_name_as_text(door: Door) -> None:
    reply = door.sign_in('"><script>alert(1)</script>', "a wrong password")
    assert "<script>" not in reply.text
    assert "&lt;script&gt;" in reply.text
    assert reply.headers["Cache-Control"] == "no-store"


def test_a_body_that_is_no_form_is_refused(door: Door) -> None:
    browser = door.seen_from("127.0.0.1")
    browser.get("/login")
    for kind, body in (
        ("application/json", b"{}"),
        ("application/x-www-form-urlencoded", b"a=1&" * 200_000),
        ("", b""),
    ):
        assert browser.post("/login", content=body, headers={"Content-Type": kind}).status_code == 403
