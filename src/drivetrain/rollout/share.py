"""Who gets the candidate: a share of the keys, the same ones each time, and no one loses it while the share grows."""

from __future__ import annotations

import hashlib

from drivetrain.errors import InvalidInput

__all__ = ["gets_candidate", "place_of"]


def place_of(key: str, *, salt: str) -> float:
    """Where a key stands between 0 and 1 (never 1), evenly, by a hash: the same in every process and on every machine.

    The salt belongs to one roll-out, so that it is not always the same keys that go first.
    """
    digest = hashlib.sha256(f"{len(salt)}:{salt}{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def gets_candidate(key: str, *, salt: str, share: float) -> bool:
    """Whether this key is among the share, 0 to 1. Raises InvalidInput outside of that."""
    if not 0 <= share <= 1:
        raise InvalidInput("share", got=share, want="0 to 1")
    return place_of(key, salt=salt) < share
