from __future__ import annotations

from pathlib import Path

import pytest

from drivetrain.files import tell_hindrance, write_whole


def test_writes_the_file_and_its_folders(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file.bin"
    write_whole(file, b"new")
    assert file.read_bytes() == b"new"
    assert [path.name for path in file.parent.iterdir()] == ["file.bin"]


def test_replaces_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"a longer one, from before")
    write_whole(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_write_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"old")
    with pytest.raises(TypeError, match="bytes-like object"):
        write_whole(file, "text")  # type: ignore[arg-type]
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_folder_in_the_way_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file.bin" / "kept").mkdir(parents=True)
    with pytest.raises(OSError, match=r"file\.bin"):
        write_whole(tmp_path / "file.bin", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_what_hinders_a_file_is_told_before_it_is_written(tmp_path: Path) -> None:
    assert tell_hindrance(tmp_path / "new" / "page.html") is None
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").touch()
    assert tell_hindrance(tmp_path / "file" / "page.html") == "File exists"
