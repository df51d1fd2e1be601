"""Ids that sort by the time they were made, and say nothing else."""

from __future__ import annotations

import secrets
import threading
import time

__all__ = ["is_id", "new_id", "time_of"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_RANDOM_BITS = 80
_TIME_CHARS = 10
_CHARS = 26

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """26 characters: 48 bits of milliseconds, then 80 random ones; rises within a process, also within one millisecond.

    Source: the ULID specification, its letters in lower case.
    """
    global _last  # noqa: PLW0603 - what rises must be kept
    fresh = time.time_ns() // 1_000_000 << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _lock:
        if fresh >> _RANDOM_BITS <= _last >> _RANDOM_BITS:  # the same millisecond, or a clock set back
            fresh = _last + 1 + secrets.randbits(32)
        _last = number = fresh
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (_CHARS - 1), -1, -5))


def is_id(text: str) -> bool:
    """Whether it could be one of ours."""
    return len(text) == _CHARS and all(letter in _ALPHABET for letter in text)


def time_of(id_: str) -> float:
    """When an id was made, in seconds since 1970, to the millisecond."""
    number = 0
    for letter in id_[:_TIME_CHARS]:
        number = number << 5 | _ALPHABET.index(letter)
    return number / 1000
