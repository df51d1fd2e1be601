"""Ids that sort by the time they were made, and say nothing else."""

from __future__ import annotations

import secrets
import threading
import time

__all__ = ["new_id"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_RANDOM_BITS = 80
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
