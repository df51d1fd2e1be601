"""The steps of a roll-out, and what may be done at each. Values in, a value out; who stores it compares and sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from drivetrain.errors import Conflict, InvalidConfig

__all__ = ["LADDER", "Action", "Position", "Stage", "move"]

Stage = Literal["manual", "limited", "expanding", "live", "rolled_back"]
Action = Literal["advance", "hold", "resume", "rollback"]

LADDER: tuple[tuple[Stage, float], ...] = (
    ("manual", 0.0),  # the candidate sees everything and decides nothing
    ("limited", 1.0),  # it decides inside its scope
    ("expanding", 0.05),  # it decides for a share of the keys, everywhere
    ("expanding", 0.25),
    ("expanding", 0.5),
    ("expanding", 1.0),
    ("live", 1.0),  # it is the incumbent now
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a roll-out stands. While it is held it decides as it did; a held one does not advance."""

    stage: Stage
    share: float
    is_held: bool = False

    @property
    def is_over(self) -> bool:
        return self.stage in ("live", "rolled_back")

    @property
    def in_words(self) -> str:
        """For a person."""
        share = f" at {100 * self.share:.0f} %" if self.stage == "expanding" else ""
        return f"{self.stage.replace('_', ' ')}{share}{', held' if self.is_held else ''}"

    def next(self) -> Position:
        """The next step up. Raises Conflict at the end, InvalidConfig where it stands on no step."""
        if self.is_over:
            raise Conflict("stage", got=self.stage, want="a roll-out that goes on", hint="Start another.")
        try:
            place = LADDER.index((self.stage, self.share))
        except ValueError:
            raise InvalidConfig("stage", got=self.in_words, want="a step of the ladder") from None
        stage, share = LADDER[place + 1]
        return replace(self, stage=stage, share=share)


START = Position(stage="manual", share=0.0)


def move(position: Position, action: Action) -> Position:
    """Where an action leads. Raises Conflict where it cannot be done from here; what an advance takes, gates judge."""
    if position.is_over:
        raise Conflict(action, got=position.in_words, want="a roll-out that goes on", hint="Start another.")
    if action == "rollback":  # from everywhere, held or not
        return Position(stage="rolled_back", share=0.0)
    if action == "advance":
        if position.is_held:
            raise Conflict("advance", got=position.in_words, want="one that is not held", hint="Resume it first.")
        return position.next()
    if (action == "hold") == position.is_held:
        raise Conflict(
            action, got=position.in_words, want="one that is not" if position.is_held else "one that is held"
        )
    return replace(position, is_held=action == "hold")
