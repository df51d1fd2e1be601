"""May the server listen there? Decided before it does, and said aloud."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivetrain.errors import InvalidConfig
from drivetrain.settings import Settings

from .origin import is_loopback

if TYPE_CHECKING:
    from drivetrain.store.store import Store

__all__ = ["check_exposure"]


def check_exposure(settings: Settings, store: Store | None) -> list[str]:
    """What to tell at start, a sentence a line. Raises InvalidConfig where strangers could reach an open server."""
    has_callers = store is not None and store.has_callers()
    is_here = is_loopback(settings.host)
    if settings.insecure:
        whom = "on this machine" if is_here else "who reaches this machine"
        return [
            f"WARNING: --insecure: everyone {whom} may ask for answers, without a key. "
            "What they send is not encrypted. Loading models and the admin pages still need a key."
        ]
    if not is_here and not has_callers:
        raise InvalidConfig(
            "host",
            got=f"{settings.host}, which other machines reach, and nobody has a key",
            want="127.0.0.1, a key, or --insecure",
            hint="Make a key with `drivetrain key create`, or a person with `drivetrain user add`. "
            "--insecure lets everyone ask for answers.",
        )
    if has_callers:
        said = ["Callers need a key or a person's password (there are some in its database)."]
    else:
        said = ["Whoever sits at this machine may use it, without a key. The first key or person made ends that."]
    if not is_here:
        said.append("It speaks plain HTTP: put a proxy with TLS in front of it where keys cross a network.")
    return said
