"""Who looks at a page, as its templates ask it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from drivetrain.serve.auth.caller import LOCAL, Caller

__all__ = ["Visitor", "visitor_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who looks."""

    name: str  # empty where nobody had to say
    is_signed_in: bool  # by the login page: then there is a way out, and forms carry `csrf`
    is_admin: bool
    may_review: bool  # and there is a database to review from
    may_see_rollouts: bool  # the same
    is_known: bool  # the server asks who calls: programs need a key
    csrf: str


def visitor_of(request: Request) -> Visitor:
    """From what the gatekeeper found."""
    found = request.scope.get("state", {}).get("caller")
    caller = found if isinstance(found, Caller) else LOCAL  # no gatekeeper: an app of a test, on this machine
    has_store = getattr(request.app.state, "store", None) is not None
    return Visitor(
        name=caller.name if caller.kind in {"user", "key"} else "",
        is_signed_in=bool(caller.csrf),
        is_admin=caller.may("admin"),
        may_review=has_store and caller.may("review"),
        may_see_rollouts=has_store and (caller.may("review") or caller.may("approve")),
        is_known=caller.kind in {"user", "key"},
        csrf=caller.csrf,
    )
