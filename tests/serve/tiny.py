"""Real bundles of a few kilobytes, and an app that serves them with a store and a folder of models."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import FastAPI

from drivetrain.bundle.archive import parse_bundle
from drivetrain.runtime.predictor import Predictor
from drivetrain.serve.app import create_app
from drivetrain.serve.model import PredictorModel
from drivetrain.store.store import open_store

from .fakes import settings

SIDE = 8
CLASSES = ("circle", "square")


def _forge(room: str) -> ModuleType:
    """tests/ROOM/forge.py; the folders of tests are no packages of one another."""
    name = f"serve_forge_{room}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / room / "forge.py")
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def archive(name: str = "tiny", *, seed: int = 42, **sections: Any) -> bytes:
    """A classifier's bundle; another seed is another version."""
    parts = _forge("bundle").tiny_parts().changed(name=name, lineage={"seed": seed}, **sections)
    return bytes(parts.archive())


def model(name: str = "tiny", *, seed: int = 42) -> PredictorModel:
    return PredictorModel(Predictor(parse_bundle(io.BytesIO(archive(name, seed=seed)))))


def task_model(task: str, name: str = "tiny") -> PredictorModel:
    """A model of labels, or of a value."""
    parts = _forge("tasks").tiny_parts(task).changed(name=name)
    return PredictorModel(Predictor(parse_bundle(io.BytesIO(parts.archive()))))


def write(folder: Path, file_name: str, content: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{file_name}.dt"
    path.write_bytes(content)
    return path


@contextmanager
def tiny_app(
    folder: Path, *, served: PredictorModel | None = None, bundle: Path | None = None, **changed: object
) -> Iterator[FastAPI]:
    """An app with a store in `folder` and models in `folder`/models; no limit on how often one asks.

    It serves `served`, or a bundle from its file; without either `tiny`.
    """
    models = folder / "models"
    models.mkdir(exist_ok=True)
    given = settings(**{"models": models, "address_rate_limit": 0, "cache_dir": folder / "cache", **changed})
    with open_store(f"sqlite:///{folder / 'store.db'}") as store:
        app = create_app(served, given, store=store)
        try:
            if served is None:
                app.state.registry.load(bundle or write(folder, "tiny", archive()))
            yield app
        finally:
            app.state.registry.close(drain_s=5)
