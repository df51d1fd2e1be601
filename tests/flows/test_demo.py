from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from drivetrain.flows.demo import write_digits
from drivetrain.progress import SilentProgress


def test_the_digits_are_written_once_as_a_folder_of_pictures(tmp_path: Path) -> None:
    assert write_digits(tmp_path, progress=SilentProgress()) == 1797
    files = sorted(tmp_path.rglob("*.png"))
    assert len(files) == 1797
    assert {file.parent.name for file in files} == set("0123456789")
    scans = load_digits()
    zero = next(pixels for pixels, digit in zip(scans.images, scans.target, strict=True) if digit == 0)
    with Image.open(tmp_path / "0" / "000.png") as picture:
        grey = np.asarray(picture)
    assert grey.shape == (32, 32)
    np.testing.assert_array_equal(grey[::4, ::4], 255 - np.round(255 * zero / 16))
    changed = tmp_path / "0" / "000.png"
    changed.write_bytes(b"of the person's own")
    (tmp_path / "1" / "000.png").unlink()
    write_digits(tmp_path, progress=SilentProgress())
    assert changed.read_bytes() == b"of the person's own"
    assert (tmp_path / "1" / "000.png").exists()
