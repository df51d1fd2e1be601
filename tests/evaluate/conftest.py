"""A small model of three shapes, another that mixes two of them up, and pictures with what labels.csv says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.bundle.archive import read_bundle, write_bundle
from drivetrain.flows.train import TrainResult
from drivetrain.runtime.predictor import Predictor, load

SITES = ("north", "south", "hut <b>")  # 24, 24 and 6 pictures


@pytest.fixture(scope="session")
def model(trained: TrainResult) -> Predictor:
    return load(trained.bundle, threads=2)


@pytest.fixture(scope="session")
def other(trained: TrainResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, which calls circles squares and squares circles."""
    bundle = read_bundle(trained.bundle)
    manifest = replace(bundle.manifest, name="other", classes=("square", "circle", "stripes"))
    path = tmp_path_factory.mktemp("other") / "other.dt"
    write_bundle(path, manifest, bundle.members)
    return path


@pytest.fixture(scope="session")
def data(picture_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """54 pictures; those of the south have been called by another name every second time, those of the hut are dark."""
    root = picture_folder(per_class=18, seed=77, root=tmp_path_factory.mktemp("asked") / "data")
    rows = ["path,label,Site,hour"]
    for at, file in enumerate(sorted(root.rglob("*.png"))):
        site = SITES[2 if at % 9 == 8 else at % 2]
        label = file.parent.name if site != "south" or at % 4 == 1 else "stripes"
        rows.append(f"{file.parent.name}/{file.name},{label},{site},")
        if site == SITES[2]:
            with Image.open(file) as image:
                Image.fromarray((np.asarray(image) * 0.15).astype(np.uint8)).save(file)
    (root / "labels.csv").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 pictures of noise, and a file that is none."""
    root = tmp_path_factory.mktemp("foreign")
    (root / "deep").mkdir()
    rng = np.random.default_rng(0)
    for at in range(20):
        noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "deep" / f"{at:02}.png")
    (root / "cut.png").write_bytes(b"\x89PNG")
    return root


def plain(value: object) -> object:
    """Through JSON and back."""
    return json.loads(json.dumps(value, allow_nan=False))
