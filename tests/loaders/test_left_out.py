"""Pictures that cannot be read: left out, named once, counted; other items, where none may be left out."""

from __future__ import annotations

import warnings
from operator import itemgetter
from pathlib import Path

import pandas
import pytest
import torch

from drivetrain.data.getters import get_image_files
from drivetrain.data.splitters import IndexSplitter
from drivetrain.data.transforms import RandomResizedCrop
from drivetrain.errors import InvalidInput, UnreadablePicture
from drivetrain.learn.augment import aug_transforms
from drivetrain.settings import Settings

from .makers import block_of, load, make_files


@pytest.fixture
def broken(folder: Path) -> Path:
    """Two of nine training pictures, and one of three held out, are no pictures."""
    for name in ("cat/02.jpg", "dog/07.jpg", "dog/01.jpg"):
        (folder / name).write_bytes(b"no picture")
    return folder


def test_what_cannot_be_read_is_left_out_and_named_once(broken: Path, settings: Settings) -> None:
    dls = load(broken, settings, bs=7)
    with pytest.warns(UserWarning, match="left out") as told:
        sizes = [len(y) for _, y in dls.train]
    assert sizes == [7]  # the next picture took the place
    messages = sorted(str(warning.message) for warning in told)
    assert len(messages) == 2
    assert "cat/02.jpg cannot be read and is left out: " in messages[0]
    assert "(2 of 9 so far)" in messages[0] + messages[1]
    assert len(dls.train.left_out) == 2
    assert len(dls.train.items) == 7
    assert len(dls.train) == 1
    assert "2 left out" in repr(dls.train)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(y) for _, y in dls.train] == [7]  # later epochs neither meet nor tell it again
    with pytest.warns(UserWarning, match=r"dog/01.jpg cannot be read and is left out: .* \(1 of 3 so far\)"):
        assert [len(y) for _, y in dls.valid] == [2]


@pytest.mark.parametrize("workers", [0, 3])
def test_the_same_batches_are_left_whatever_the_workers(broken: Path, settings: Settings, workers: int) -> None:
    with pytest.warns(UserWarning, match="left out"):
        batches = [list(load(broken, settings, bs=3, num_workers=n).train) for n in (1, workers)]
    assert all(torch.equal(a[0], b[0]) for a, b in zip(*batches, strict=True))


def test_many_that_cannot_be_read_are_counted(tmp_path: Path, settings: Settings) -> None:
    for file in make_files(tmp_path / "many", count=24)[2:]:
        file.write_bytes(b"no picture")
    dls = load(tmp_path / "many", settings, block_of(splitter=IndexSplitter([0])), bs=4)
    with pytest.warns(UserWarning, match="left out") as told:
        assert [len(y) for _, y in dls.train] == []
    assert len(dls.train.left_out) == 22
    messages = [str(warning.message) for warning in told]
    assert len(messages) == 5 + 2  # the first five by name; 8 and 16
    assert "16 pictures cannot be read and are left out; `left_out` names them all (16 of 23 so far)" in messages


def test_nothing_that_can_be_read(tmp_path: Path, settings: Settings) -> None:
    for file in make_files(tmp_path / "none", count=4):
        file.write_bytes(b"no picture")
    dls = load(tmp_path / "none", settings, block_of(splitter=IndexSplitter([0])), bs=2)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(InvalidInput, match=r"pictures: got none of 3 that can be read, such as"),
    ):
        list(dls.train)
    with pytest.raises(InvalidInput, match=r"show_batch: got no picture that can be read; want one at least"):
        dls.show_batch(unique=True)


def test_one_batch_of_too_few(broken: Path, settings: Settings) -> None:
    dls = load(broken, settings, bs=9)
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(InvalidInput, match=r"one_batch: got 9 items, which make no whole batch"),
    ):
        dls.one_batch()


def test_a_file_that_goes_away(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings)
    (folder / "cat/02.jpg").unlink()
    with pytest.warns(UserWarning, match=r"cat/02.jpg cannot be read and is left out: cannot be opened: No such file"):
        list(dls.train)


def test_other_items_are_treated_like_those_held_out(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings, block_of(item_tfms=RandomResizedCrop(16), batch_tfms=aug_transforms()))
    files = get_image_files(folder)
    loader = dls.test_dl(files)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [1, 1, 1]
    assert [batch[0].shape[0] for batch in batches] == [4, 4, 4]
    again = [x for (x,) in dls.test_dl([str(file) for file in files], bs=12)]
    assert torch.equal(torch.cat([batch[0] for batch in batches]), again[0])
    labelled = dls.test_dl(files, with_labels=True)
    assert torch.cat([y for _, y in labelled]).tolist() == [0] * 6 + [1] * 6
    assert next(iter(dls.test_dl(files[0])))[0].shape[0] == 1
    assert loader.items == files


def test_other_items_of_a_table(folder: Path, settings: Settings) -> None:
    rows = [{"file": file.name, "kind": file.parent.name} for file in get_image_files(folder)]
    block = block_of(get_items=None, get_x=lambda row: folder / row["kind"] / row["file"], get_y=itemgetter("kind"))
    dls = load(pandas.DataFrame(rows), settings, block)
    labelled = dls.test_dl(pandas.DataFrame(rows[:5]), with_labels=True, bs=5)
    bare = dls.test_dl(get_image_files(folder)[:5], bs=5)  # get_x reads rows, and these are pictures already
    assert torch.equal(next(iter(labelled))[0], next(iter(bare))[0])
    with pytest.raises(
        InvalidInput, match=r"test_dl\(with_labels=True\): got pictures alone; want items as in training"
    ):
        dls.test_dl(get_image_files(folder), with_labels=True)


def test_what_test_dl_refuses(broken: Path, settings: Settings) -> None:
    dls = load(broken, settings)
    with pytest.raises(InvalidInput, match=r"test_dl: got .*, a folder; want files. Try get_image_files"):
        dls.test_dl(broken)
    with pytest.raises(InvalidInput, match=r"test_dl: got no items"):
        dls.test_dl([])
    with pytest.raises(UnreadablePicture, match=r"dog/07.jpg"):  # left out, it would shift the answers after it
        list(dls.test_dl(get_image_files(broken / "dog")[2:]))
    make_files(broken, count=1, classes=["cow"])
    with pytest.raises(InvalidInput, match=r"label of .*cow/00.jpg: got the label 'cow', which no training item has"):
        dls.test_dl(get_image_files(broken / "cow"), with_labels=True)
