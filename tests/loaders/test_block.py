"""DataBlock: its arguments, its sources, its errors; `new` leaves the old plan as it was."""

from __future__ import annotations

import csv
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from PIL import Image

from drivetrain.data.getters import ColReader, get_image_files, parent_label
from drivetrain.data.splitters import ColSplitter, IndexSplitter
from drivetrain.data.transforms import CropPad, Resize
from drivetrain.errors import InvalidConfig, InvalidInput, NotFound
from drivetrain.learn.augment import aug_transforms
from drivetrain.learn.blocks import (
    Categorize,
    CategoryBlock,
    ImageBlock,
    MultiCategoryBlock,
    RegressionBlock,
    TransformBlock,
)
from drivetrain.learn.data_block import DataBlock
from drivetrain.settings import Settings

from .makers import block_of, make_files


def rows_of(folder: Path) -> list[dict[str, Any]]:
    files = get_image_files(folder)
    return [
        {"file": file.relative_to(folder).as_posix(), "kind": file.parent.name, "held": at % 4 == 0, "age": at}
        for at, file in enumerate(files)
    ]


def test_the_four_things(folder: Path) -> None:
    datasets = block_of().datasets(folder)
    assert (len(datasets.train), len(datasets.valid), len(datasets)) == (9, 3, 12)
    assert (datasets.vocab, datasets.c) == (("cat", "dog"), 2)
    assert datasets[0] is datasets.train
    assert datasets[1] is datasets.valid
    picture, number = datasets.train[0]
    assert isinstance(picture, Image.Image)
    assert picture.size == (40, 30)  # as it lies on disk: item transforms belong to the loader
    assert (number, number.dtype) == (0, np.int64)
    assert datasets.train.name(0).endswith("cat/02.jpg")
    assert datasets.train[-1][1] == datasets.train[8][1]
    assert len(list(datasets.valid)) == 3
    with pytest.raises(IndexError, match=r"item 9 of 9"):
        datasets.train[9]


def test_what_a_dataset_says_of_itself(folder: Path) -> None:
    datasets = block_of().datasets(folder)
    assert repr(datasets) == "<9 items to train on, 3 held out; labels: ('cat', 'dog')>"
    assert repr(datasets.valid).startswith("<3 items, such as ")


def test_lambdas_will_do(folder: Path) -> None:
    block = DataBlock(
        blocks=(ImageBlock, lambda: CategoryBlock(sort=False)),
        get_items=lambda source: sorted(source.glob("*/*.jpg")),
        get_x=lambda file: file.read_bytes(),
        get_y=lambda file: file.parent.name.upper(),
        splitter=lambda items: (np.arange(11, 1, -1), np.arange(2)),
    )
    datasets = block.datasets(folder)
    assert datasets.vocab == ("DOG", "CAT")
    assert datasets.train[0][0].size == (40, 30)


def test_a_splitter_may_give_masks(folder: Path) -> None:
    is_held = np.arange(12) % 3 == 0
    datasets = block_of(splitter=lambda items: (~is_held, is_held)).datasets(folder)
    assert (len(datasets.train), len(datasets.valid)) == (8, 4)


def test_without_a_splitter_a_fifth_is_held_out_and_stays_so(folder: Path) -> None:
    datasets, again = (block_of(splitter=None).datasets(folder) for _ in range(2))
    assert len(datasets.valid) == 2
    assert datasets.valid.items == again.valid.items


def test_a_frame_is_a_source(folder: Path) -> None:
    block = block_of(
        get_items=None, get_x=ColReader("file", pref=folder), get_y=ColReader("kind"), splitter=ColSplitter("held")
    )
    datasets = block.datasets(pandas.DataFrame(rows_of(folder)))
    assert len(datasets.valid) == 3
    assert datasets.valid.name(0) == str(folder / "cat/00.jpg")
    assert datasets.valid[0][0].size == (40, 30)


def test_a_csv_file_is_a_source(folder: Path, tmp_path: Path) -> None:
    rows = rows_of(folder)
    with (tmp_path / "table.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    block = block_of(
        blocks=(ImageBlock, RegressionBlock),
        get_items=None,
        get_x=ColReader("file", pref=folder),
        get_y=ColReader("age"),
    )
    datasets = block.datasets(tmp_path / "table.csv")
    assert datasets.vocab is None
    assert float(datasets.valid[1][1]) == 6.0


def test_a_list_of_rows_is_a_source(folder: Path) -> None:
    block = block_of(get_items=None, get_x=lambda row: folder / row["file"], get_y=itemgetter("kind"))
    assert len(block.datasets(rows_of(folder))) == 12


def test_a_vocabulary_is_that_of_the_training_items(folder: Path) -> None:
    make_files(folder, count=1, classes=["ant"])
    files = get_image_files(folder)
    with pytest.raises(InvalidInput, match=r"label of .*ant/00.jpg: got the label 'ant', which no training item has"):
        block_of(splitter=IndexSplitter([0, 5])).datasets(folder)
    assert block_of(splitter=IndexSplitter([1, 5])).datasets(folder).vocab == ("ant", "cat", "dog")
    assert files[0].parent.name == "ant"


def test_several_targets_and_getters(folder: Path) -> None:
    items = [(file, ["a"] if at % 2 else ["a", "b"], at) for at, file in enumerate(get_image_files(folder))]
    block = DataBlock(
        blocks=(ImageBlock, MultiCategoryBlock, RegressionBlock),
        n_inp=1,
        getters=[itemgetter(0), itemgetter(1), itemgetter(2)],
        splitter=IndexSplitter([0, 1]),
    )
    datasets = block.datasets(items)
    assert (datasets.vocab, datasets.c) == ((("a", "b"), None), (2, 1))
    assert datasets.train.decode(datasets.train[0][1:]) == "a;b, 2"
    listed = DataBlock(
        blocks=(ImageBlock, MultiCategoryBlock, RegressionBlock),
        n_inp=1,
        get_x=itemgetter(0),
        get_y=[itemgetter(1), itemgetter(2)],
        splitter=IndexSplitter([0, 1]),
    )
    assert listed.datasets(items).c == (2, 1)


def test_a_block_of_ones_own(folder: Path) -> None:
    """Functions in a row; a picture that they make is treated as one."""
    block = block_of(
        blocks=(TransformBlock([str, Image.open, lambda image: image.convert("L")]), TransformBlock([len, float])),
        get_y=lambda file: file.name,
    )
    picture, number = block.datasets(folder).train[0]
    assert isinstance(picture, Image.Image)
    assert number == 6.0
    assert block.datasets(folder).c == 0


def test_an_encoder_stands_last(folder: Path) -> None:
    block = block_of(blocks=(ImageBlock, TransformBlock([Categorize(), str])))
    with pytest.raises(InvalidConfig, match=r"got an encoder before other type transforms; want it as the last"):
        block.datasets(folder)


def test_blocks_bring_transforms_of_their_own() -> None:
    block = DataBlock(
        blocks=[TransformBlock(item_tfms=CropPad(8), batch_tfms=[abs]), CategoryBlock],
        item_tfms=Resize(4),
        batch_tfms=[round],
    )
    assert block.item_tfms == [CropPad(8), Resize(4)]
    assert block.batch_tfms == [abs, round]


def test_new_leaves_the_old_plan_as_it_was() -> None:
    old = block_of(batch_tfms=[abs])
    new = old.new(item_tfms=[Resize(8), CropPad(4)])
    assert (old.item_tfms, old.batch_tfms) == ([Resize(16)], [abs])
    assert (new.item_tfms, new.batch_tfms) == ([Resize(8), CropPad(4)], [abs])  # what is not mentioned stays
    assert new.new(batch_tfms=[]).batch_tfms == []
    assert (new.get_items, new.splitter, new.getters) == (old.get_items, old.splitter, old.getters)


def test_a_plan_can_be_read() -> None:
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_y=parent_label, splitter=IndexSplitter([1]))
    assert repr(block).startswith("DataBlock(ImageBlock, CategoryBlock, get_y=parent_label, splitter=IndexSplitter(")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"blocks": []}, r"DataBlock\(blocks\): got none; want what goes in and what comes out"),
        ({"blocks": [ImageBlock, 3]}, r"DataBlock\(blocks\): got 3; want blocks such as"),
        ({"blocks": [ImageBlock, dict]}, r"want blocks such as ImageBlock"),
        ({"n_inp": 3}, r"DataBlock\(n_inp\): got 3; want 1 to 2"),
        ({"n_inp": 0}, r"DataBlock\(n_inp\): got 0; want 1 to 2"),
        ({"get_items": "files"}, r"DataBlock\(get_items\): got files; want a function"),
        ({"get_y": "label"}, r"DataBlock\(get_y\): got label; want a function"),
        ({"splitter": IndexSplitter}, r"DataBlock\(splitter\).*want a function\. Call it: IndexSplitter\(\.\.\.\)"),
        ({"get_y": ColReader}, r"DataBlock\(get_y\).*Call it: ColReader"),
        ({"splitter": 0.2}, r"DataBlock\(splitter\): got 0.2; want a function"),
        ({"get_y": [len, len]}, r"DataBlock\(get_y\): got 2 functions; want 1: of 2 blocks, 1 are inputs"),
        ({"getters": [len, len]}, r"got getters beside get_x or get_y; want one or the other"),
        ({"getters": [len], "get_y": None}, r"DataBlock\(getters\): got 1 functions; want 2, one a block"),
        ({"item_tfms": 224}, r"DataBlock\(item_tfms\): got 224; want transforms, such as Resize\(224\)"),
        ({"item_tfms": Resize}, r"DataBlock\(item_tfms\).*Call it: Resize\(224\)"),
        ({"batch_tfms": ["flip"]}, r"DataBlock\(batch_tfms\): got flip"),
        ({"batch_tfms": Resize(9)}, r"want transforms of a whole batch\. This one belongs into item_tfms"),
        ({"item_tfms": [Resize(9), aug_transforms()]}, r"want transforms of one picture\. This one belongs into batch"),
    ],
)
def test_a_plan_that_cannot_work(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        block_of(**options)


def test_no_items(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InvalidInput, match=r"get_items=get_image_files: got no items in .*empty.*Is it the right folder"
    ):
        block_of().datasets(tmp_path / "empty")
    with pytest.raises(InvalidInput, match=r"source: got no items; want at least two"):
        block_of(get_items=None).datasets([])


def test_a_folder_needs_get_items(folder: Path) -> None:
    with pytest.raises(
        InvalidConfig, match=r"DataBlock\(get_items\): got none, with the source .*get_items=get_image_files"
    ):
        block_of(get_items=None).datasets(folder)


def test_get_items_that_fails(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"get_items=a lambda: got ZeroDivisionError: division by zero") as caught:
        block_of(get_items=lambda source: 1 / 0).datasets(folder)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(NotFound, match=r"get_image_files"):
        block_of().datasets(folder / "none")


def test_a_label_needs_a_getter(folder: Path) -> None:
    said = r"DataBlock\(get_y\): got none; want a function that reads the label of an item such as .*get_y=parent_label"
    with pytest.raises(InvalidConfig, match=said):
        block_of(get_y=None).datasets(folder)


def test_a_row_needs_to_say_where_its_picture_is(folder: Path) -> None:
    said = r"\(get_x\): got none; want a function that reads the picture of an item such as .*get_x=ColReader\('...'\)"
    with pytest.raises(InvalidConfig, match=said):
        block_of(get_items=None, get_y=itemgetter("kind")).datasets(rows_of(folder))
    with pytest.raises(InvalidInput, match=r"get_x on item 0 .*: got a int: 1; want a path, bytes"):
        block_of(get_items=None, get_x=itemgetter("age"), get_y=itemgetter("kind")).datasets(rows_of(folder))


def test_a_getter_that_fails_is_named_with_its_item(folder: Path) -> None:
    said = r"get_y on .*cat/00.jpg: got AttributeError: .* has no attribute 'nme'.*get_x and get_y are given one item"
    with pytest.raises(InvalidInput, match=said) as caught:
        block_of(get_y=lambda file: file.nme).datasets(folder)
    assert isinstance(caught.value.__cause__, AttributeError)
    with pytest.raises(NotFound, match=r"Did you mean 'kind'"):
        block_of(get_items=None, get_x=ColReader("file"), get_y=ColReader("kin")).datasets(rows_of(folder))


def test_a_type_transform_that_fails_is_named(folder: Path) -> None:
    block = block_of(blocks=(ImageBlock, TransformBlock([int, Categorize()])))
    with pytest.raises(InvalidInput, match=r"type transform int on .*cat/00.jpg: got ValueError"):
        block.datasets(folder)


@pytest.mark.parametrize(
    ("splitter", "said"),
    [
        (
            lambda items: ([], range(12)),
            "splitter a lambda: got 0 items to train on and 12 held out, of 12; want at least",
        ),
        (lambda items: (range(12), []), "got 12 items to train on and 0 held out.*It was given items such as"),
        (
            lambda items: (range(12), [3]),
            r"got 1 of 12 items on both sides, such as .*cat/06.jpg; want each item on one side",
        ),
        (lambda items: (range(3), [12]), r"got positions such as \[12\]; want whole numbers from 0 to 11"),
        (lambda items: (range(3), [0.5]), r"got positions such as \[0.5\]"),
        (lambda items: (range(3), [-1]), r"got positions such as \[-1\]"),
        (lambda items: 3, "got TypeError.*want a function of all items that gives two lists of positions"),
        (lambda items: 1 / 0, "got ZeroDivisionError"),
        (IndexSplitter([99]), "IndexSplitter"),
    ],
)
def test_a_splitter_that_cannot_be_used(folder: Path, splitter: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        block_of(splitter=splitter).datasets(folder)


def test_settings_are_those_of_the_process_unless_given(folder: Path, settings: Settings) -> None:
    assert block_of().datasets(folder).train.limits.max_pixels == settings.image_max_pixels
    small = block_of().datasets(folder, settings=_replace(settings, image_max_pixels=1000))
    with pytest.raises(InvalidInput, match=r"at most 1,000 are decoded"):
        small.train[0]


def _replace(settings: Settings, **changes: Any) -> Settings:
    from dataclasses import replace

    return replace(settings, **changes)


def test_a_splitter_of_a_frame_is_given_the_frame(folder: Path) -> None:
    """As in chapter 6 of the book; symptom before: list indices must be integers, not str."""

    def splitter(frame: Any) -> tuple[list[int], list[int]]:
        return frame.index[~frame["held"]].tolist(), frame.index[frame["held"]].tolist()

    frame = pandas.DataFrame(rows_of(folder)).sample(frac=1, random_state=1)  # its index is no longer the position
    plan = {"get_x": lambda row: folder / row["file"], "get_y": lambda row: row.kind, "splitter": splitter}
    for datasets in (
        block_of(get_items=None, **plan).datasets(frame),
        block_of(get_items=lambda source: frame, **plan).datasets(folder),
    ):
        assert [row["held"] for row in datasets.valid.items] == [True] * 3
        assert (len(datasets.train), datasets.vocab) == (9, ("cat", "dog"))


def test_without_blocks_the_parts_stay_what_the_getters_give(folder: Path) -> None:
    frame = pandas.DataFrame(rows_of(folder))
    datasets = DataBlock(get_x=lambda row: row["file"], get_y=lambda row: row["kind"]).datasets(frame)
    assert datasets.train[0] == (datasets.train.items[0]["file"], datasets.train.items[0]["kind"])
    row, same = DataBlock().datasets(frame).train[0]
    assert row == same == datasets.train.items[0]


def test_val_bs_is_not_bs_where_it_is_none(folder: Path, settings: Settings) -> None:
    with pytest.raises(InvalidConfig, match="bs: got 0; want a whole number of at least 1"):
        block_of().dataloaders(folder, bs=4, val_bs=0, settings=settings)  # was taken for 4
    dls = block_of().dataloaders(folder, bs=4, settings=settings)
    with pytest.raises(InvalidConfig, match="bs: got 0"):
        dls.test_dl(get_image_files(folder), bs=0)
