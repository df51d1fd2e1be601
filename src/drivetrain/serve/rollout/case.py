"""What a request holds of a roll-out, and each of its pictures on its way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from drivetrain.errors import NotFound, Unavailable
from drivetrain.runtime.prediction import Answer
from drivetrain.serve.bodies import Upload
from drivetrain.serve.registry import ModelRegistry, Served
from drivetrain.store.requests import DecidedBy

from .live import LiveRollout

__all__ = ["Case", "Held", "hold_both"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A roll-out and its two versions; None where one is not loaded, or people are the incumbent."""

    live: LiveRollout
    incumbent: Served | None
    candidate: Served | None


@dataclass(slots=True, kw_only=True)
class Case:
    """One picture on its way."""

    upload: Upload
    candidate: Answer | None = None
    incumbent: Answer | None = None
    error: BaseException | None = None  # what the caller is told in place of an answer
    decided_by: DecidedBy = "people"
    in_scope: bool
    propensity: float
    has_failed: bool = False  # the candidate was asked, and gave no answer

    @property
    def decided(self) -> Answer | None:
        if self.decided_by == "people":
            return None
        return self.candidate if self.decided_by == "candidate" else self.incumbent


@contextmanager
def hold_both(registry: ModelRegistry, live: LiveRollout) -> Iterator[Held]:
    """Both versions, open until the block ends."""
    with ExitStack() as held:

        def hold(version: str | None) -> Served | None:
            if version is None:
                return None
            try:
                return held.enter_context(registry.hold(live.deployment.model, version))
            except (NotFound, Unavailable):
                return None

        incumbent = hold(live.deployment.incumbent)
        yield Held(live=live, incumbent=incumbent, candidate=None if live.is_over else hold(live.deployment.candidate))
