"""A model that satisfies ServedModel without a network, and ways to call the app."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from PIL import Image

from drivetrain.arrays import FloatArray
from drivetrain.errors import UnreadablePicture
from drivetrain.runtime.batch_types import Tuning
from drivetrain.runtime.prediction import Prediction, Reason
from drivetrain.serve.app import create_app
from drivetrain.settings import Settings, load_settings
from drivetrain.task import Task

CLASSES = ("amber", "blue", "coral", "dune", "emerald", "fern", "grey")
WAIT_S = 10.0


@dataclass
class FakeModel:
    """Answers by the colour of the middle pixel: red accepts, blue is unknown, black is dark, green is unsure."""

    name: str = "colours"
    version: str = "colours@0123456789ab"
    task: Task = "classification"
    classes: tuple[str, ...] = CLASSES
    evaluation: Mapping[str, object] = field(
        default_factory=lambda: {"accuracy": 0.931, "accuracy_low": 0.9, "accuracy_high": 0.955, "n": 1372}
    )
    policy: Mapping[str, object] = field(
        default_factory=lambda: {
            "statement": "Of the pictures it decides by itself, at most 5 % are wrong (95 % confidence)."
        }
    )
    seen: list[str] = field(default_factory=list)

    tuning: Tuning | None = None
    input_size: int = 1

    @property
    def predictor(self) -> FakeModel:
        """It is its own network."""
        return self

    def prepare(self, picture: Any, *, name: str | None = None) -> tuple[FloatArray, FloatArray]:
        """The middle pixel."""
        self.seen.append(str(name))
        try:
            with Image.open(io.BytesIO(picture)) as image:
                pixel = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
        except OSError:
            raise UnreadablePicture(str(name), reason="not a picture") from None
        return np.array(pixel, dtype=np.float32).reshape(3, 1, 1), np.zeros(1, dtype=np.float32)

    def run(self, pixels: FloatArray, *, threads: int = 1) -> tuple[FloatArray, FloatArray]:
        """The colours as they are."""
        return pixels.reshape(len(pixels), 3), np.zeros((len(pixels), 1), dtype=np.float32)

    def decide(self, logits: FloatArray, frozen: FloatArray, style: FloatArray | None) -> Prediction:
        red, green, blue = logits
        if max(logits) < 30:
            return self._answer(0.964, reasons=("shifted",), shifted_by=("darker", "blurrier"))
        if red >= max(green, blue):
            return self._answer(0.964)
        if blue > green:
            return self._answer(0.41, reasons=("unknown", "shifted"), shifted_by=("greyer",) if blue < 250 else ())
        return self._answer(0.47, reasons=("low_confidence",), label_set=self.classes[:2])

    def predict(self, source: bytes, /, *, name: str) -> Prediction:
        pixels, style = self.prepare(source, name=name)
        logits, frozen = self.run(pixels[np.newaxis])
        return self.decide(logits[0], frozen[0], style)

    def _answer(
        self,
        top: float,
        *,
        reasons: tuple[Reason, ...] = (),
        label_set: tuple[str, ...] = (),
        shifted_by: tuple[str, ...] = (),
    ) -> Prediction:
        rest = [0.5**rank for rank in range(1, len(self.classes))]
        probabilities = [top, *((1 - top) * share / sum(rest) for share in rest)]
        return Prediction(
            label=self.classes[0],
            probability=top,
            probabilities=dict(zip(self.classes, probabilities, strict=True)),
            label_set=label_set or self.classes[:1],
            ood_score=1.25,
            ood_p_value=0.001 if reasons else 0.6,
            decision="defer" if reasons else "accept",
            reasons=reasons,
            version=self.version,
            shift_p_value=0.002 if shifted_by else None,
            shifted_by=shifted_by,
        )


@dataclass
class BlockingModel(FakeModel):
    """Holds each picture until `release` is set; `begun` counts the calls."""

    release: threading.Event = field(default_factory=threading.Event)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def prepare(self, picture: Any, *, name: str | None = None) -> tuple[FloatArray, FloatArray]:
        self.begun.release()
        assert self.release.wait(WAIT_S)
        return super().prepare(picture, name=name)


@dataclass
class BrokenModel(FakeModel):
    """Fails with a fault of its own on pictures named so."""

    def prepare(self, picture: Any, *, name: str | None = None) -> tuple[FloatArray, FloatArray]:
        if str(name).startswith("bug"):
            raise RuntimeError("secret inner state")
        return super().prepare(picture, name=name)


def picture(colour: str = "red", *, kind: str = "PNG", size: tuple[int, int] = (16, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def settings(**changed: object) -> Settings:
    return load_settings(environ={}, flags={"threads": 2, **changed})


def make_app(model: FakeModel | None = None, **changed: object) -> FastAPI:
    return create_app(model or FakeModel(), settings(**changed))


def call(app: FastAPI, method: str, path: str, **given: Any) -> httpx.Response:
    """One request, in this process."""

    async def send() -> httpx.Response:
        async with client(app) as session:
            return await session.request(method, path, **given)

    return asyncio.run(send())


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=WAIT_S)


def post(app: FastAPI, content: bytes, *, kind: str = "image/png", path: str = "/predict") -> httpx.Response:
    return call(app, "POST", path, content=content, headers={"Content-Type": kind})


async def until(is_so: Callable[[], bool]) -> None:
    """Poll to a deadline."""
    async with asyncio.timeout(WAIT_S):
        while not is_so():
            await asyncio.sleep(0.001)


def pending(app: FastAPI) -> int:
    """Pictures in work or waiting, of the default model."""
    return int(app.state.registry.get().batcher.pending)
