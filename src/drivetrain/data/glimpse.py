"""Look at many picture files quickly: decoded as small as their format allows, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from PIL import Image

from drivetrain.errors import UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.preprocess import PictureOps

__all__ = ["glimpse_pictures"]

_Seen = TypeVar("_Seen")


def glimpse_pictures(
    files: Sequence[str | Path], look: Callable[[Image.Image], _Seen], *, side: int, limits: DecodeLimits | None = None
) -> list[_Seen | None]:
    """What `look` (called from many threads) makes of the middle of each picture, an RGB square of `side`, in order.

    None for what cannot be read. Every byte of a picture is still decoded, so a truncated file is found.
    """
    ops = PictureOps(
        [
            {"op": "decode", "mode": "RGB", "jpeg_min_side": side},
            {"op": "exif_transpose"},
            {"op": "resize", "mode": "crop", "size": side, "filter": "bilinear", "antialias": True},
        ]
    )
    allowed = limits or DecodeLimits()

    def glimpse(file: str | Path) -> _Seen | None:
        name = str(file)
        try:
            data = read_picture_file(Path(file), name=name, limits=allowed)
            picture = ops.from_bytes(data, name=name, limits=allowed)
        except UnreadablePicture:
            return None
        return look(picture)

    with ThreadPoolExecutor(max_workers=os.cpu_count(), thread_name_prefix="glimpse") as pool:
        return list(pool.map(glimpse, files))
