"""Small copies of pictures, for pages."""

from __future__ import annotations

import io

from PIL import Image

__all__ = ["make_thumbnail"]


def make_thumbnail(image: Image.Image, *, side: int = 160) -> bytes:
    """JPEG bytes of the whole picture, its longer side at most `side` pixels, without any metadata."""
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        small = Image.new("RGB", image.size, "white")
        small.paste(clear, mask=clear.getchannel("A"))
    else:
        small = image.convert("RGB")  # a copy, so that the caller's picture keeps its size
    small.thumbnail((side, side))
    small.info.clear()  # Pillow would write the comment of the original
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()
