from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.style import measure_style
from drivetrain.progress import SilentProgress
from drivetrain.runtime.feature_cache import FeatureCache
from drivetrain.runtime.survey import Survey, survey_pictures

from .conftest import MakePictures, date


def look(files: list[Path], cache: Path, *, threads: int = 2, max_bytes: int = 50_000_000) -> Survey:
    with FeatureCache(cache) as opened:
        return survey_pictures(
            files, cache=opened, threads=threads, limits=DecodeLimits(max_bytes=max_bytes), progress=SilentProgress()
        )


@pytest.fixture
def odd(tmp_path: Path) -> list[Path]:
    """A turned JPEG with a camera, a PNG, one that is none, and one that is not there."""
    exif = Image.Exif()
    exif[0x0112], exif[0x0110], exif[0x0132] = 6, "Pixel", "2024:05:03 12:00:00"
    noise = np.random.default_rng(0).integers(0, 255, (600, 900, 3), dtype=np.uint8)
    files = [tmp_path / name for name in ("a.jpg", "b.png", "c.jpg", "gone.jpg")]
    Image.fromarray(noise).save(files[0], exif=exif)
    Image.new("RGBA", (30, 20), (255, 0, 0, 0)).save(files[1])
    files[2].write_bytes(b"GIF")
    return [date(file) if file.exists() else file for file in files]


def test_what_a_file_says_and_shows(odd: list[Path], tmp_path: Path) -> None:
    found = look(odd, tmp_path / "cache")
    assert found.rows == (0, 1)
    turned, png = found.facts
    assert (turned.format, turned.style.width, turned.style.height) == ("JPEG", 600, 900)
    assert (turned.origin.camera, turned.origin.taken) == ("Pixel", "2024-05-03T12:00:00")
    assert (png.format, png.style.width, png.style.height, png.origin.camera) == ("PNG", 30, 20, "")
    assert png.style == measure_style(Image.new("RGB", (30, 20), "white"))
    assert [row for row, _ in found.unreadable] == [2, 3]
    assert "No such file" in found.unreadable[1][1]
    assert [len(digest) for digest in found.digests] == [32, 32]


def test_a_second_look_opens_nothing(odd: list[Path], make_pictures: MakePictures, tmp_path: Path) -> None:
    files = [*odd[:2], *make_pictures(300)]
    first = look(files, tmp_path / "cache")
    assert first.n_decoded == 302
    again = look(files, tmp_path / "cache")
    assert (again.n_decoded, again.facts, again.digests, again.rows) == (0, first.facts, first.digests, first.rows)
    assert look(files, tmp_path / "other", threads=1).facts == first.facts


def test_a_changed_file_is_looked_at_again(make_pictures: MakePictures, tmp_path: Path) -> None:
    files = make_pictures(3)
    first = look(files, tmp_path / "cache")
    Image.new("RGB", (50, 60), "red").save(files[1])
    again = look(files, tmp_path / "cache")
    assert again.n_decoded == 1
    assert (again.facts[1].style.width, again.facts[0]) == (50, first.facts[0])


def test_limits_hold(make_pictures: MakePictures, tmp_path: Path) -> None:
    found = look(make_pictures(1), tmp_path / "cache", max_bytes=10)
    assert (found.facts, found.n_decoded) == ((), 0)
    assert "at most 10 are read" in found.unreadable[0][1]


def test_a_note_of_another_shape_is_looked_at_again(make_pictures: MakePictures, tmp_path: Path) -> None:
    files = make_pictures(6)
    first = look(files, tmp_path / "cache")
    with FeatureCache(tmp_path / "cache") as cache:
        db = cache._open()
        of_text = first.facts[3].as_json() | {"taken": None}
        of_number = first.facts[4].as_json()
        of_number["style"]["colour"] = "red"
        values = ['{"format": 1}', "[]", "not json", json.dumps(of_text), json.dumps(of_number)]
        for value, sha256 in zip(values, first.digests, strict=False):
            db.execute("UPDATE note SET json = ? WHERE sha256 = ?", (value, sha256))
        db.commit()
    again = look(files, tmp_path / "cache")
    assert (again.n_decoded, again.facts) == (5, first.facts)
