"""Which of the pictures of an evaluation the model has learned from: they flatter it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivetrain.arrays import BoolArray
from drivetrain.data.items import Item
from drivetrain.data.lineage import digest_items
from drivetrain.flows.trained_on import CALIBRATED_ON, TRAINED_ON, mark_calibrated, mark_trained
from drivetrain.runtime.predictor import Predictor

__all__ = ["Learned", "find_learned"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """What a model had of n pictures before it was asked about them, as far as its bundle says."""

    is_fresh: BoolArray  # (n,) neither trained it nor calibrated it
    n_trained_on: int | None  # the same files, byte for byte; None of a bundle from before this was kept
    n_calibrated_on: int | None  # whose labels gave its probabilities and its promise; None as above
    is_made_of: bool  # these are all that it was made from, and it does not say which of them trained it

    @property
    def n(self) -> int:
        """Pictures."""
        return len(self.is_fresh)

    @property
    def n_fresh(self) -> int:
        """Pictures that can test it."""
        return int(self.is_fresh.sum())

    @property
    def tainted(self) -> str:
        """Why none of them can speak for its promise; empty where some can."""
        if self.is_made_of:
            return "the model was made from these very pictures"
        if self.n_fresh:
            return ""
        if not self.n_trained_on:
            return "it was measured on these very pictures"
        others = "" if self.n_trained_on == self.n else ", the others calibrated it"
        return f"{_count(self.n_trained_on, self.n)} trained it{others}"

    @property
    def suffix(self) -> str:
        """To stand behind the number of pictures, so that nobody reads their numbers without it."""
        if not self.n_trained_on:
            return ""
        return f", {'all' if self.n_trained_on == self.n else f'{self.n_trained_on:,}'} of which trained it"

    def tell(self, who: str = "it") -> list[str]:
        """What is to be said of it, for a person."""
        others = "Evaluate on pictures that it has never seen."
        if who == "it" and 0 < self.n_fresh < self.n:
            others += f" What it promises is held to the other {self.n_fresh:,} alone."
        if self.n_trained_on:
            rest = ", the others calibrated it" if not self.n_fresh and self.n_trained_on < self.n else ""
            return [
                f"{_capital(_count(self.n_trained_on, self.n))} trained {who}{rest}, and its numbers flatter it: it is "
                f"surer of these, and more often right, than of any other. {others}"
            ]
        if self.is_made_of:
            return [
                f"These are the very pictures that {who} was made from, and it does not say which of them trained it: "
                f"its numbers flatter it. {others}"
            ]
        if self.n_calibrated_on:
            return [
                f"{_capital(_count(self.n_calibrated_on, self.n))} calibrated {who}: that its probabilities and its "
                f"promise agree with them shows nothing. {others}"
            ]
        return []


def find_learned(predictor: Predictor, read: Sequence[Item], digests: Sequence[bytes]) -> Learned:
    """What the bundle says of these pictures, whose files have these sha256."""
    lineage, arrays = predictor.manifest.lineage, predictor.arrays
    pairs = list(zip(read, digests, strict=True))
    is_trained, is_calibrated = mark_trained(arrays, digests), mark_calibrated(arrays, digests)
    is_known = CALIBRATED_ON in arrays
    is_made_of = digest_items(pairs) == lineage.get("data_digest")
    # a bundle from before the second of the arrays was kept
    certified_on = lineage.get("certified_on")
    certified = certified_on.get("data_digest") if isinstance(certified_on, dict) else None
    rest = [pairs[at] for at in np.flatnonzero(~is_trained)]
    if not is_known and rest and (digest_items(rest) == certified or (is_made_of and TRAINED_ON in arrays)):
        is_calibrated, is_known = ~is_trained, True
    return Learned(
        is_fresh=~(is_trained | is_calibrated),
        n_trained_on=int(is_trained.sum()) if TRAINED_ON in arrays else None,
        n_calibrated_on=int(is_calibrated.sum()) if is_known else None,
        is_made_of=is_made_of and TRAINED_ON not in arrays,
    )


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _count(part: int, n: int) -> str:
    if part == n:
        return "this one picture" if n == 1 else f"all {n:,} pictures"
    return f"{part:,} of {n:,} pictures"
