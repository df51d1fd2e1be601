from __future__ import annotations

import pytest

from drivetrain.errors import Conflict, InvalidConfig
from drivetrain.rollout.stages import LADDER, START, Position, move


def test_the_ladder_is_climbed_step_by_step() -> None:
    position, seen = START, [START.in_words]
    while not position.is_over:
        position = move(position, "advance")
        seen.append(position.in_words)
    assert seen == [
        "manual", "limited", "expanding at 5 %", "expanding at 25 %", "expanding at 50 %", "expanding at 100 %", "live",
    ]  # fmt: skip
    assert len(seen) == len(LADDER)


def test_a_held_roll_out_does_not_advance_and_goes_on_where_it_was() -> None:
    position = Position(stage="expanding", share=0.25)
    held = move(position, "hold")
    assert held.in_words == "expanding at 25 %, held"
    with pytest.raises(Conflict, match="Resume it first"):
        move(held, "advance")
    with pytest.raises(Conflict):
        move(held, "hold")
    assert move(held, "resume") == position
    with pytest.raises(Conflict):
        move(position, "resume")


@pytest.mark.parametrize(("stage", "share"), LADDER[:-1])
@pytest.mark.parametrize("is_held", [False, True])
def test_it_can_be_rolled_back_from_everywhere(stage: str, share: float, is_held: bool) -> None:
    position = Position(stage=stage, share=share, is_held=is_held)  # type: ignore[arg-type]
    assert move(position, "rollback") == Position(stage="rolled_back", share=0.0)


def test_what_is_over_stays_over() -> None:
    for position in (Position(stage="live", share=1.0), Position(stage="rolled_back", share=0.0)):
        for action in ("advance", "hold", "resume", "rollback"):
            with pytest.raises(Conflict, match="Start another"):
                move(position, action)
        with pytest.raises(Conflict):
            position.next()


def test_a_share_that_is_no_step_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="a step of the ladder"):
        Position(stage="expanding", share=0.3).next()
