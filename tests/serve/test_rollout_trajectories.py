"""Roll-outs through the real server, store and reviewers: at every look the same as plain arithmetic has it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivetrain.flows.rollout import get_deployment, rollback
from drivetrain.flows.rollout_config import RolloutConfig
from drivetrain.flows.rollout_evidence import EvidenceReader
from drivetrain.flows.rollout_judge import judge_now
from drivetrain.rollout.evidence import Evidence, Outcome
from drivetrain.rollout.gates import Criterion, Readiness, judge_gate, judge_harm
from drivetrain.rollout.reviewing import CANNOT_TELL
from drivetrain.serve.rollout.turn import is_drawn

from .rollout_bench import BLUE, GREEN, RED, Bench, begin, poll, rollout_bench

# what the two say of each colour, by themselves; None: left to people
SAYS = {"red": ("amber", "amber"), "green": ("blue", "amber"), "blue": (None, "amber")}
COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}
TESTS = ("error", "against the incumbent")


@dataclass
class Request:
    """One, and what is known of it so far."""

    prediction_id: str
    colour: str
    probability: float
    wants_label: bool
    at: float
    said: str | None = None

    def outcome(self) -> Outcome:
        candidate, incumbent = SAYS[self.colour]
        review = "none" if not self.wants_label else "pending" if self.said is None else "labelled"
        return Outcome(
            at=datetime.fromtimestamp(self.at, UTC),
            candidate=candidate,
            incumbent=incumbent,
            review="unclear" if self.said == CANNOT_TELL else review,  # type: ignore[arg-type]
            truth=None if self.said in (None, CANNOT_TELL) else self.said,
            probability=self.probability,
        )


@pytest.mark.parametrize("rollouts", [pytest.param(3, id="fast"), pytest.param(50, id="full", marks=pytest.mark.slow)])
def test_the_same_at_every_look(rollouts: int, tmp_path: Path) -> None:
    new = {colour: pair[0] for colour, pair in SAYS.items()}
    looks = n_met = n_harm = 0
    with rollout_bench(tmp_path, new=new) as bench:
        for number in range(rollouts):
            draws = random.Random(number)
            # every third is good, every third does harm
            goodness = (0.95, 0.5, 0.02)[number % 3]
            # whose label is drawn hangs on ids nobody can seed: the first good and the first harmful one ask for all
            audit_share = (1.0, 0.2, 1.0)[number] if number < 3 else draws.choice([0.2, 0.5, 1.0])
            deployment = begin(
                bench.store, name=f"colours-{number}", bound=0.3, margin=0.0, alpha=0.2, harm_alpha=0.2,
                audit_share=audit_share,
            )  # fmt: skip
            bench.desk.refresh()
            reader, requests = EvidenceReader(bench.store, deployment), []
            for _ in range((40, 40, 70)[number % 3]):
                requests.append(ask(bench, draws, share=audit_share, salt=deployment.salt))
                while (waiting := [one for one in requests if one.wants_label and one.said is None]) and (
                    len(waiting) > 4 or draws.random() < 0.5
                ):
                    label(bench, draws, draws.choice(waiting), goodness)
                met, harm = compare(bench, reader, deployment.id, requests)
                looks, n_met, n_harm = looks + 1, n_met + met, n_harm + harm
                if harm:  # the server saw it too
                    poll(lambda: get_deployment(bench.store, deployment.id).stage == "rolled_back")  # noqa: B023
                    break
            if get_deployment(bench.store, deployment.id).ended_at is None:
                rollback(bench.store, deployment.id, by="the test", reason="enough")
            bench.desk.refresh()
    assert looks > 20 * rollouts
    assert n_met
    assert n_harm


def ask(bench: Bench, draws: random.Random, *, share: float, salt: str) -> Request:
    """A caller's picture, until both models have seen it."""
    [colour] = draws.choices([*COLOURS], weights=[5, 4, 1])
    answer = bench.send(COLOURS[colour], key=str(draws.randrange(1000)))
    row = bench.seen(answer)
    candidate, incumbent = SAYS[colour]
    probability = 1.0 if None not in (candidate, incumbent) and candidate != incumbent else share
    wants = candidate is not None and (
        probability == 1 or is_drawn(answer["prediction_id"], salt=salt, share=probability)
    )
    return Request(
        prediction_id=answer["prediction_id"], colour=colour, probability=probability, wants_label=wants, at=row.at
    )


def label(bench: Bench, draws: random.Random, request: Request, goodness: float) -> None:
    """A reviewer says what it is, or that nobody can tell."""
    candidate, incumbent = SAYS[request.colour]
    right, wrong = (candidate, incumbent if incumbent != candidate else "coral")
    assert right is not None
    request.said = draws.choices([right, wrong, CANNOT_TELL], weights=[goodness, 1 - goodness, 0.03])[0]
    bench.label({"prediction_id": request.prediction_id}, request.said)


def compare(bench: Bench, reader: EvidenceReader, deployment_id: str, requests: list[Request]) -> tuple[bool, bool]:
    """(may it go on, is harm shown), the same by the store and by arithmetic."""
    deployment = get_deployment(bench.store, deployment_id)
    judged = judge_now(bench.store, deployment, reader=reader)
    config = RolloutConfig.from_json(deployment.config)
    plain = Evidence.of((one.outcome() for one in requests), floor=config.audit_share)
    ready = Readiness(open_alerts=0, has_datasheet=True, has_premortem=False, backlog=0)
    ours, theirs = (by_name(judge_gate(plain, config.gate, ready).criteria), by_name(judged.gate.criteria))
    for name in TESTS:
        assert theirs[name].log_e == pytest.approx(ours[name].log_e, abs=1e-9), name
        assert theirs[name].is_met == ours[name].is_met
        assert theirs[name].sentence == ours[name].sentence
    counts = ("n", "n_waiting", "n_labelled", "n_wrong", "wins", "losses", "ties", "n_untold", "n_deferred")
    whole = judged.gathered.whole
    assert [getattr(whole, name) for name in counts] == [getattr(plain, name) for name in counts]
    harm = judge_harm(plain, config.gate)
    by_server = {one.name: one.log_e for one in judged.harm.criteria}
    assert by_server == pytest.approx({one.name: one.log_e for one in harm.criteria}, abs=1e-9)
    return all(theirs[name].is_met for name in TESTS), judged.harm.is_met


def by_name(criteria: tuple[Criterion, ...]) -> dict[str, Criterion]:
    return {one.name: one for one in criteria}
