"""What is asked for: lists, folders and class names, as people write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from drivetrain.data.gather.wanted import Wanted, check_class_name, host_of, list_folder, read_url_list
from drivetrain.errors import InvalidInput, NotFound

from .web import picture


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_list_is_read(tmp_path: Path) -> None:
    text = "\ufeffURL, Class ,license,source,stars\nHTTP://A.test/x y.jpg,b\u00e4r,CC0,http://a.test/,5\n"
    text += "\nnot an address,wolf,,,\n"
    rows, notes = read_url_list(write(tmp_path / "bears.csv", text))
    assert rows == [
        Wanted(
            url="http://a.test/x%20y.jpg",
            label="b\u00e4r",
            licence="CC0",
            source="http://a.test/",
            found_by="list bears.csv",
        ),
        Wanted(url="not an address", label="wolf", found_by="list bears.csv"),
    ]
    assert notes == ["Columns of bears.csv that were not read: 'stars'."]
    assert [host_of(row) for row in rows] == ["a.test", ""]
    assert host_of(Wanted(url="http://0177.0.0.1/", label="bear")) == ""
    assert host_of(Wanted(url="http://xn--0/", label="bear")) == "xn--0"


def test_a_list_may_say_label_and_licence(tmp_path: Path) -> None:
    rows, notes = read_url_list(write(tmp_path / "x.csv", "label,url,licence\nbear,http://a.test/,CC BY\n"))
    assert (rows[0].label, rows[0].licence, notes) == ("bear", "CC BY", [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "got nothing; want columns url,class"),
        ("address,class\nx,y\n", "got address,class; want columns url,class"),
        ("url,class,url\n", "each once"),
        ("url,class\n", "no row below the header"),
        ("url,class\nhttp://a.test/\n", "line 2: got 1 cells; want 2 cells: url,class"),
        ("url,class\n,bear\n", "line 2, url: got nothing"),
        ("url,class\nhttp://a.test/,\n", "line 2, class: got nothing"),
        ("url,class\nhttp://a.test/,../../etc\n", "line 2, class: got '../../etc', with /"),
        ('url,class\n"x"y,z\n', "expected after"),
    ],
)
def test_a_list_that_is_none(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_url_list(write(tmp_path / "x.csv", text))
    assert told in caught.value.message


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"--urls: got .*gone\.csv"):
        read_url_list(tmp_path / "gone.csv")
    (tmp_path / "latin.csv").write_bytes("url,class\nhttp://a.test/,b\u00e4r\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match="want UTF-8 text"):
        read_url_list(tmp_path / "latin.csv")


@pytest.mark.parametrize("name", ["grizzly", "black bear", "t-shirt", "B\u00e4r", "\u718a", "a.b", "console", "com10"])
def test_names_that_are_good(name: str) -> None:
    assert check_class_name(f" {name} ", field="--class") == name


def test_one_spelling_for_one_name() -> None:
    assert check_class_name(unicodedata.normalize("NFD", "B\u00e4r"), field="--class") == "B\u00e4r"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "nothing"),
        ("  ", "nothing"),
        ("..", "with a dot at an end"),
        (".hidden", "with a dot at an end"),
        ("bear.", "with a dot at an end"),
        ("a/b", "with /"),
        ("a\\b", "with \\"),
        ("C:bear", "with :"),
        ('a"<b>|?*', 'with " * < > ? |'),
        ("a\x00b", "with a control character"),
        ("a\nb", "with a control character"),
        ("a\u2028b", "with a control character"),
        ("CON", "a name that systems keep for themselves"),
        ("nul.txt", "a name that systems keep for themselves"),
        ("Lpt1", "a name that systems keep for themselves"),
        ("COM\u00b2", "a name that systems keep for themselves"),
        ("__MACOSX", "a name that systems keep for themselves"),
        ("\u718a" * 80, "240 bytes"),
    ],
)
def test_names_that_are_no_folders(name: str, told: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_class_name(name, field="--class")
    assert caught.value.message.startswith("--class: got ")
    assert told in caught.value.message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("bear/1.jpg", "bear/deep/2.jpg", "wolf/3.jpg"):
        file = tmp_path / "old" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture())
    return tmp_path / "old"


def listed(folder: Path, *classes: str) -> list[tuple[str, str]]:
    wanted = list_folder(folder, classes)
    assert all(one.url == (one.file or Path()).resolve().as_uri() for one in wanted)
    assert all(one.found_by == f"folder {folder.name}" for one in wanted)
    assert all(host_of(one) == "" for one in wanted)
    return [((one.file or Path()).name, one.label) for one in wanted]


def test_a_folder_with_a_folder_per_class(folder: Path) -> None:
    assert listed(folder) == [("1.jpg", "bear"), ("2.jpg", "bear"), ("3.jpg", "wolf")]
    assert listed(folder, "wolf") == [("3.jpg", "wolf")]
    assert listed(folder, "wolf", "bear") == listed(folder)


def test_a_folder_of_one_class(folder: Path) -> None:
    assert listed(folder / "bear", "grizzly") == [("1.jpg", "grizzly"), ("2.jpg", "grizzly")]


def test_a_folder_with_labels(folder: Path) -> None:
    write(folder / "labels.csv", "path,label\nbear/1.jpg,fox\nwolf/3.jpg,bear\n")
    assert listed(folder) == [("1.jpg", "fox"), ("3.jpg", "bear")]
    assert listed(folder, "bear") == [("3.jpg", "bear")]


def test_folders_that_give_nothing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"--from: got .*gone; want a folder of pictures"):
        list_folder(tmp_path / "gone", ())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="--from: got no picture"):
        list_folder(tmp_path / "empty", ("bear",))
    (folder / "CON").mkdir()
    (folder / "CON" / "1.jpg").write_bytes(picture())
    with pytest.raises(InvalidInput, match=r"--from .* a class's name: got 'CON'"):
        list_folder(folder, ())


@pytest.mark.parametrize("host", ["xn--", "xn--0", "xn--i-7iq.ws"])
def test_a_host_of_broken_punycode_ends_no_run(host: str, tmp_path: Path) -> None:
    rows, _ = read_url_list(write(tmp_path / "bears.csv", f"url,class\nhttp://{host}/a.jpg,bear\n"))
    assert [row.url for row in rows] == [f"http://{host}/a.jpg"]


@pytest.mark.parametrize("name", ["sources.csv", "Refused.csv", "labels.csv", "datasheet.md", "check.html"])
def test_no_class_is_called_as_a_file_beside_the_classes(name: str) -> None:
    with pytest.raises(InvalidInput, match="the name of a file that stands beside the classes"):
        check_class_name(name, field="--class")


def test_a_header_cannot_steer_the_terminal_and_says_how_to_save(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"got url\ufffd\[2j;class; .*'CSV UTF-8 \(comma delimited\)'"):
        read_url_list(write(tmp_path / "bears.csv", "url\x1b[2J;class\n"))
    (tmp_path / "old.csv").write_bytes("url,class\nhttp://a.test/x,b\u00e4r\n".encode("latin-1"))
    with pytest.raises(InvalidInput, match=r"want UTF-8 text, comma-separated\. A spreadsheet saves"):
        read_url_list(tmp_path / "old.csv")
