"""Getters: which files are found, and which label a path or a row gives."""

from __future__ import annotations

import os
import pickle
import re
import unicodedata
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from drivetrain.data.getters import (
    ColReader,
    FileGetter,
    RegexLabeller,
    get_image_files,
    parent_label,
    using_attr,
    verify_images,
)
from drivetrain.data.rows import read_rows
from drivetrain.errors import InvalidInput, NotFound
from drivetrain.imaging.decode import DecodeLimits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ["train/b/2.PNG", "train/a/1.jpg", "valid/a/3.jpeg", "top.jpg", "train/a/notes.txt", ".trash/4.jpg"]
    names += ["train/a/.5.jpg", "test/6.heic"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(files: list[Path], root: Path) -> list[str]:
    return [file.relative_to(root).as_posix() for file in files]


# --- get_image_files, FileGetter


def test_pictures_are_found_by_name_and_in_order(folder: Path) -> None:
    found = get_image_files(folder)
    assert names(found, folder) == ["test/6.heic", "top.jpg", "train/a/1.jpg", "train/b/2.PNG", "valid/a/3.jpeg"]
    assert get_image_files(str(folder)) == found


@pytest.mark.parametrize(
    ("recurse", "folders", "expected"),
    [
        (False, None, ["top.jpg"]),
        (True, ["train"], ["train/a/1.jpg", "train/b/2.PNG"]),
        (True, "train", ["train/a/1.jpg", "train/b/2.PNG"]),
        (True, ["valid", "train", "valid"], ["train/a/1.jpg", "train/b/2.PNG", "valid/a/3.jpeg"]),
        (True, [".", "valid"], ["top.jpg", "valid/a/3.jpeg"]),
        (False, ["test", "train"], ["test/6.heic"]),
    ],
)
def test_where_pictures_are_looked_for(folder: Path, recurse: bool, folders: Any, expected: list[str]) -> None:
    assert names(get_image_files(folder, recurse, folders), folder) == expected
    assert FileGetter(recurse=recurse, folders=folders)(folder) == get_image_files(folder, recurse, folders)


def test_file_getter_keeps_extensions_and_goes_down(folder: Path) -> None:
    assert names(FileGetter(extensions=[".JPG", ".png"])(folder), folder) == [
        "top.jpg",
        "train/a/1.jpg",
        "train/b/2.PNG",
    ]
    assert names(FileGetter("train/a")(folder), folder) == ["train/a/1.jpg"]
    assert FileGetter("train", recurse=False)(folder) == []
    assert pickle.loads(pickle.dumps(FileGetter("train")))(folder) == FileGetter("train")(folder)
    with pytest.raises(InvalidInput, match=r"FileGetter\(extensions\): got jpg; want suffixes of pictures: \.avif"):
        FileGetter(extensions=["jpg"])


def test_a_folder_that_is_not_there(folder: Path) -> None:
    with pytest.raises(NotFound, match=r"path\): got .*nowhere; want a folder\."):
        get_image_files(folder / "nowhere")
    with pytest.raises(InvalidInput, match=r"top\.jpg, a file; want a folder"):
        get_image_files(folder / "top.jpg")
    with pytest.raises(
        NotFound, match=r"folders: got trian; want folders of .*: .*train, valid\. Did you mean 'train'"
    ):
        get_image_files(folder, folders=["trian"])


# --- labels


@pytest.mark.parametrize("path", ["bears/grizzly/1.jpg", Path("/x/bears/grizzly/1.jpg"), "grizzly/1.jpg"])
def test_parent_label(path: str | Path) -> None:
    assert parent_label(path) == "grizzly"


def test_one_name_has_one_spelling() -> None:
    decomposed = unicodedata.normalize("NFD", "Bär")
    assert parent_label(f"{decomposed}/1.jpg") == RegexLabeller(r"^(.+)/")(f"{decomposed}/1.jpg") == "Bär"


@pytest.mark.parametrize("path", ["1.jpg", "/1.jpg", "../1.jpg"])
def test_a_path_without_a_folder_has_no_label(path: str) -> None:
    with pytest.raises(InvalidInput, match=rf"parent_label: got {re.escape(path)}; want a path in a folder"):
        parent_label(path)


def test_regex_labeller() -> None:
    breed = RegexLabeller(r"([^/]+)_\d+\.jpg$")
    assert breed(Path("pets") / "great_pyrenees_173.jpg") == "great_pyrenees"
    assert breed("a/Bengal_1.jpg") == pickle.loads(pickle.dumps(breed))("a/Bengal_1.jpg") == "Bengal"
    assert RegexLabeller(re.compile(r"(?i)([a-z]+)\.JPG"))("x/dog.jpg") == "dog"
    assert RegexLabeller(r"(\w+)_", match=True)("cat_1/dog_2.jpg") == "cat"
    assert RegexLabeller(r"/(\w+)_")("cat_1/dog_2.jpg") == "dog"


def test_regex_labeller_names_file_and_pattern() -> None:
    with pytest.raises(
        InvalidInput, match=r"RegexLabeller: got a/b\.png; want a path in which '\(x\)_' finds a label\."
    ):
        RegexLabeller(r"(x)_")(Path("a/b.png"))
    with pytest.raises(InvalidInput, match=r"got 1/a_2\.png; want .* finds a label from its start on"):
        RegexLabeller(r"/(\w+)_", match=True)("1/a_2.png")
    with pytest.raises(InvalidInput, match="finds a label"):
        RegexLabeller(r"a(x)?")("a.png")  # it matches, but its group does not


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"\d+", r"pat\): got \\d\+; want a pattern with a group, such as"),
        (r"(", r"pat\): got '\(' \(missing \).*\); want a regular expression"),
        (3, r"want a regular expression"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        RegexLabeller(pattern)


# --- ColReader

ROW = {"fname": "1", "labels": "dog; cat ;;bird", "x": 0.5}
FRAME = pd.DataFrame([ROW])


@pytest.mark.parametrize("row", [ROW, FRAME.iloc[0], next(FRAME.itertuples(index=False)), read_rows(FRAME)[0]])
@pytest.mark.parametrize(
    ("reader", "expected"),
    [
        (ColReader("x"), 0.5),
        (ColReader(2), 0.5),
        (ColReader(["x", "fname"]), [0.5, "1"]),
        (ColReader(("x",)), 0.5),
        (ColReader("fname", pref="pets/", suff=".jpg"), "pets/1.jpg"),
        (ColReader("fname", pref=Path("pets")), f"pets{os.sep}1"),
        (ColReader("fname", suff=".png"), "1.png"),
        (ColReader("labels", label_delim=";"), ["dog", "cat", "bird"]),
        (ColReader("labels", label_delim=","), ["dog; cat ;;bird"]),
    ],
)
def test_col_reader(row: Any, reader: ColReader, expected: Any) -> None:
    assert reader(row) == expected


@pytest.mark.parametrize("cell", ["", "  ", None, float("nan")])
def test_no_labels_are_an_empty_list(cell: Any) -> None:
    assert ColReader("labels", label_delim=";")({"labels": cell}) == []


def test_col_reader_of_a_column_that_is_not_there() -> None:
    with pytest.raises(NotFound, match=r"column: got label; want one of fname, labels, x\. Did you mean 'labels'\?"):
        ColReader("label")(ROW)
    with pytest.raises(InvalidInput, match=r"ColReader\(cols\): got \[\]; want a column's name or position"):
        ColReader([])


# --- verify_images


def test_verify_images_names_what_cannot_be_read_and_touches_nothing(tmp_path: Path) -> None:
    picture = Image.linear_gradient("L").resize((200, 150)).convert("RGB")
    for name in ("good.jpg", "good.png", "cut.jpg", "cut.png"):
        picture.save(tmp_path / name)
    for name in ("cut.jpg", "cut.png"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "folder.jpg").mkdir()
    files = [tmp_path / name for name in ("good.jpg", "cut.jpg", "empty.jpg", "good.png", "cut.png", "page.jpg")]
    files += [tmp_path / "folder.jpg", tmp_path / "gone.jpg", tmp_path / "a\0b.jpg"]
    bad = verify_images(map(str, files))
    assert bad == [file for file in files if not file.name.startswith("good")]
    assert (tmp_path / "cut.jpg").exists()


def test_verify_images_holds_to_limits(tmp_path: Path) -> None:
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    size = (tmp_path / "a.png").stat().st_size
    assert verify_images([tmp_path / "a.png"]) == []
    assert verify_images([tmp_path / "a.png"], limits=DecodeLimits(max_pixels=2_399)) == [tmp_path / "a.png"]
    assert verify_images([tmp_path / "a.png"], limits=DecodeLimits(max_bytes=size - 1)) == [tmp_path / "a.png"]
    assert verify_images([tmp_path / "a.png"], limits=DecodeLimits(max_bytes=size, max_pixels=2_400)) == []


def test_nothing_to_verify() -> None:
    assert verify_images([]) == []


def test_using_attr() -> None:
    label = using_attr(RegexLabeller(r"(.+)_\d+.jpg$"), "name")
    assert label(Path("pets/sam_the_cat_012.jpg")) == "sam_the_cat"
    assert label.__name__ == "RegexLabeller of .name"
    assert using_attr(str.upper, "name")(Path("a/b.jpg")) == "B.JPG"
