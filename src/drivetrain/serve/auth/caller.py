"""Who sent a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from starlette.requests import HTTPConnection

from drivetrain.store.roles import ROLES

__all__ = ["ANYONE", "LOCAL", "NOBODY", "Caller", "caller_of", "csrf_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One who was let in. `roles` are their own: none includes another, but admin may all."""

    kind: Literal["anonymous", "local", "key", "user"]
    id: str
    name: str
    roles: frozenset[str]
    csrf: str = field(default="", repr=False)  # what a form must carry; "" where no cookie signed them in

    @property
    def tag(self) -> str:
        """For the store and the audit: `local`, `anonymous`, `key:ID` or `user:ID`."""
        return self.kind if self.kind == self.id else f"{self.kind}:{self.id}"

    def may(self, role: str) -> bool:
        """Whether they have the role."""
        return role in self.roles or "admin" in self.roles


LOCAL = Caller(kind="local", id="local", name="this machine", roles=frozenset(ROLES))
ANYONE = Caller(kind="anonymous", id="anonymous", name="anyone", roles=frozenset({"predict"}))  # with --insecure
NOBODY = Caller(kind="anonymous", id="anonymous", name="nobody", roles=frozenset())  # on a public path


def caller_of(request: HTTPConnection) -> Caller:
    """Who asks, as the gatekeeper found."""
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


def csrf_of(request: HTTPConnection) -> str:
    """What a page puts into its forms as the field `csrf`, the first of a multipart form, or sends as X-CSRF-Token."""
    return caller_of(request).csrf
