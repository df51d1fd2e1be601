from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from drivetrain.data.edits import Change, append_edits
from drivetrain.data.items import Item, Items, picture_files, read_items
from drivetrain.errors import InvalidInput, NotFound


def lay(root: Path, *paths: str) -> Path:
    """Empty files: no picture is opened to make a list of them."""
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def labels_of(items: Items) -> dict[str, str]:
    return {item.path: item.label for item in items}


def splits_of(items: Items) -> dict[str, str | None]:
    return {item.path: item.split for item in items}


@pytest.mark.parametrize(
    ("paths", "want"),
    [
        (["cat/1.jpg", "dog/1.PNG"], {"cat/1.jpg": "cat", "dog/1.PNG": "dog"}),
        (["cat/x/y/1.jpg", "dog/1.jpg"], {"cat/x/y/1.jpg": "cat", "dog/1.jpg": "dog"}),
        (["train/1.jpg", "car/1.jpg"], {"train/1.jpg": "train", "car/1.jpg": "car"}),
        (["train/red/1.jpg", "car/1.jpg"], {"train/red/1.jpg": "train", "car/1.jpg": "car"}),
        (["[red]x/1.jpg", ":cat: 'q\"/1.jpg"], {"[red]x/1.jpg": "[red]x", ":cat: 'q\"/1.jpg": ":cat: 'q\""}),
        (["B\u0061\u0308r/1.jpg", "\u718a/1.jpg"], {"B\u0061\u0308r/1.jpg": "B\u00e4r", "\u718a/1.jpg": "\u718a"}),
    ],
    ids=["a folder per class", "deeper", "a class called train", "and deeper", "odd characters", "one spelling"],
)
def test_the_top_folder_is_the_class(paths: Sequence[str], want: Mapping[str, str], tmp_path: Path) -> None:
    items = read_items(lay(tmp_path, *paths))
    assert labels_of(items) == want
    assert {item.split for item in items} == {None}
    assert items.classes == tuple(sorted(want.values()))
    assert items.count_labels() == dict.fromkeys(want.values(), 1)
    assert all(items.file(item).is_file() for item in items)


@pytest.mark.parametrize("valid", ["valid", "validation", "val", "VAL"])
@pytest.mark.parametrize("train", ["train", "training", "Train"])
def test_train_valid_and_test_folders_are_the_split(train: str, valid: str, tmp_path: Path) -> None:
    paths = [f"{train}/cat/1.jpg", f"{valid}/cat/deep/2.jpg", "test/dog/3.jpg"]
    items = read_items(lay(tmp_path, *paths, "models/weights.bin"))
    assert splits_of(items) == {paths[0]: "train", paths[1]: "valid", paths[2]: "test"}
    assert labels_of(items) == {paths[0]: "cat", paths[1]: "cat", paths[2]: "dog"}
    assert items.others == 1


def test_a_train_folder_alone_holds_classes(tmp_path: Path) -> None:
    assert labels_of(read_items(lay(tmp_path, "train/cat/1.jpg", "train/dog/1.jpg"))) == {
        "train/cat/1.jpg": "cat",
        "train/dog/1.jpg": "dog",
    }


def test_pictures_beside_the_split_are_no_class(tmp_path: Path) -> None:
    """They made "train" and "valid" classes, and a model that told these apart."""
    lay(tmp_path, "train/cat/1.jpg", "valid/cat/2.jpg", "more/3.jpg")
    with pytest.raises(InvalidInput) as caught:
        read_items(tmp_path)
    assert caught.value.message == (
        f"DATA: got train, valid and beside them 'more' with pictures, in {tmp_path}; want either a folder per class, "
        "or train, valid and test with a folder per class in each. Move the others away."
    )


@pytest.mark.parametrize("paths", [["1.jpg", "2.jpg"], ["train/1.jpg", "valid/2.jpg"], ["train/1.jpg"]])
def test_loose_pictures_alone_are_an_error(paths: Sequence[str], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_items(lay(tmp_path, *paths))
    count = "2 pictures" if len(paths) == 2 else "1 picture"
    assert caught.value.message == (
        f"DATA: got {count} in no folder of a class, such as {paths[0]}; want a folder per class. "
        "Put each into a folder named after its class, or write labels.csv (columns path,label)."
    )


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    items = read_items(
        lay(tmp_path, "cat/1.jpg", "dog/1.jpg", "loose.jpg", "notes.txt", "dog/raw.dng", "birds/raw.dng")
    )
    assert set(labels_of(items)) == {"cat/1.jpg", "dog/1.jpg"}
    assert items.others == 4
    assert items.empty == ("birds",)
    assert items.note_left_out() == [
        "Left out, being no pictures by their name, or without a label: 4 files.",
        "Folders without a picture, so no classes: 'birds'.",
    ]
    assert items.keep(items.items[:1]).note_left_out() == items.note_left_out()
    assert read_items(lay(tmp_path / "clean", "a/1.jpg")).note_left_out() == []


def test_empty_class_folders_of_a_split_are_told(tmp_path: Path) -> None:
    lay(tmp_path, "train/cat/1.jpg", "valid/cat/1.jpg", "train/owl/1.dng")
    assert read_items(tmp_path).empty == ("owl",)


def test_hidden_files_are_as_if_they_were_not_there(tmp_path: Path) -> None:
    hidden = [
        ".ipynb_checkpoints/1.jpg",
        "cat/.ipynb_checkpoints/1-checkpoint.jpg",
        "__MACOSX/cat/1.jpg",
        "cat/._1.jpg",
        "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        ".DS_Store",
        "cat/Thumbs.db",
        "dog/desktop.ini",
    ]
    items = read_items(lay(tmp_path, "cat/1.jpg", "dog/1.jpg", *hidden))
    assert set(labels_of(items)) == {"cat/1.jpg", "dog/1.jpg"}
    assert (items.others, items.empty) == (0, ())
    assert picture_files(tmp_path) == [tmp_path / "cat/1.jpg", tmp_path / "dog/1.jpg"]


def test_the_root_itself_may_be_hidden(tmp_path: Path) -> None:
    assert len(read_items(lay(tmp_path / ".data", "cat/1.jpg", "dog/1.jpg"))) == 2


def test_items_are_in_the_order_of_their_paths(tmp_path: Path) -> None:
    items = read_items(lay(tmp_path, "b/2.jpg", "b/1.jpg", "b/a/1.jpg", "b-a/1.jpg", "a/9.jpg"))
    paths = [item.path for item in items]
    assert paths == sorted(paths)
    assert len(paths) == 5


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    lay(tmp_path / "elsewhere", "1.jpg")
    root = lay(tmp_path / "data", "dog/1.jpg")
    (root / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "dog" / "again").symlink_to(root, target_is_directory=True)
    assert labels_of(read_items(root)) == {"cat/1.jpg": "cat", "dog/1.jpg": "dog"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf8_are_named_and_left_out(tmp_path: Path) -> None:
    lay(tmp_path, "cat/1.jpg", "dog/1.jpg")
    folder = os.fsencode(tmp_path)
    for name in (b"cat/b\xe4r.jpg", b"dog/\xff.png"):
        Path(os.fsdecode(folder + b"/" + name)).touch()
    items = read_items(tmp_path)
    assert set(labels_of(items)) == {"cat/1.jpg", "dog/1.jpg"}
    reason = "its name is not UTF-8: rename it"
    assert items.unusable == (("cat/b\\udce4r.jpg", reason), ("dog/\\udcff.png", reason))
    for path in (tmp_path / "cat/1.jpg", tmp_path / "dog/1.jpg"):
        path.unlink()
    with pytest.raises(InvalidInput, match=r"got no picture in .*, and 2 pictures whose name is not UTF-8; want"):
        read_items(tmp_path)


def test_data_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"DATA: got .*nowhere; want a folder with a folder of pictures per class, or"):
        read_items(tmp_path / "nowhere")
    file = lay(tmp_path, "1.jpg") / "1.jpg"
    with pytest.raises(InvalidInput, match=r"DATA: got .*1\.jpg, a file; want a folder\. Give the folder that holds"):
        read_items(file)


@pytest.mark.parametrize(
    ("paths", "got"),
    [([], "no picture in {root};"), (["a.txt", "b/c.dng"], "no picture in {root}, but 2 other files;")],
)
def test_no_picture_at_all(paths: Sequence[str], got: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_items(lay(tmp_path, *paths))
    assert caught.value.message.startswith(
        f"DATA: got {got.format(root=tmp_path)} want a folder per class with pictures"
    )
    assert caught.value.message.endswith("or labels.csv. Example: bears/grizzly/1.jpg, bears/black/2.jpg.")


def table(root: Path, text: str, *, encoding: str = "utf-8") -> Path:
    lay(root, "a/1.jpg", "a/2.jpg", "b, c/3.jpg")
    (root / "labels.csv").write_bytes(text.encode(encoding))
    return root


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"], ids=["plain", "with BOM"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_labels_file(encoding: str, end: str, tmp_path: Path) -> None:
    lines = [
        " Label ,PATH,split,group",
        'cat,a/2.jpg,Training,"ann, bob"',
        "",
        '"dog, big",".//b, c\\3.jpg", VAL ,',
        " cat ,a/1.jpg,,",
    ]
    items = read_items(table(tmp_path, end.join(lines), encoding=encoding))
    assert items.items == (
        Item(path="a/1.jpg", label="cat"),
        Item(path="a/2.jpg", label="cat", group="ann, bob", split="train"),
        Item(path="b, c/3.jpg", label="dog, big", split="valid"),
    )


def test_further_columns_are_kept_and_change_nothing(tmp_path: Path) -> None:
    items = read_items(table(tmp_path, "path,Site,label,camera\na/1.jpg, north ,x,\na/2.jpg,,y,c2\n"))
    assert items.columns == ("site", "camera")
    assert [dict(item.more) for item in items] == [{"site": "north", "camera": ""}, {"site": "", "camera": "c2"}]
    plain = read_items(table(tmp_path, "path,label\na/1.jpg,x\na/2.jpg,y\n"))
    assert (plain.items, plain.columns, dict(plain.items[0].more)) == (items.items, (), {})


def test_pictures_that_are_not_in_the_labels_file_are_counted(tmp_path: Path) -> None:
    items = read_items(table(tmp_path, "path,label\na/1.jpg,x\n"))
    assert (len(items), items.others) == (1, 2)


@pytest.mark.parametrize(
    ("text", "want"),
    [
        (
            "",
            "{file} line 1: got nothing; want columns path,label and, if you like, group,split or others; "
            "commas between them.",
        ),
        ("path,kind\n", "{file} line 1: got path,kind; want columns path,label"),
        ("path;label\n", "{file} line 1: got path;label; want columns path,label"),
        ("path,label,\n", "{file} line 1: got path,label,; want columns path,label"),
        ("path,label,Groups\n", "{file} line 1: got a column `groups`; want `group`, or a name further from it."),
        ("path,label,spilt\n", "{file} line 1: got a column `spilt`; want `split`, or a name further from it."),
        ("path,label,site,site\n", "{file} line 1: got path,label,site,site; want columns path,label"),
        ("path,label,path\n", "{file} line 1: got path,label,path; want columns path,label"),
        ("path,label\n\n , \n", "{file}: got no row below the header; want a row for each picture."),
        ("path,label\na/1.jpg\n", "{file} line 2: got 1 cells; want 2 cells: path,label."),
        ("path,label\na/1.jpg,x,y\n", "{file} line 2: got 3 cells; want 2 cells: path,label."),
        ("path,label\n,x\n", "{file} line 2, path: got ; want a path below {root}."),
        ("path,label\n/etc/passwd,x\n", "{file} line 2, path: got /etc/passwd; want a path below {root}."),
        ("path,label\na/../../x.jpg,x\n", "{file} line 2, path: got a/../../x.jpg; want a path below {root}."),
        ("path,label\n..\\x.jpg,x\n", "{file} line 2, path: got ..\\x.jpg; want a path below {root}."),
        ("path,label\na/9.jpg,x\n", "{file} line 2, path: got a/9.jpg; want a file below {root}."),
        ("path,label\na,x\n", "{file} line 2, path: got a; want a file below {root}."),
        ("path,label\na/1.jpg,x\na/1.jpg,y\n", "{file} line 3: got a/1.jpg again; want each path once."),
        ("path,label\na/1.jpg,x\na//./1.jpg,x\n", "{file} line 3: got a/1.jpg again; want each path once."),
        ('path,label\n"a/1.jpg","x\ny"\na/2.jpg, \n', "{file} line 4, label: got nothing; want a label."),
        ("path,label,split\na/1.jpg,x,hold\n", "{file} line 2, split: got hold; want train, valid, test or nothing."),
        ('path,label\n"a/1.jpg,x\n', "{file}: got unexpected end of data; want UTF-8 text, comma-separated."),
    ],
)
def test_labels_file_errors_name_the_line(text: str, want: str, tmp_path: Path) -> None:
    with pytest.raises((InvalidInput, NotFound)) as caught:
        read_items(table(tmp_path, text))
    assert caught.value.message.startswith(want.format(file=tmp_path / "labels.csv", root=tmp_path))


def test_labels_file_in_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"labels\.csv: got 'utf-8' codec can't decode .*; want UTF-8 text, comma"):
        read_items(table(tmp_path, "path,label\na/1.jpg,B\u00e4r\n", encoding="latin-1"))


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".avif"])
def test_pictures_of_a_kind_we_cannot_read_are_items_so_that_they_are_named(suffix: str, tmp_path: Path) -> None:
    for name in (f"a/phone{suffix}", "b/other.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    items = read_items(tmp_path)
    assert [item.path for item in items] == [f"a/phone{suffix}", "b/other.png"]
    assert items.others == 0


@pytest.mark.parametrize("label", ["x" * 256, "two\tparts", "line\nbreak"])
def test_a_label_that_no_manifest_can_hold_is_refused_before_training(label: str, tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    (tmp_path / "labels.csv").write_text(f'path,label\n1.jpg,"{label}"\n')
    with pytest.raises(
        InvalidInput, match=r"a class's name: got .* want at most 255 characters, none of them a control"
    ):
        read_items(tmp_path)


def test_a_label_of_255_characters_is_read(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    (tmp_path / "labels.csv").write_text(f"path,label\n1.jpg,{'x' * 255}\n")
    assert read_items(tmp_path).classes == ("x" * 255,)


# --- any number of labels, and measured values


def test_the_column_says_the_task(tmp_path: Path) -> None:
    labels = read_items(table(tmp_path / "labels", 'path,labels\na/1.jpg, red ;big\na/2.jpg,\n"b, c/3.jpg",big'))
    assert (labels.task, labels.classes) == ("multilabel", ("big", "red"))
    assert labels_of(labels) == {"a/1.jpg": "big;red", "a/2.jpg": "", "b, c/3.jpg": "big"}
    assert [labels.labels_of(item) for item in labels] == [("big", "red"), (), ("big",)]
    assert labels.count_labels() == {"big": 2, "red": 1}
    assert labels.targets().tolist() == [[1, 1], [0, 0], [1, 0]]
    assert labels.targets(labels.items[:1], classes=("red", "big", "x")).tolist() == [[1, 1, 0]]
    assert labels.strata().tolist() == [1, 2, 0]

    values = read_items(
        table(tmp_path / "value", 'path,value,split\na/1.jpg,1.50,test\na/2.jpg,-3,\n"b, c/3.jpg",1e2,')
    )
    assert (values.task, values.classes) == ("regression", ("value",))
    assert labels_of(values) == {"a/1.jpg": "1.5", "a/2.jpg": "-3", "b, c/3.jpg": "100"}
    assert values.targets().tolist() == [[1.5], [-3], [100]]
    assert (values.items[0].split, values.count_labels()) == ("test", {})

    classes = read_items(table(tmp_path / "label", "path,label\na/1.jpg,x;y\na/2.jpg,z"))
    assert (classes.task, classes.classes) == ("classification", ("x;y", "z"))
    assert classes.targets().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,labels\na/1.jpg,x,y", "line 1: got path,label,labels; want columns path,label"),
        ("path,labels,value\na/1.jpg,x,1", "Instead of label: `labels` for any number of them"),
        ("path\na/1.jpg", "line 1: got path; want columns path,label"),
        ("path,value\na/1.jpg,3\na/2.jpg,nan", "line 3, value: got nan; want a finite number"),
        ("path,value\na/1.jpg,\na/2.jpg,2", "line 2, value: got nothing; want a number"),
        ("path,value\na/1.jpg,1;2\na/2.jpg,2", "value of a/2.jpg: got 2; want 2 values, as a/1.jpg has"),
        ("path,labels\na/1.jpg,x\x07", "a class's name: got 'x"),
    ],
)
def test_tables_of_labels_and_values_that_are_off(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_items(table(tmp_path, text))
    assert message in caught.value.message


def test_the_journal_relabels_in_the_words_of_the_task(tmp_path: Path) -> None:
    labels = table(tmp_path / "labels", "path,labels\na/1.jpg,red\na/2.jpg,big")
    changes = [("a/1.jpg", " new; big"), ("a/2.jpg", ";")]
    append_edits(labels, [Change(action="relabel", path=path, old="x", new=new) for path, new in changes])
    assert labels_of(read_items(labels)) == {"a/1.jpg": "big;new", "a/2.jpg": ""}
    values = table(tmp_path / "value", "path,value\na/1.jpg,1\na/2.jpg,2")
    append_edits(values, [Change(action="relabel", path="a/1.jpg", old="1", new="1.250")])
    assert labels_of(read_items(values)) == {"a/1.jpg": "1.25", "a/2.jpg": "2"}
    append_edits(values, [Change(action="relabel", path="a/2.jpg", old="2", new="large")])
    with pytest.raises(InvalidInput, match=r"edits\.jsonl, the new label of a/2\.jpg: got large; want a finite number"):
        read_items(values)
