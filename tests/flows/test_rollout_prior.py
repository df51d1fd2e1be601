from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.errors import InvalidConfig
from drivetrain.flows.rollout import rollback
from drivetrain.flows.rollout_config import RolloutConfig
from drivetrain.flows.rollout_evidence import gather_evidence
from drivetrain.flows.rollout_prior import add_prior, count_worth, describe_belief, parse_prior, read_past
from drivetrain.flows.rollout_status import describe_rollout
from drivetrain.store.store import Store
from drivetrain.trust.belief import ErrorPrior, Prior

from .rollout_traffic import Clock, Traffic, begin, make_config, write_bundle

WORDS = "expected 3 %, as sure as 100 pictures"


@pytest.mark.parametrize(
    ("words", "share", "pictures"),
    [
        (WORDS, 0.03, 100),
        ("Expected 2.5%  as sure as 1,000", 0.025, 1000),
        ("expected 50 %, as sure as 1 picture.", 0.5, 1),
    ],
)
def test_two_answers_are_read(words: str, share: float, pictures: float) -> None:
    prior = parse_prior(words)
    assert prior.wrong + prior.right == pytest.approx(pictures)
    assert prior.wrong == pytest.approx(share * pictures)


@pytest.mark.parametrize("words", ["", "3 %", "expected 3", "expected 0 %, as sure as 9", "expected 3 %, as sure as 0"])
def test_other_words_are_refused(words: str) -> None:
    with pytest.raises(InvalidConfig, match="prior"):
        parse_prior(words)


def test_a_prior_is_kept_with_the_roll_out(store: Store, tmp_path: Path) -> None:
    candidate = write_bundle(tmp_path / "c.dt", seed=9)
    config = add_prior(make_config(), WORDS, store=store, candidate=candidate)
    assert config.prior == pytest.approx((3.0, 97.0))
    assert config.prior_from == WORDS
    assert RolloutConfig.from_json(config.as_json()) == config
    assert add_prior(make_config(), None, store=store, candidate=candidate).prior is None
    assert add_prior(make_config(), "none", store=store, candidate=candidate).prior is None
    with pytest.raises(InvalidConfig, match="an earlier roll-out of tiny with labels"):
        add_prior(make_config(), "past", store=store, candidate=candidate)


def test_earlier_releases_of_the_model_make_a_prior(store: Store, clock: Clock, tmp_path: Path) -> None:
    for seed, wrong in ((3, 2), (4, 6)):
        traffic = Traffic(store, clock, begin(store, tmp_path, seed=seed))
        traffic.send(100 - wrong)
        traffic.send(wrong, truth="square")
        rollback(store, "shapes", by="ann", reason="next")
    candidate = write_bundle(tmp_path / "c.dt", seed=9)
    assert read_past(store, "tiny", candidate="tiny@other") == [(2.0, 100.0), (6.0, 100.0)]
    want = ErrorPrior.of_releases([(2.0, 100.0), (6.0, 100.0)])
    for words in (None, "past"):
        config = add_prior(make_config(), words, store=store, candidate=candidate)
        assert config.prior == (want.wrong, want.right)
        assert config.prior_from == "2 earlier releases of tiny"
    again = add_prior(make_config(), "past", store=store, candidate=tmp_path / "new4.dt")
    assert again.prior_from == "1 earlier release of tiny"  # its own past is its evidence, not its prior
    assert add_prior(make_config(), "none", store=store, candidate=candidate).prior is None


def test_what_is_seen_moves_the_belief_and_no_gate(store: Store, clock: Clock, tmp_path: Path) -> None:
    told = {}
    for name, prior in (("without", None), ("with", (30.0, 10.0))):
        deployment = begin(store, tmp_path, name=name, prior=prior, prior_from="a hunch")
        traffic = Traffic(store, clock, deployment)
        traffic.send(40)
        traffic.send(2, truth="square")
        traffic.send(1, candidate=None)
        told[name] = describe_rollout(store, name)
        rollback(store, name, by="ann", reason="next")
    assert told["without"]["belief"] is None
    belief = told["with"]["belief"]
    assert belief["error"] == ErrorPrior(wrong=30, right=10).update(2, 40, bound=0.1).as_json()
    assert belief["versus"] is None
    assert belief["prior_from"] == "a hunch"
    gates = [facts["evidence"]["gate"] for facts in told.values()]
    assert gates[0] == gates[1]


def test_labels_drawn_by_chance_are_worth_fewer(store: Store, clock: Clock, tmp_path: Path) -> None:
    deployment = begin(store, tmp_path, has_incumbent=True, audit_share=0.1)
    traffic = Traffic(store, clock, deployment)
    traffic.send(20, candidate="circle", incumbent="square", truth="square")
    traffic.send(8, incumbent="circle", probability=0.1)
    traffic.send(72, incumbent="circle", probability=0.1, wants_label=False)
    evidence = gather_evidence(store, deployment)
    wrong, worth = count_worth(evidence, audit_share=0.1)
    assert worth == pytest.approx((20 + 80) ** 2 / (20 + 8 * 100))
    assert worth < 28
    assert evidence.for_promotion.estimate is not None
    assert wrong == pytest.approx(evidence.for_promotion.estimate * worth)
    belief = describe_belief(make_config(has_incumbent=True, audit_share=0.1), evidence)
    assert belief is not None
    assert belief["error"] is None
    assert belief["versus"] == Prior(wins=1, losses=1).update(0, 20).as_json()
