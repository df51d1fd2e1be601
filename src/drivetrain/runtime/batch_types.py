"""What goes into the batcher, what comes out, and what it asks of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidConfig

from .prediction import Answer

if TYPE_CHECKING:
    from .predictor import Picture

__all__ = ["NO_METER", "BatchModel", "Meter", "Outcome", "PictureJob", "Stage", "Tuning"]

Outcome = Literal["success", "invalid", "rejected", "timeout", "canceled", "error"]
Stage = Literal["queue", "preprocess", "compute", "postprocess"]


class BatchModel(Protocol):
    """What the batcher needs of a model: a Predictor, or a fake in tests. All of it may be called from any thread."""

    def prepare(self, picture: Picture, *, name: str | None = None) -> tuple[FloatArray, FloatArray]:
        """Pixels (3, h, w) and style. Raises UnreadablePicture."""
        ...

    def run(self, pixels: FloatArray, *, threads: int = 1) -> tuple[FloatArray, FloatArray]:
        """Logits (n, k) and frozen features (n, f) of pixels (n, 3, h, w)."""
        ...

    def decide(self, logits: FloatArray, frozen: FloatArray, style: FloatArray | None) -> Answer:
        """The answer for one row of each."""
        ...

    @property
    def input_size(self) -> int:
        """Height and width of the pixels."""
        ...


class Meter(Protocol):
    """Who counts. Called from the batcher's threads; must not wait, and must not raise."""

    def pending(self, items: int) -> None:
        """So many more wait or are in work; fewer where negative."""
        ...

    def stage(self, stage: Stage, seconds: float) -> None:
        """One picture spent so long in it; of "compute", one batch."""
        ...

    def batch(self, size: int) -> None:
        """One run of the network on so many pictures."""
        ...

    def finished(self, outcome: Outcome, answer: Answer | None) -> None:
        """One picture has its answer, or never will; `answer` only with "success"."""
        ...


class _NoMeter:
    """Counts nothing."""

    def pending(self, items: int) -> None:
        pass

    def stage(self, stage: Stage, seconds: float) -> None:
        pass

    def batch(self, size: int) -> None:
        pass

    def finished(self, outcome: Outcome, answer: Answer | None) -> None:
        pass


NO_METER: Meter = _NoMeter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a model is run on one machine."""

    workers: int  # threads that decode, run and decide
    sessions: int = 1  # runs of the network at once
    session_threads: int = 1  # cores that one of them works on
    alone_threads: int = 1  # cores for a picture that nothing waits behind
    max_size: int = 1  # pictures that a thread takes at once, of those that wait
    run_size: int = 1  # of these, in one call of the network
    max_wait_s: float = 0.0  # how long a picture that is ready waits for company

    def __post_init__(self) -> None:
        for field in ("workers", "sessions", "session_threads", "alone_threads", "max_size", "run_size"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise InvalidConfig(f"tuning.{field}", got=value, want="a whole number, at least 1")
        if self.run_size > self.max_size:
            raise InvalidConfig("tuning.run_size", got=self.run_size, want=f"at most max_size, {self.max_size}")
        if not 0 <= self.max_wait_s <= 60:
            raise InvalidConfig("tuning.max_wait_s", got=self.max_wait_s, want="0 to 60 seconds")

    @property
    def threads_of_sessions(self) -> frozenset[int]:
        """What a Predictor's `session_threads` must hold."""
        return frozenset({self.session_threads, self.alone_threads})


@dataclass(frozen=True, slots=True)
class PictureJob:
    """One picture to answer; errors call it `name`."""

    picture: Picture
    name: str | None = None
