"""The bytes of a picture file that anyone may have named."""

from __future__ import annotations

import stat
from pathlib import Path

from drivetrain.errors import UnreadablePicture

from .decode import DecodeLimits

__all__ = ["read_picture_file"]


def read_picture_file(path: Path, *, name: str, limits: DecodeLimits) -> bytes:
    """The bytes of a picture file; a file too large, or none that ends, is refused unread. Raises UnreadablePicture."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device may never end
            raise UnreadablePicture(name, reason="a folder, pipe or device, not a file")
        if status.st_size > limits.max_bytes:
            raise UnreadablePicture(
                name,
                reason=f"{status.st_size:,} bytes, and at most {limits.max_bytes:,} are read",
                hint="Save it smaller, or raise image_max_bytes.",
            )
        return path.read_bytes()
    except UnreadablePicture:
        raise
    except (OSError, ValueError) as exc:  # ValueError: a null character in the name
        raise UnreadablePicture(name, reason=f"cannot be opened: {getattr(exc, 'strerror', None) or exc}") from None
