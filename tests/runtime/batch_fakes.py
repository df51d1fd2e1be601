"""A network that answers with the number it was given, or fails as it is told, and a meter that remembers."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import Unavailable, UnreadablePicture
from drivetrain.runtime.batch_types import Outcome, PictureJob, Stage
from drivetrain.runtime.prediction import Answer, Prediction

WAIT_S = 30.0
SIDE = 2
UNREADABLE, POISON, UNDECIDED = "unreadable", "poison", "undecided"


def job(number: int, kind: str = "") -> PictureJob:
    """A picture that is answered with `number`, or fails in the way of `kind`."""
    return PictureJob(f"{number} {kind}".encode(), str(number))


def rows(*numbers: float) -> FloatArray:
    """The same as preprocessed pixels."""
    pixels = np.zeros((len(numbers), 3, SIDE, SIDE), dtype=np.float32)
    pixels[:, 0] = np.array(numbers, dtype=np.float32)[:, None, None]
    return pixels


def number_of(answer: Answer) -> int:
    assert isinstance(answer, Prediction)
    return int(answer.label)


@dataclass
class Echo:
    """`runs` holds (numbers, threads) of every run; hooks may wait or raise."""

    on_prepare: Callable[[int], None] = lambda _: None
    on_run: Callable[[list[int]], None] = lambda _: None
    runs: list[tuple[list[int], int]] = field(default_factory=list)
    prepared: list[int] = field(default_factory=list)
    input_size: int = SIDE

    def prepare(self, picture: Any, *, name: str | None = None) -> tuple[FloatArray, FloatArray]:
        number, _, kind = picture.decode().partition(" ")
        self.on_prepare(int(number))
        self.prepared.append(int(number))
        if kind == UNREADABLE:
            raise UnreadablePicture(str(name), reason="made so")
        pixels = rows(int(number))[0]
        pixels[1] = {"": 0, POISON: 1, UNDECIDED: 2}[kind]
        return pixels, np.full(1, int(number), dtype=np.float32)

    def run(self, pixels: FloatArray, *, threads: int = 1) -> tuple[FloatArray, FloatArray]:
        numbers = [int(one) for one in pixels[:, 0, 0, 0]]
        self.runs.append((numbers, threads))
        self.on_run(numbers)
        if (pixels[:, 1, 0, 0] == 1).any():
            raise Unavailable("model", got="poison", want="a run to its end")
        return pixels[:, :2, 0, 0], np.ones((len(pixels), 1), dtype=np.float32)

    def decide(self, logits: FloatArray, frozen: FloatArray, style: FloatArray | None) -> Prediction:
        if logits[1] == 2:
            raise RuntimeError("undecided")
        assert style is None or style[0] == logits[0]  # of the same picture
        label = str(int(logits[0]))
        return Prediction(
            label=label,
            probability=1.0,
            probabilities={label: 1.0},
            label_set=(label,),
            ood_score=0.0,
            ood_p_value=1.0,
            decision="accept",
        )

    @property
    def answered(self) -> list[int]:
        """The numbers of all runs but those of warm-up."""
        return [number for numbers, _ in self.runs for number in numbers if number]


class Hold:
    """A hook that holds whoever comes until `release`; `begun` counts them."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self._released = threading.Event()

    def __call__(self, _: object) -> None:
        self.begun.release()
        assert self._released.wait(WAIT_S)

    def release(self) -> None:
        self._released.set()

    def wait(self) -> None:
        """Until one more has come."""
        assert self.begun.acquire(timeout=WAIT_S)


@dataclass
class Tally:
    """A Meter."""

    now: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    stages: Counter[Stage] = field(default_factory=Counter)
    answers: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pending(self, items: int) -> None:
        with self.lock:
            self.now += items

    def stage(self, stage: Stage, seconds: float) -> None:
        assert seconds >= 0
        with self.lock:
            self.stages[stage] += 1

    def batch(self, size: int) -> None:
        with self.lock:
            self.sizes.append(size)

    def finished(self, outcome: Outcome, answer: Answer | None) -> None:
        assert (answer is not None) == (outcome == "success")
        with self.lock:
            self.outcomes[outcome] += 1
            if answer is not None:
                self.answers.append(number_of(answer))


def until(is_so: Callable[[], bool]) -> None:
    """Poll to a deadline."""
    ends = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.001)
