"""What stands where in the features of a backbone, and where a network is best cut.

Nothing here imports torch: a training on a trunk that is already in the cache must not wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

__all__ = ["FeatureLayout", "Tap", "choose_cut", "find_taps", "plan_layout"]

Maps = Mapping[int, tuple[int, int]]  # piece -> (channels, places) of the map it is given

_LEAST_STRIDE = 4  # pixels a side of a place: finer maps say little, and cost the most to look at


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """A piece whose input (n, c, h, w) is told by two numbers a channel: its mean over the places, and its spread."""

    piece: int
    channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureLayout:
    """The features (n, count): the mean of the last map, then of each tap the means and the standard deviations.

    Taps stand last piece first. The head reads the first `head_taps` of them, all of the last resolution; what the
    others tell, texture and light, is not for telling classes apart.
    Measured, 10 classes of clothing photographs, 5-fold within the training pictures, against the last map's mean
    alone: accuracy +1.5 points (standard error 0.3), log-loss 0.32 -> 0.27; textile under a lens +1.1 (0.5).
    """

    last: int  # channels of the last map
    taps: tuple[Tap, ...] = ()
    head_taps: int = 0

    @property
    def blocks(self) -> tuple[int, ...]:
        """Widths of what the head reads, of one kind each: means and spreads are not of one size."""
        return (self.last, *(width for tap in self.taps[: self.head_taps] for width in (tap.channels, tap.channels)))

    @property
    def head_count(self) -> int:
        """How many of the features the head reads: the first ones."""
        return sum(self.blocks)

    @property
    def head_pieces(self) -> tuple[int, ...]:
        """The pieces of the head's taps, in the order of their work."""
        return tuple(tap.piece for tap in reversed(self.taps[: self.head_taps]))

    @property
    def count(self) -> int:
        """How many features there are."""
        return self.last + sum(2 * tap.channels for tap in self.taps)

    def find_means(self, piece: int) -> slice | None:
        """Where the means of what `piece` is given stand; None where it is no tap."""
        start = self.last
        for tap in self.taps:
            if tap.piece == piece:
                return slice(start, start + tap.channels)
            start += 2 * tap.channels
        return None

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Raises KeyError or TypeError where `told` is something else."""
        taps = tuple(Tap(piece=int(tap["piece"]), channels=int(tap["channels"])) for tap in told["taps"])
        return cls(last=int(told["last"]), taps=taps, head_taps=int(told["head_taps"]))


def plan_layout(maps: Maps, *, last: int, side: int) -> FeatureLayout:
    """The layout for a backbone with these maps where it may be cut; `last` channels come out, `side` pixels go in."""
    pieces = find_taps(maps, side=side)
    cut = choose_cut(maps)
    return FeatureLayout(
        last=last,
        taps=tuple(Tap(piece=piece, channels=maps[piece][0]) for piece in reversed(pieces)),
        head_taps=0 if cut is None else sum(piece >= cut for piece in pieces),
    )


def find_taps(maps: Maps, *, side: int) -> Sequence[int]:
    """The pieces that are given the last map of a shape, if not too fine, and the one that training begins with."""
    coarse = sorted(piece for piece, (_, places) in maps.items() if places * _LEAST_STRIDE**2 <= side**2)
    ends = {piece for piece, after in pairwise(coarse) if maps[piece] != maps[after]} | set(coarse[-1:])
    cut = choose_cut(maps)  # of all maps: what is left of them may be of one resolution, and cut elsewhere
    return sorted(ends if cut is None else {*ends, cut})


def choose_cut(maps: Maps) -> int | None:
    """The first piece that is given maps of the last resolution: little to keep, much to train. None: nowhere.

    Where one resolution goes through to the end, the last quarter of the pieces.
    """
    if len(maps) < 2:
        return None
    pieces = sorted(maps)
    last = min(places for _, places in maps.values())
    late = next(piece for piece in pieces if maps[piece][1] == last)
    return late if late != pieces[0] else pieces[-max(1, len(pieces) // 4)]
