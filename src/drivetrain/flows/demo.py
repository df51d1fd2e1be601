"""The demo: real scans of handwritten digits as a folder of pictures, then the whole path."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from drivetrain.errors import MissingExtra
from drivetrain.files import write_whole
from drivetrain.progress import Progress

__all__ = ["DIGIT_SIZE", "write_digits"]

DIGIT_SIZE = 96  # pixels a side given to the network: the scans hold 8 x 8, more would only blur


def write_digits(folder: Path, *, progress: Progress) -> int:
    """Write scikit-learn's 1,797 scanned digits (8 x 8 greys) as PNG files, a folder per digit; how many there are.

    Files already there are kept, so that a second run finds them in the feature cache.
    Source: E. Alpaydin, C. Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI, CC BY 4.0.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra("the demo", package="scikit-learn", extra="train") from None
    scans = load_digits()
    seen: Counter[int] = Counter()
    with progress.task("Writing the digits", total=len(scans.target)) as advance:
        for pixels, digit in zip(scans.images, scans.target, strict=True):
            file = folder / str(digit) / f"{seen[digit]:03}.png"
            seen[digit] += 1
            if not file.exists():
                _write_scan(file, pixels)
            advance(1)
    return len(scans.target)


def _write_scan(file: Path, pixels: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    """Ink 0 to 16 as dark on white paper, four pixels a side for each, so that a person can see it."""
    import io

    ink = np.kron(pixels / 16, np.ones((4, 4)))
    out = io.BytesIO()
    Image.fromarray(np.uint8(255 - np.round(255 * ink))).save(out, "PNG")
    write_whole(file, out.getvalue())
