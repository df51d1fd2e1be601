"""What is left of a model on pictures made worse: right, flagged, left to a person, wrong without a word."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from drivetrain.arrays import BoolArray, IntArray
from drivetrain.errors import InvalidInput
from drivetrain.trust.estimate import Rate

__all__ = ["Condition", "measure_condition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One way to make pictures worse, at one strength; all shares are of all n pictures, with 95 % intervals."""

    kind: str
    strength: int  # 0: as they were
    n: int
    accuracy: Rate  # right by the best guess, whoever decides
    flagged: Rate  # called unknown or shifted
    deferred: Rate  # left to a person, for whatever reason
    silent: Rate  # wrong, and decided by itself
    unflagged: Rate  # wrong, and neither called unknown nor shifted

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, under the names of the fields."""
        return asdict(self)


def measure_condition(
    kind: str,
    strength: int,
    *,
    right: BoolArray,
    flagged: BoolArray,
    deferred: BoolArray,
    groups: IntArray | None = None,
) -> Condition:
    """Count marks (n,); pictures of one number in groups (n,) are alike, and intervals heed it.

    Raises InvalidInput where there are none, or shapes do not fit.
    """
    n = len(right)
    if not n or flagged.shape != (n,) or deferred.shape != (n,):
        raise InvalidInput("right", got=f"{n} marks", want="one a picture, and one picture at least")
    return Condition(
        kind=kind,
        strength=strength,
        n=n,
        accuracy=Rate.of(right, groups),
        flagged=Rate.of(flagged, groups),
        deferred=Rate.of(deferred, groups),
        silent=Rate.of(~right & ~deferred, groups),
        unflagged=Rate.of(~right & ~flagged, groups),
    )
