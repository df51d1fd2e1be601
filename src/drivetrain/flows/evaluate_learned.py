"""Which of the pictures of an evaluation the model has learned from: they flatter it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.data.items import Item
from drivetrain.data.lineage import digest_items
from drivetrain.flows.trained_on import CALIBRATED_ON, TRAINED_ON, mark_calibrated, mark_trained
from drivetrain.runtime.predictor import Predictor

__all__ = ["Learned", "find_learned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a model had of n pictures before it was asked about them."""

    n: int
    n_trained_on: int | None  # the same files, byte for byte; None of a bundle from before this was kept
    n_calibrated_on: int | None  # whose labels gave its probabilities and its promise; None as above
    is_made_of: bool  # these pictures and labels are, all in all, those that it was trained and calibrated on
    is_certified_on: bool  # those that did not train it are all of the ones that its promise was measured on

    @property
    def tainted(self) -> str:
        """Why they cannot speak for its promise; empty where nothing is known against them."""
        if self.n_trained_on:
            return f"{_count(self.n_trained_on, self.n)} trained it"
        if self.is_made_of:
            return "the model was made from these very pictures"
        if self.is_certified_on:
            return "it was measured on these very pictures"
        return f"{_count(self.n_calibrated_on, self.n)} calibrated the model" if self.n_calibrated_on else ""

    @property
    def suffix(self) -> str:
        """To stand behind the number of pictures, so that nobody reads their numbers without it."""
        if not self.n_trained_on:
            return ""
        return f", {'all' if self.n_trained_on == self.n else f'{self.n_trained_on:,}'} of which trained it"

    def tell(self, who: str = "it") -> list[str]:
        """What is to be said of it, for a person."""
        notes = []
        others = "Evaluate on pictures that it has never seen."
        if self.n_trained_on:
            is_rest = self.is_made_of or self.n_trained_on + (self.n_calibrated_on or 0) == self.n
            rest = ", the others calibrated it" if is_rest and self.n_trained_on < self.n else ""
            count = _count(self.n_trained_on, self.n)
            notes.append(
                f"{count[0].upper()}{count[1:]} trained {who}{rest}, and its numbers flatter it: it is surer of "
                f"these, and more often right, than of any other. {others}"
            )
        elif self.is_made_of:
            notes.append(
                f"These are the very pictures that {who} was made from, and it does not say which of them trained it: "
                f"its numbers flatter it. {others}"
            )
        if self.is_certified_on:
            whose, but = "this model" if who == "it" else who, ", but for those that trained it"
            notes.append(
                f"The promise of {whose} was measured on these very pictures{but if self.n_trained_on else ''}: "
                "that they agree with it shows nothing."
            )
        elif self.n_calibrated_on and not self.n_trained_on:
            count = _count(self.n_calibrated_on, self.n)
            notes.append(
                f"{count[0].upper()}{count[1:]} calibrated {who}: that they agree with its probabilities and its "
                f"promise shows nothing. {others}"
            )
        return notes


def find_learned(predictor: Predictor, read: Sequence[Item], digests: Sequence[bytes]) -> Learned:
    """What the bundle says of these pictures, whose files have these sha256."""
    lineage = predictor.manifest.lineage
    is_trained = mark_trained(predictor.arrays, digests)
    pairs = list(zip(read, digests, strict=True))
    rest = [pairs[at] for at in np.flatnonzero(~is_trained)]
    certified_on = lineage.get("certified_on")
    certified = certified_on.get("data_digest") if isinstance(certified_on, dict) else None
    is_calibrated = mark_calibrated(predictor.arrays, digests)
    return Learned(
        n=len(pairs),
        n_trained_on=int(is_trained.sum()) if TRAINED_ON in predictor.arrays else None,
        n_calibrated_on=int(is_calibrated.sum()) if CALIBRATED_ON in predictor.arrays else None,
        is_made_of=digest_items(pairs) == lineage.get("data_digest"),
        is_certified_on=bool(rest) and digest_items(rest) == certified,
    )


def _count(part: int, n: int) -> str:
    if part == n:
        return "this one picture" if n == 1 else f"all {n:,} pictures"
    return f"{part:,} of {n:,} pictures"
