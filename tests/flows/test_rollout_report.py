from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from drivetrain.flows.rollout import hold
from drivetrain.flows.rollout_evidence import gather_evidence
from drivetrain.flows.rollout_report import gather_report, write_report
from drivetrain.inspect.rollout_report import render_rollout_report
from drivetrain.store.store import Store
from drivetrain.trust.estimate import wilson_interval
from drivetrain.trust.sequential import rate_interval

from .rollout_traffic import Clock, Traffic, begin


def test_the_page_tells_what_there_is(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, objective="<b>fewer</b> misses", n_min=100)
    traffic = Traffic(store, clock, deployment)
    page = tmp_path / "page.html"
    assert write_report(store, "shapes", page)["changes"] == []
    assert "Nothing to draw yet." in page.read_text("utf-8")
    traffic.send(20, attributes={"site": "north"})
    traffic.send(5, truth="square", attributes={"site": "south"})
    traffic.send(5, candidate=None)
    traffic.send(1, truth=None)
    hold(store, "shapes", by="bob", reason="a holiday")
    facts = write_report(store, "shapes", page)
    low, high = rate_interval(5, 25, alpha=0.05)
    assert facts["points"][-1] == {"n": 30, "share": 0.2, "low": low, "high": high}
    south = wilson_interval(5, 5)
    assert facts["parts"]["site"] == [
        {"value": "north", "n": 20, "share": 0.0, "low": 0.0, "high": wilson_interval(0, 20)[1]},
        {"value": "south", "n": 5, "share": 1.0, "low": south[0], "high": 1.0},
    ]
    assert [row["value"] for row in facts["parts"]["decided as"]] == ["circle"]
    assert facts["reasons"] == {"unknown": 5}
    assert facts["changes"][1:3] == [
        "It stood at manual, and stands at manual, held.",
        "30 more requests counted: 25 decided, 5 left to people, 0 failed; 25 more labels, 5 of them wrong decisions.",
    ]
    text = page.read_text("utf-8")
    assert "&lt;b&gt;fewer&lt;/b&gt; misses" in text
    assert "30 of 100 requests (1 more wait for a label): 70 more." in text
    assert "a holiday" in text
    assert re.search(r'<polyline class="line" points="\d+\.\d,\d+\.\d ', text)
    assert "<script>" not in text
    assert "Since the report of 2023-11-14" in text


def test_labels_drawn_by_chance_are_weighed(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, has_incumbent=True, audit_share=0.1)
    traffic = Traffic(store, clock, deployment)
    traffic.send(4, candidate="circle", incumbent="square", truth="square")  # all that differ: probability 1
    traffic.send(4, incumbent="circle", probability=0.1)  # each stands for ten
    traffic.send(36, incumbent="circle", probability=0.1, wants_label=False)
    [row] = gather_report(store, "shapes")["parts"]["decided as"]
    assert (row["n"], row["share"]) == (8, 4 / 44)
    point = gather_report(store, "shapes")["points"][-1]
    audits = gather_evidence(store, deployment).for_promotion
    assert audits.estimate is not None
    assert point == {
        "n": 44,
        "share": min(max(audits.estimate, 0.0), 1.0),
        "low": audits.low(alpha=0.025),
        "high": audits.high(alpha=0.025),
    }


def test_many_requests_are_drawn_by_a_few_points(store: Store, clock: Clock, tmp_path: Path) -> None:
    Traffic(store, clock, begin(store, tmp_path)).send(500)
    points = gather_report(store, "shapes")["points"]
    assert 60 <= len(points) <= 161
    assert points[-1]["n"] == 500
    steps = {later["n"] - earlier["n"] for earlier, later in itertools.pairwise(points[:-1])}
    assert len(steps) == 1


@pytest.mark.parametrize("text", ["", "<p>", '<script type="application/json" id="facts">{}</script>', "\udcff"])
def test_another_page_in_its_place_is_not_compared_with(store: Store, tmp_path: Path, text: str) -> None:
    begin(store, tmp_path)
    page = tmp_path / "page.html"
    page.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert write_report(store, "shapes", page)["changes"] == []
    assert write_report(store, "shapes", page)["changes"][0].startswith("Since the report of")


def test_the_first_screen_tells_who_decides_what_is_missing_and_harm(
    store: Store, clock: Clock, tmp_path: Path
) -> None:
    deployment = begin(store, tmp_path, n_min=100, premortem={})
    Traffic(store, clock, deployment).send(59)
    write_report(store, "shapes", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    head = text[: text.index("Wrong decisions, as the requests came")]
    for words in (
        '<li class="is-now" aria-current="step">Manual</li>',
        "People decide. The new model sees every picture and decides nothing.",
        "Not enough: needs 41 more requests and 8 answers of the pre-mortem.",
        "No harm is shown.",
        "2 things are missing",
    ):
        assert words in head
    assert "Back to the roll-out" not in text
    assert 'href="x"' in render_rollout_report(gather_report(store, "shapes"), back="x")


def test_drift_is_drawn_and_what_changed_is_named(store: Store, clock: Clock, tmp_path: Path) -> None:
    traffic = Traffic(store, clock, begin(store, tmp_path, prior=(3.0, 97.0), prior_from="a hunch"))
    traffic.send(200)
    page = tmp_path / "page.html"
    write_report(store, "shapes", page)
    assert "200 of the first 200 requests have come" in page.read_text("utf-8")
    traffic.send(60, candidate=None, truth=None)
    facts = write_report(store, "shapes", page)
    assert facts["drift"]["changed"] == ["unknown", "left to people"]
    text = page.read_text("utf-8")
    assert "<b>Changed:</b> unknown, left to people." in text
    assert text.count('<svg class="drift"') == len(facts["drift"]["series"]) == 4
    assert "0 % at first, 100 % since: changed" in text.replace("\N{NO-BREAK SPACE}", " ")
    assert "A Bayesian view beside it, shown, never a gate. Believed before: 3 % wrong" in text


def test_errors_by_what_is_true_tell_misses(store: Store, clock: Clock, tmp_path: Path) -> None:
    traffic = Traffic(store, clock, begin(store, tmp_path))
    traffic.send(6)
    traffic.send(3, truth="square")
    traffic.send(1, candidate="square", truth="square")
    rows = {row["value"]: (row["n"], row["share"]) for row in gather_report(store, "shapes")["parts"]["in truth"]}
    assert rows == {"circle": (6, 0.0), "square": (4, 0.75)}
