"""What a key or a person may do: a set of roles. None includes another, but admin may all."""

from __future__ import annotations

from collections.abc import Iterable

from drivetrain.errors import InvalidInput

__all__ = ["ROLES", "pack_roles", "unpack_roles"]

ROLES = ("predict", "review", "approve", "admin")


def pack_roles(roles: Iterable[str]) -> str:
    """As they are kept. Raises InvalidInput where one is unknown, or none is given."""
    given = set(roles)
    if not given or given - set(ROLES):
        raise InvalidInput("roles", got=", ".join(sorted(given)) or "none", want=f"one or more of {', '.join(ROLES)}")
    return ",".join(sorted(given))


def unpack_roles(packed: str) -> frozenset[str]:
    """From how they are kept."""
    return frozenset(packed.split(","))
