"""The pages of roll-outs without a browser: what they tell, who may do what, and acts that are refused."""

from __future__ import annotations

import html
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from drivetrain.flows.premortem import QUESTIONS
from drivetrain.flows.rollout import rollback, verify

from .browsing import HOSTILE
from .doors import Door, open_door
from .rolling import HARD, begin, begin_limited, begin_ready, send

MEANT = {"reason": "it is time", "confirm": "yes"}


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path, db=f"sqlite:///{tmp_path}/door.db") as opened:
        yield opened


def revision(page: str) -> str:
    found = re.search(r'name="revision" value="(\d+)"', page)
    assert found
    return found[1]


def act(door: Door, action: str, name: str = "shapes", **fields: str) -> httpx.Response:
    """As the form of the page that was read a moment ago."""
    data = {**MEANT, **fields}
    if "revision" not in data:
        data["revision"] = revision(door.get(f"/rollouts/{name}").text)
    if door.cookies.get("drivetrain_session"):
        data.setdefault("csrf", door.csrf())
    return door.post(f"/rollouts/{name}/{action}", data=data)


def plain(page: str) -> str:
    """Its words."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


def test_a_manager_reads_where_it_stands_and_what_is_missing(door: Door, tmp_path: Path) -> None:
    assert door.store
    deployment = begin(door.store, tmp_path, objective=f"fewer misses {HOSTILE}", premortem={}, **HARD)
    send(door.store, deployment, 59)
    page = door.get("/rollouts/shapes")
    words = plain(page.text)
    assert HOSTILE not in page.text
    assert "fewer misses <img src=x onerror=alert(1)>" in words
    assert "Manual." in words
    assert "People decide. The new model sees every picture and decides nothing." in words
    assert "Not enough: needs 41 more requests, 24 more hours, 11 more hours of the day" in words
    assert "8 answers of the pre-mortem" in words
    assert "No harm is shown." in words
    assert re.search(r'<li class="is-now" aria-current="step"><span>Manual</span>', page.text)
    assert '<li class="is-next"><span>Limited</span>' in page.text
    assert 'aria-label="59 % of the way"' in page.text
    assert "✓ Few enough mistakes" in words
    card = plain(door.get("/rollouts").text)
    assert "shapes" in card
    assert "Not enough: needs 41 more requests" in card


def test_a_list_of_what_goes_on_and_what_is_over(door: Door, tmp_path: Path) -> None:
    assert door.store
    assert "None. Start one" in plain(door.get("/rollouts").text)
    first = begin_limited(door.store, tmp_path)
    rollback(door.store, first.id, by="ann", reason="dark pictures")
    begin(door.store, tmp_path, seed=3)
    page = door.get("/rollouts")
    assert page.text.count('class="roll"') == 1
    assert f'href="./rollouts/{first.id}"' in page.text  # the name leads to the newer one
    assert "rolled back" in page.text
    over = plain(door.get(f"/rollouts/{first.id}").text)
    assert "Rolled back." in over
    assert "The new model was taken back and decides nothing." in over
    assert "taken back here" in over
    assert re.search(r"ann, 20[-0-9]+ [:0-9]+ UTC: dark pictures No harm was shown\.", over)
    assert "What you can do" not in over
    part = door.get("/rollouts?part=now")
    assert "<html" not in part.text
    assert part.text.strip().startswith('<div class="rolls">')


def test_a_step_is_refused_with_what_is_missing_and_taken_when_it_is_shown(door: Door, tmp_path: Path) -> None:
    assert door.store
    deployment = begin(door.store, tmp_path, n_min=60)
    send(door.store, deployment, 19)
    refused = act(door, "advance", by="bob")
    assert refused.status_code == 409
    assert "Not enough: needs 41 more requests." in plain(refused.text)
    assert "19 of 60 requests: 41 more." in plain(refused.text)
    assert '<details class="act main" open>' in refused.text
    assert ">it is time</textarea>" in refused.text  # what was written is not lost
    send(door.store, deployment, 41)
    assert "All is shown for the next step, limited. A person may take it." in plain(door.get("/rollouts/shapes").text)
    done = act(door, "advance", by="bob")
    assert (done.status_code, done.headers["Location"]) == (303, "../shapes?done=advance")
    words = plain(door.get("/rollouts/shapes?done=advance").text)
    assert "The step was taken." in words
    assert "Limited." in words
    assert "The new model decides everywhere, as far as it is sure." in words
    entry = door.store.deployments.ledger(deployment.id)[-1]
    assert (entry["by"], entry["action"], entry["reason"]) == ("bob", "advance", "it is time")
    assert verify(door.store, "shapes") is None
    assert door.store.audit.list()[0].action == "rollout.advance"


def test_hold_resume_and_roll_back(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_limited(door.store, tmp_path, scope="class=circle")
    assert "decides where class=circle" in plain(door.get("/rollouts/shapes").text)
    assert act(door, "hold", by="bob").status_code == 303
    held = door.get("/rollouts/shapes").text
    assert "Limited, held. It goes on deciding as it does, and takes no step." in plain(held)
    assert "/advance" not in held
    assert act(door, "hold", by="bob").status_code == 409
    assert act(door, "resume", by="bob").status_code == 303
    assert act(door, "rollback", by="bob").headers["Location"].endswith("?done=rollback")
    assert door.store.deployments.list()[-1].stage == "rolled_back"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reason": " "}, "Say why: the reason is kept."),
        ({"confirm": ""}, "Mark the box, so that it is clear that you mean it."),
        ({"by": ""}, "Who does it? Give a name that may approve here."),
    ],
)
def test_an_act_without_reason_name_or_confirmation_is_none(
    door: Door, tmp_path: Path, fields: dict[str, str], said: str
) -> None:
    assert door.store
    deployment = begin_ready(door.store, tmp_path)
    for action in ("advance", "hold", "rollback"):
        reply = act(door, action, **{"by": "bob", **fields})
        assert reply.status_code == 422
        assert said in plain(reply.text)
    assert door.store.deployments.get("shapes") == deployment


def test_of_two_approvers_one_wins_and_the_other_is_told(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_ready(door.store, tmp_path)
    ann, bob = door.person("ann", "approve"), door.person("bob", "approve")
    seen = revision(bob.get("/rollouts/shapes").text)
    assert act(ann, "advance", reason="good by day").status_code == 303
    late = act(bob, "advance", revision=seen)
    assert late.status_code == 409
    words = plain(late.text)
    assert "Another change came first: advance by ann (“good by day”). It stands at limited now." in words
    assert door.store.deployments.get("shapes").stage == "limited"  # type: ignore[union-attr]  # one step, not two


def test_two_approvers_at_the_same_moment_take_one_step(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_ready(door.store, tmp_path)
    people = [door.person(name, "approve") for name in ("ann", "bob", "cem")]
    seen = revision(people[0].get("/rollouts/shapes").text)
    gate, replies = threading.Barrier(len(people)), []

    def press(browser: Door) -> None:
        gate.wait(30)
        replies.append(act(browser, "advance", revision=seen).status_code)

    threads = [threading.Thread(target=press, args=(one,)) for one in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(replies) == [303, 409, 409]
    deployment = door.store.deployments.get("shapes")
    assert deployment is not None
    assert deployment.stage == "limited"
    assert len(door.store.deployments.ledger(deployment.id)) == 2


@pytest.mark.parametrize(
    ("role", "sees", "stops", "steps"),
    [("predict", 403, 403, 403), ("review", 200, 303, 403), ("approve", 200, 303, 303), ("admin", 200, 303, 303)],
)
def test_who_may_do_what(door: Door, tmp_path: Path, role: str, sees: int, stops: int, steps: int) -> None:
    assert door.store
    begin_ready(door.store, tmp_path, premortem=dict.fromkeys(list(QUESTIONS)[1:], "yes"))
    alert = door.store.alerts.open(door.store.deployments.list()[0].id, "sample_ratio", "3 of 100").id
    browser = door.person("ann", role)
    for path in ("/rollouts", "/rollouts/shapes", "/rollouts/shapes/log", "/rollouts/shapes/report", "/versions"):
        assert browser.get(path).status_code == sees, path
    shown = browser.get("/rollouts/shapes").text
    for action in ("advance", "premortem", "alerts"):
        assert (f'/{action}"' in shown) == (steps == 303), action
    given = {"revision": "1", "csrf": browser.csrf()}
    assert act(browser, "alerts", alert=alert, **given).status_code == steps
    assert act(browser, "premortem", goes_wrong="rust", **given).status_code == steps
    assert act(browser, "advance", **given).status_code == steps
    assert act(browser, "hold", **given).status_code == stops
    assert act(browser, "resume", **{**given, "revision": "3"}).status_code == steps
    assert act(browser, "rollback", **given).status_code == stops
    if steps == 303:
        answers = door.store.deployments.premortem(door.store.deployments.list()[0].id)
        assert answers["goes_wrong"]["by"] == "ann"


def test_the_navigation_shows_what_one_may_see(door: Door) -> None:
    assert 'href="./rollouts"' in door.get("/card").text  # nobody signs in yet: all is open here
    seen = {}
    for role in ("predict", "review", "approve", "admin"):
        page = door.person(f"one who may {role}", *{"predict", role}).get("/card").text
        seen[role] = [link for link in ("Review", "Roll-outs", "Admin") if f">{link}</a>" in page]
    assert seen == {
        "predict": [],
        "review": ["Review", "Roll-outs"],
        "approve": ["Roll-outs"],
        "admin": ["Review", "Roll-outs", "Admin"],
    }


def test_without_a_session_the_login_page_comes_first(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin(door.store, tmp_path)
    browser = door.person("ann", "approve")
    stranger = door.seen_from("127.0.0.1")
    reply = stranger.get("/rollouts/shapes", headers={"Accept": "text/html"})
    assert (reply.status_code, reply.headers["Location"]) == (303, "../login?next=/rollouts/shapes")
    assert stranger.post("/rollouts/shapes/rollback", data=MEANT).status_code == 401
    assert browser.post("/rollouts/shapes/rollback", data=MEANT).status_code == 403  # no proof that the form is ours
    assert browser.post("/rollouts/shapes/rollback", data={**MEANT, "csrf": "x"}).status_code == 403
    assert door.store.deployments.list()[0].ended_at is None


def test_a_key_signs_with_its_own_tag(door: Door, tmp_path: Path) -> None:
    assert door.store
    deployment = begin_limited(door.store, tmp_path)
    program = door.with_key("approve")
    assert act(program, "hold", by="somebody else").status_code == 303
    assert door.store.deployments.ledger(deployment.id)[-1]["by"].startswith("key:")


def test_the_premortem_is_answered_on_the_page(door: Door, tmp_path: Path) -> None:
    assert door.store
    deployment = begin(door.store, tmp_path, premortem={"miss": "A walker."})
    page = door.get("/rollouts/shapes").text
    assert "1 of 8 are answered." in plain(page)
    assert page.count('<textarea id="q-') == 8
    answers = {name: f"About {name}." for name in QUESTIONS if name != "miss"}
    reply = door.post("/rollouts/shapes/premortem", data={**answers, "by": "bob", "miss": "  "})
    assert reply.headers["Location"] == "../shapes?done=premortem"
    kept = door.store.deployments.premortem(deployment.id)
    assert kept["miss"]["answer"] == "A walker."
    assert (kept["noticed"]["answer"], kept["noticed"]["by"]) == ("About noticed.", "bob")
    words = plain(door.get("/rollouts/shapes").text)
    assert "8 of 8 are answered." in words
    assert re.search(r"About noticed\. bob, 20\d\d-\d\d-\d\d \d\d:\d\d UTC", words)
    assert door.post("/rollouts/shapes/premortem", data={"miss": "A walker.", "by": "bob"}).status_code == 422
    door.post("/rollouts/shapes/premortem", data={"miss": "A walker and her dog.", "by": "cem"})
    assert door.store.deployments.premortem(deployment.id)["miss"]["by"] == "cem"


def test_manual_is_not_left_without_the_premortem(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_ready(door.store, tmp_path, premortem={})
    reply = act(door, "advance", by="bob")
    assert reply.status_code == 409
    assert "Not enough: needs 8 answers of the pre-mortem." in plain(reply.text)


def test_an_alert_is_closed_with_a_reason(door: Door, tmp_path: Path) -> None:
    assert door.store
    deployment = begin_ready(door.store, tmp_path)
    alert = door.store.alerts.open(deployment.id, "sample_ratio", f"3 of 100 {HOSTILE}")
    words = plain(door.get("/rollouts/shapes").text)
    assert "An alert is open: no step is taken before it is closed." in words
    assert "Sample ratio" in words
    assert "Not enough: needs 1 alert to be closed." in words
    assert act(door, "advance", by="bob").status_code == 409
    assert act(door, "alerts", alert="nothing", by="bob").status_code == 422
    assert act(door, "alerts", alert=alert.id, by="bob", reason="").status_code == 422
    assert act(door, "alerts", alert=alert.id, by="bob", reason="a holiday").status_code == 303
    assert act(door, "alerts", alert=alert.id, by="bob").status_code == 409
    [closed] = door.store.alerts.list(deployment.id, only_open=False)
    assert (closed.closed_by, closed.closed_why) == ("bob", "a holiday")


def test_the_ledger_with_its_check(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_limited(door.store, tmp_path)
    words = plain(door.get("/rollouts/shapes/log").text)
    assert "The ledger is whole: 2 entries" in words
    assert "manual → limited" in words
    with door.store.database.write() as db:
        db.exec_driver_sql("UPDATE stage_event SET by = 'eve' WHERE number = 1")
    assert "The ledger is not whole: entry 1 was changed after it was written." in plain(
        door.get("/rollouts/shapes/log").text
    )


def test_the_report_is_the_page_that_is_written_to_a_file(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_limited(door.store, tmp_path)
    reply = door.get("/rollouts/shapes/report")
    assert "default-src 'none'; style-src 'unsafe-inline'" in reply.headers["Content-Security-Policy"]
    assert '<a href="../shapes">' in reply.text
    assert "Wrong decisions, as the requests came" in reply.text


def test_versions_and_where_each_is_live(door: Door, tmp_path: Path) -> None:
    assert door.store
    assert "None yet." in plain(door.get("/versions").text)
    deployment = begin(door.store, tmp_path, has_incumbent=True)
    words = plain(door.get("/versions").text)
    assert f"{deployment.candidate} shapes : manual" in words
    assert f"{deployment.incumbent} live since before its first roll-out" in words


def test_numbers_are_counted_on_between_looks(door: Door, tmp_path: Path) -> None:
    assert door.store
    deployment = begin(door.store, tmp_path)
    for n in (0, 7, 12):
        send(door.store, deployment, n)
        part = door.get("/rollouts/shapes?part=now").text
        assert "<html" not in part
        assert re.search(r'<div class="stand" data-state="1::[\d.]+">', part)
    assert "Pictures counted 19" in plain(part)


def test_a_server_without_a_database(tmp_path: Path) -> None:
    with open_door(None) as door:
        assert "keeps no database" in door.get("/rollouts").text
        assert "keeps no database" in door.get("/versions").text
        assert door.get("/rollouts/shapes").status_code == 404
        assert "Roll-outs</a>" not in door.get("/card").text


def test_what_is_not_there(door: Door) -> None:
    for path in ("/rollouts/nobody", "/rollouts/nobody/log", "/rollouts/nobody/report"):
        assert door.get(path).status_code == 404
    assert door.post("/rollouts/nobody/rollback", data={**MEANT, "by": "bob"}).status_code == 404


def test_a_rollback_while_the_database_cannot_be_written(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_limited(door.store, tmp_path)
    page = door.get("/rollouts/shapes").text

    def forbid(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA query_only = ON")

    event.listen(door.store.database.engine, "checkout", forbid)
    assert act(door, "hold", by="bob").status_code == 503
    reply = act(door, "rollback", by="bob", revision=revision(page))
    assert (reply.status_code, reply.headers["Location"]) == (303, "../shapes?done=marker")
    assert (tmp_path / "shapes.rolled-back").exists()
    assert "taken back, by a file beside the database" in plain(door.get("/rollouts/shapes?done=marker").text)


def test_a_belief_is_shown_and_called_no_gate(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_ready(door.store, tmp_path, prior=(3.0, 97.0), prior_from="expected 3 %, as sure as 100 pictures")
    words = plain(door.get("/rollouts/shapes").text)
    assert "shown, never a gate" in words
    assert "Believed before: 3 % wrong, as sure as 100 pictures." in words


def test_the_servers_read_it_at_once_after_an_act(door: Door, tmp_path: Path) -> None:
    assert door.store
    begin_ready(door.store, tmp_path)

    class Desk:
        def __init__(self) -> None:
            self.read: list[str] = []

        def refresh(self) -> None:
            assert door.store
            deployment = door.store.deployments.get("shapes")
            assert deployment
            self.read.append(deployment.stage)

    door.app.state.rollouts = desk = Desk()
    assert act(door, "advance", by="bob", reason="").status_code == 422
    assert desk.read == []
    act(door, "advance", by="bob")
    act(door, "rollback", by="bob")
    assert desk.read == ["limited", "rolled_back"]
