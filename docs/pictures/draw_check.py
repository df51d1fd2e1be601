"""Draw `check.png`: the page of `drivetrain check` on bears of our own making, with faults planted among them.

Run it from the project's folder: `python docs/pictures/draw_check.py`. It takes Chromium and playwright.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from pathlib import Path

import numpy as np
from draw import KINDS, draw_scene
from PIL import Image
from playwright.sync_api import sync_playwright

from drivetrain.flows.check import CheckConfig, check
from drivetrain.progress import SilentProgress
from drivetrain.settings import load_settings

HERE = Path(__file__).parent
COUNTS = {"grizzly": 60, "black": 64, "teddy": 52}
CUT = 1900  # pixels of the page that are shown


def photograph(seed: int, kind: str) -> Image.Image:
    """A drawn scene with what a camera adds: noise, and light that falls off."""
    rng = np.random.default_rng(seed)
    scene = np.asarray(draw_scene(seed, kind), dtype=np.float64)
    y, x = np.mgrid[: scene.shape[0], : scene.shape[1]] / max(scene.shape)
    shade = 0.85 + 0.25 * np.sin(5 * x + rng.uniform(0, 6)) * np.cos(4 * y + rng.uniform(0, 6))
    noisy = scene * shade[..., None] + rng.normal(0, 9, scene.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def plant(root: Path) -> Path:
    """Bears by kind, the teddies as drawings; a copy, a picture in two classes, and a file that is no picture."""
    for kind in KINDS:
        (root / kind).mkdir(parents=True)
        for number in range(COUNTS[kind]):
            bear = draw_scene(number, kind) if kind == "teddy" else photograph(number, kind)
            bear.save(root / kind / f"{number:02}.jpg", quality=90)
    shutil.copy(root / "grizzly/07.jpg", root / "black/brown.jpg")
    shutil.copy(root / "black/03.jpg", root / "black/again.jpg")
    (root / "black/download.jpg").write_text("<!doctype html><title>Not found</title>")
    return root


def main() -> None:
    """Plant, check, and photograph the page."""
    with tempfile.TemporaryDirectory() as folder:
        data = plant(Path(folder) / "bears")
        page = Path(folder) / "check.html"
        check(CheckConfig(data=data, page=page), settings=load_settings(), progress=SilentProgress())
        page.write_text(page.read_text("utf-8").replace(f"{folder}/", ""), "utf-8")  # this machine's place is nobody's
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1000, "height": CUT})
            tab.goto(page.as_uri())
            shot = Image.open(io.BytesIO(tab.screenshot()))
            browser.close()
    shot.convert("RGB").quantize(200).save(HERE / "check.png", optimize=True)


if __name__ == "__main__":
    main()
