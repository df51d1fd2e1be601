from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from drivetrain.errors import InvalidConfig
from drivetrain.rollout.reviewing import (
    CANNOT_TELL,
    Verdict,
    Waiting,
    measure_agreement,
    settle,
    sort_queue,
    wants_second,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def waiting(
    name: str, asked: int, due: datetime | None = None, *, risk: float = 0.1, is_audit: bool = False
) -> Waiting:
    return Waiting(
        prediction_id=name, asked_at=NOON + timedelta(minutes=asked), due_at=due, risk=risk, is_audit=is_audit
    )


def test_each_order_puts_its_own_first_and_then_the_oldest() -> None:
    east = timezone(timedelta(hours=5))
    queue = [
        waiting("old", 0, risk=0.1),
        waiting("soon", 3, datetime(2026, 11, 23, 18, tzinfo=east)),  # 13:00 UTC
        waiting("later", 2, datetime(2026, 11, 23, 14, tzinfo=UTC), risk=0.9),
        waiting("audit", 5, is_audit=True),
        waiting("twin", 0, risk=0.1),
    ]
    assert [one.prediction_id for one in sort_queue(queue, by="deadline")] == ["soon", "later", "old", "twin", "audit"]
    assert [one.prediction_id for one in sort_queue(queue, by="risk")] == ["later", "old", "twin", "soon", "audit"]
    assert [one.prediction_id for one in sort_queue(queue, by="audit")] == ["audit", "old", "twin", "later", "soon"]
    with pytest.raises(InvalidConfig, match="order"):
        sort_queue(queue, by="size")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answers", "people", "want"),
    [
        ([], 1, Verdict(state="open", people_wanted=1)),
        (["bear"], 1, Verdict(state="labelled", label="bear")),
        ([CANNOT_TELL], 1, Verdict(state="unclear")),
        (["bear"], 2, Verdict(state="open", people_wanted=1)),
        (["bear", "bear"], 2, Verdict(state="labelled", label="bear")),
        (["bear", "wolf"], 2, Verdict(state="open", people_wanted=1)),
        (["bear", "wolf", "wolf"], 2, Verdict(state="labelled", label="wolf")),
        (["bear", "wolf", "fox"], 2, Verdict(state="unclear")),
        (["bear", CANNOT_TELL, CANNOT_TELL], 2, Verdict(state="unclear")),
        (["bear", CANNOT_TELL, "bear"], 2, Verdict(state="labelled", label="bear")),
    ],
)
def test_when_an_answer_stands(answers: list[str], people: int, want: Verdict) -> None:
    assert settle(answers, people=people) == want


def test_no_one_or_four_people_are_not_asked() -> None:
    with pytest.raises(InvalidConfig, match="people"):
        settle(["bear"], people=4)


def test_a_share_sees_two_people_and_it_is_not_the_share_that_gets_the_candidate() -> None:
    names = [f"p{number}" for number in range(20_000)]
    twice = [name for name in names if wants_second(name, salt="a", share=0.1)]
    assert abs(len(twice) - 2_000) < 4 * np.sqrt(20_000 * 0.09)
    assert not any(wants_second(name, salt="a", share=0.0) for name in names[:100])


def test_kappa_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    first = rng.choice(["bear", "wolf", "fox"], size=300, p=[0.7, 0.2, 0.1])
    second = np.where(rng.random(300) < 0.8, first, rng.choice(["bear", "wolf", "fox"], size=300))
    found = measure_agreement(list(zip(first.tolist(), second.tolist(), strict=True)))
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert found.same.share == pytest.approx((first == second).mean())
    assert measure_agreement([("bear", "bear")] * 5).kappa is None  # it could not have come out otherwise
    assert measure_agreement([]).same.share is None
