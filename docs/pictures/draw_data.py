"""Draw the figures of docs/data.md: what `show_batch` gives for the steps of the field's best-known chapter.

    python docs/pictures/draw_data.py        writes the PNGs beside this file

The pictures are bears of our own making (`draw.py`), the transforms and the figures those of the package.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

from draw import KINDS, draw_scene
from matplotlib.figure import Figure
from PIL import Image

from drivetrain import (
    CategoryBlock,
    DataBlock,
    ImageBlock,
    RandomResizedCrop,
    RandomSplitter,
    Resize,
    ResizeMethod,
    aug_transforms,
    get_image_files,
    parent_label,
)
from drivetrain.settings import load_settings

__all__ = ["FIGURES", "make_bears", "write_figures"]

HERE = Path(__file__).parent
PER_KIND = 10
_SIZES = ((480, 320), (320, 400), (420, 420))  # wide, tall, square: what a resize does can be seen

bears = DataBlock(
    blocks=(ImageBlock, CategoryBlock),
    get_items=get_image_files,
    splitter=RandomSplitter(valid_pct=0.2, seed=0),
    get_y=parent_label,
    item_tfms=Resize(128),
)


def make_bears(folder: Path, *, per_kind: int = PER_KIND) -> Path:
    """folder/grizzly/00.jpg and so on, the same every time."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
        for number in range(per_kind):
            scene = draw_scene(number, kind, size=_SIZES[number % len(_SIZES)])
            scene.save(folder / kind / f"{number:02}.jpg", quality=90)
    return folder


def _show(block: DataBlock, folder: Path, side: int, max_n: int, *, nrows: int, unique: bool = False) -> Figure:
    settings = load_settings(environ={}, folder=folder, flags={"pixel_cache_bytes": 0})
    loaders = block.dataloaders(folder, bs=16, device="cpu", settings=settings)
    return loaders[side].show_batch(max_n=max_n, nrows=nrows, unique=unique)


def _show_augmented(folder: Path) -> Figure:
    block = bears.new(item_tfms=Resize(128), batch_tfms=aug_transforms(mult=2))
    return _show(block, folder, 0, 8, nrows=2, unique=True)


def _resized(*args: object, **kwargs: str) -> Callable[[Path], Figure]:
    return lambda folder: _show(bears.new(item_tfms=Resize(128, *args, **kwargs)), folder, 1, 4, nrows=1)  # type: ignore[arg-type]


FIGURES: dict[str, Callable[[Path], Figure]] = {
    "show_crop.png": _resized(),
    "show_squish.png": _resized(ResizeMethod.Squish),
    "show_pad_zeros.png": _resized(ResizeMethod.Pad, pad_mode="zeros"),
    "show_random_crop.png": lambda folder: _show(
        bears.new(item_tfms=RandomResizedCrop(128, min_scale=0.3)), folder, 0, 4, nrows=1, unique=True
    ),
    "show_augmented.png": _show_augmented,
}


def draw_figure(name: str, folder: Path) -> Image.Image:
    """The figure as 8-bit RGB; `folder` holds the bears."""
    buffer = io.BytesIO()
    FIGURES[name](folder).savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGB")


def write_figures() -> None:
    """Write all figures beside this file, in 256 colours: half of the bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_bears(Path(scratch, "bears"))
        for name in FIGURES:
            figure = draw_figure(name, folder)
            palette = figure.quantize(256, kmeans=1)
            figure.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(HERE / name, optimize=True)


if __name__ == "__main__":
    write_figures()
