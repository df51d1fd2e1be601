"""Pictures for the report and for the fixtures, read again from the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from drivetrain.errors import UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn, decode_picture
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.thumbnail import make_thumbnail
from drivetrain.inspect.interpretation import AnyInterpretation
from drivetrain.runtime.parallel import map_in_order

__all__ = ["load_thumbnails", "make_thumbnails", "open_pictures"]

_MOST = 240  # thumbnails in a report: about 1.5 MB
_RIGHT_PER_CLASS = 6  # of those a class got right, enough to see what it looks like
_SIDE = 160  # pixels


def open_pictures(files: Sequence[Path], limits: DecodeLimits) -> list[Image.Image]:
    """The pictures that (still) can be read, decoded at full size."""
    pictures = []
    for file in files:
        try:
            data = read_picture_file(file, name=str(file), limits=limits)
            pictures.append(decode_picture(data, name=str(file), limits=limits))
        except UnreadablePicture:  # gone or changed since its features were taken
            continue
    return pictures


def load_thumbnails(
    interpretation: AnyInterpretation, *, root: Path, limits: DecodeLimits, threads: int
) -> dict[str, bytes]:
    """path -> JPEG for the mistakes (the worst first) and a few that were right."""
    mistakes, right, shown = [], [], Counter[str]()
    for picture in interpretation.top_losses():
        if picture.label != picture.prediction:
            mistakes.append(picture.path)
        elif shown[picture.label] < _RIGHT_PER_CLASS:
            shown[picture.label] += 1
            right.append(picture.path)
    return make_thumbnails([*mistakes, *right][:_MOST], root=root, limits=limits, threads=threads)


def make_thumbnails(paths: Sequence[str], *, root: Path, limits: DecodeLimits, threads: int) -> dict[str, bytes]:
    """path -> JPEG of at most 160 pixels a side, for those that can be read."""

    def work(path: str) -> bytes | None:
        try:
            data = read_picture_file(root / path, name=path, limits=limits)
            image = decode_picture(data, name=path, limits=limits, min_side=_SIDE)
        except UnreadablePicture:
            return None
        return make_thumbnail(apply_exif_turn(image), side=_SIDE)

    made = zip(paths, map_in_order(work, paths, threads=threads), strict=True)
    return {path: thumbnail for path, thumbnail in made if thumbnail is not None}
