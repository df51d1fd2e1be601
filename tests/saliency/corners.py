"""Pictures with a thing in one corner, where what counts is known; and what happens when a place is covered up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from drivetrain.arrays import FloatArray
from drivetrain.runtime.predictor import Predictor
from drivetrain.task import Task

SIDE = 160  # pixels: five places of the last maps a side
_REACH = 64  # of the corner that a thing lies in
CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # (down, across)


@dataclass(frozen=True)
class Scene:
    """One picture: which thing lies in which corner, and how large the disc is."""

    image: Image.Image
    corners: dict[str, tuple[int, int]]
    radius: int

    def told(self, task: Task) -> str:
        """Its label, labels or value."""
        if task == "regression":
            return str(self.radius)
        return ";".join(sorted(self.corners))


def make_scene(rng: np.random.Generator, things: Sequence[str], *, radius: int = 24) -> Scene:
    """`things` among disc and cross, each in a corner of its own, on grain."""
    image = Image.fromarray(rng.normal(120, 14, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    picked = rng.permutation(4)
    corners = {thing: CORNERS[picked[at]] for at, thing in enumerate(things)}
    for thing, corner in corners.items():
        y, x = (_REACH // 2 + place * (SIDE - _REACH) for place in corner)
        if thing == "disc":
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(220, 40, 40))
        else:
            draw.line((x - 22, y - 22, x + 22, y + 22), fill=(30, 60, 220), width=12)
            draw.line((x - 22, y + 22, x + 22, y - 22), fill=(30, 60, 220), width=12)
    return Scene(image, corners, radius)


def make_scenes(task: Task, count: int, *, seed: int) -> list[Scene]:
    """As many of each kind."""
    rng = np.random.default_rng(seed)
    if task == "regression":
        return [make_scene(rng, ["disc"], radius=int(rng.integers(6, 31))) for _ in range(count)]
    kinds = [["disc"], ["cross"]] if task == "classification" else [["disc"], ["cross"], ["disc", "cross"], []]
    return [make_scene(rng, kinds[at % len(kinds)]) for at in range(count)]


def write_scenes(root: Path, task: Task, count: int, *, seed: int = 3) -> Path:
    """A folder with labels.csv."""
    root.mkdir(parents=True)
    column = {"classification": "label", "multilabel": "labels", "regression": "value"}[task]
    rows = [f"path,{column}"]
    for at, scene in enumerate(make_scenes(task, count, seed=seed)):
        scene.image.save(root / f"{at:03}.png")
        rows.append(f"{at:03}.png,{scene.told(task)}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def cover_up(predictor: Predictor, image: Image.Image, weights: FloatArray, *, places: int) -> FloatArray:
    """(places, places): how much of weights (k,) @ logits (k,) goes when a square there is made plain. Brute force."""
    pixels = np.asarray(image)
    before = float(weights @ predictor.ask(pixels)[0])
    step, grey = SIDE / places, pixels.mean(axis=(0, 1)).astype(np.uint8)
    lost = np.empty((places, places))
    for row in range(places):
        for column in range(places):
            covered = pixels.copy()
            top, left = round((row - 0.25) * step), round((column - 0.25) * step)
            covered[max(0, top) : round((row + 1.25) * step), max(0, left) : round((column + 1.25) * step)] = grey
            lost[row, column] = before - float(weights @ predictor.ask(covered)[0])
    return lost
