"""DataLoaders: batches, their order and draws, what is left out, what is declared, and no thread left behind."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drivetrain.data.getters import get_image_files
from drivetrain.data.splitters import IndexSplitter
from drivetrain.data.transforms import RandomResizedCrop, Resize
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.learn.augment import Flip, aug_transforms
from drivetrain.learn.blocks import CategoryBlock, ImageBlock, RegressionBlock, TransformBlock
from drivetrain.learn.collate import BatchBuffers, collate_values
from drivetrain.learn.data_block import DataBlock
from drivetrain.learn.data_loaders import DataLoaders
from drivetrain.settings import Settings

from .makers import block_of, load, make_files


def picture_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pictures")]


def test_batches(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings, path=folder)
    assert (len(dls.train), len(dls.valid), len(dls), dls.bs, dls.c, dls.vocab) == (2, 1, 2, 4, 2, ("cat", "dog"))
    assert (dls.path, dls.n_inp, dls.device) == (folder, 1, torch.device("cpu"))
    assert (dls[0], dls[1], list(dls)) == (dls.train, dls.valid, [dls.train, dls.valid])
    assert (dls.train_ds, dls.valid_ds) == (dls.train.dataset, dls.valid.dataset)
    assert dls.train.vocab == dls.vocab
    batches = list(dls.train)
    assert [tuple(x.shape) for x, _ in batches] == [(4, 3, 16, 16)] * 2
    x, y = batches[0]
    assert (x.dtype, y.dtype, x.is_contiguous()) == (torch.float32, torch.int64, True)
    assert 0 <= x.min() < 0.3 < 0.7 < x.max() <= 1
    assert [len(y) for _, y in dls.valid] == [3]
    assert "2 batches of 4 from 9 items, on cpu" in repr(dls)


def test_pictures_and_labels_belong_together(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings, val_bs=1)
    for (x, y), file in zip(dls.valid, dls.valid.items, strict=True):
        assert dls.vocab[int(y)] == file.parent.name
        pixels = Preprocess(dls.valid_ops).from_bytes(file.read_bytes(), name="x", limits=DecodeLimits())
        np.testing.assert_allclose(x[0].numpy(), pixels, atol=1e-6)  # production's own code


def test_an_epoch_has_each_item_once_in_an_order_of_its_own(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings, bs=9)
    first, second = (next(iter(dls.train)) for _ in range(2))
    sums = [[round(float(x.sum()), 3) for x in xs] for xs, _ in (first, second)]
    assert sums[0] != sums[1]
    assert len(set(sums[0])) == 9
    plain = load(folder, settings, bs=9, shuffle=False)
    assert [int(y) for y in next(iter(plain.train))[1]] == [0] * 5 + [1] * 4


@pytest.mark.parametrize("workers", [0, 1, 3, None])
def test_the_same_batches_whatever_the_workers(folder: Path, settings: Settings, workers: int | None) -> None:
    block = block_of(item_tfms=RandomResizedCrop(16, min_scale=0.3), batch_tfms=aug_transforms())
    reference, dls = load(folder, settings, block, num_workers=2), load(folder, settings, block, num_workers=workers)
    for _ in range(2):
        for ours, theirs in zip(dls.train, reference.train, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_seed_and_epoch_decide(folder: Path, settings: Settings) -> None:
    block = block_of(item_tfms=RandomResizedCrop(16, min_scale=0.3), batch_tfms=[Flip()])
    one, same, other = (load(folder, settings, block, seed=seed) for seed in (1, 1, 2))
    first = list(one.train)
    assert torch.equal(first[0][0], next(iter(same.train))[0])
    assert not torch.equal(first[0][0], next(iter(other.train))[0])
    assert one.train.epoch == 1
    one.train.epoch = 0  # as a resumed run does
    assert torch.equal(first[0][0], next(iter(one.train))[0])


def test_looking_does_not_change_the_training(folder: Path, settings: Settings) -> None:
    looked, not_looked = load(folder, settings), load(folder, settings)
    a, b = looked.one_batch(), looked.one_batch()
    assert not torch.equal(a[0], b[0])
    looked.show_batch()
    assert looked.train.epoch == 0
    assert torch.equal(next(iter(looked.train))[0], next(iter(not_looked.train))[0])


def test_the_last_batch(folder: Path, settings: Settings) -> None:
    assert [len(y) for _, y in load(folder, settings).train] == [4, 4]
    assert [len(y) for _, y in load(folder, settings, drop_last=False).train] == [4, 4, 1]
    assert [len(y) for _, y in load(folder, settings, bs=64).train] == [9]  # the only one is never left out
    with pytest.raises(InvalidConfig, match=r"drop_last=True\): got 9 items to train on and bs=64; want at least one"):
        load(folder, settings, bs=64, drop_last=True)
    assert [len(y) for _, y in load(folder, settings, val_bs=2).valid] == [2, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bs": 0}, "bs: got 0; want a whole number of at least 1"),
        ({"bs": 2.5}, "bs: got 2.5"),
        ({"num_workers": -1}, "num_workers: got -1; want a whole number of at least 0"),
        ({"seed": -1}, "seed: got -1; want a whole number of at least 0"),
        ({"device": "gpu"}, "device: got gpu; want cpu, cuda or cuda:N"),
    ],
)
def test_options_that_cannot_be(folder: Path, settings: Settings, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig, match=said):
        load(folder, settings, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_the_device_is_the_cpu_where_there_is_no_gpu(folder: Path, settings: Settings) -> None:
    assert load(folder, settings, device=None).device.type == "cpu"
    with pytest.raises(InvalidConfig, match=r"device: got cuda; want cpu: no GPU can be used here"):
        load(folder, settings, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gets_the_same_batches(folder: Path, settings: Settings) -> None:
    block = block_of(batch_tfms=aug_transforms())
    here, there = load(folder, settings, block), load(folder, settings, block, device=None)
    assert there.device.type == "cuda"
    for ours, theirs in zip(here.train, there.train, strict=True):
        assert theirs[0].is_cuda
        assert theirs[1].is_cuda
        torch.testing.assert_close(ours[0], theirs[0].cpu(), atol=2e-3, rtol=0)


def test_batches_are_put_where_they_are_asked_for(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings)
    assert dls.to("meta") is dls
    assert dls.device.type == dls.valid.device.type == "meta"
    assert dls.one_batch()[1].device.type == "meta"
    assert dls.cpu().one_batch()[0].device.type == "cpu"
    assert dls.cuda().device.type == "cuda"


def test_the_threads_work_ahead_of_the_caller(folder: Path, settings: Settings) -> None:
    opened: list[int] = []
    enough = threading.Event()

    def note(image: Image.Image) -> Image.Image:
        opened.append(1)
        if len(opened) == 8:
            enough.set()
        return image

    walk = iter(load(folder, settings, block_of(item_tfms=[note, Resize(16)]), bs=4).train)
    next(walk)
    assert enough.wait(timeout=30)  # the next batch is decoded while this one is computed on
    walk.close()  # type: ignore[attr-defined]


def fail_on_a_batch(dls: DataLoaders) -> None:
    for _ in dls.train:
        raise ZeroDivisionError


def test_no_thread_is_left_behind(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings)
    for _ in dls.train:
        break
    gc.collect()
    assert picture_threads() == []
    dls.one_batch()
    assert picture_threads() == []
    with pytest.raises(ZeroDivisionError):
        fail_on_a_batch(dls)
    gc.collect()
    deadline = time.monotonic() + 30
    while picture_threads():
        assert time.monotonic() < deadline
    list(dls.train)
    assert picture_threads() == []


def test_a_batch_is_not_changed_by_the_next(folder: Path, settings: Settings) -> None:
    """Buffers are used again only once nobody holds a tensor on them: not a view, not what autograd keeps."""
    loader = load(folder, settings, bs=1).valid
    kept = [x[:1, 0].clone() for x, _ in loader]
    views = [x[:1, 0] for x, _ in loader]
    assert all(torch.equal(a, b) for a, b in zip(kept, views, strict=True))
    weight = torch.ones(1, requires_grad=True)
    losses = [(x * weight).sum() for x, _ in loader]
    sums = [float(x.sum()) for x, _ in loader]
    for loss, expected in zip(losses, sums, strict=True):
        weight.grad = None
        loss.backward()
        assert weight.grad is not None
        assert float(weight.grad) == pytest.approx(expected, rel=1e-5)


def test_buffers_are_used_again() -> None:
    buffers = BatchBuffers()
    first = buffers.take((2, 3), np.float32)
    where = first.data_ptr()
    second = buffers.take((2, 3), np.float32)
    assert second.data_ptr() != where
    del first
    assert buffers.take((2, 3), np.float32).data_ptr() == where
    assert buffers.take((2, 4), np.float32).shape == (2, 4)
    assert buffers.take((2, 3), np.uint8).dtype == torch.uint8


def test_pictures_of_different_sizes(folder: Path, settings: Settings) -> None:
    make_files(folder, count=12, classes=["ant"], size=(20, 50))
    dls = load(folder, settings, block_of(item_tfms=None, splitter=IndexSplitter([0, 13, 14])), bs=16)
    one = r"(ant|cat|dog)/\d+\.jpg with \d+ x \d+"
    said = rf"a batch: got {one} pixels and {one}; want pictures of one size.*Resize\(224\)"
    with pytest.raises(InvalidInput, match=said):
        list(dls.train)


def test_a_function_that_fails_is_named_with_its_picture(folder: Path, settings: Settings) -> None:
    def turn(image: Image.Image) -> Image.Image:
        raise RuntimeError("no luck")

    with pytest.raises(InvalidInput, match=r"item transform turn on .*\.jpg: got RuntimeError: no luck") as caught:
        load(folder, settings, block_of(item_tfms=turn)).one_batch()
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(InvalidInput, match=r"item transform a lambda on .*\.jpg: got a tuple; want a PIL picture"):
        load(folder, settings, block_of(item_tfms=[lambda image: image.size])).one_batch()


def test_an_error_of_ours_in_a_function_is_told_as_it_is(folder: Path, settings: Settings) -> None:
    def refuse(image: Image.Image) -> Image.Image:
        raise InvalidInput("size", got="small", want="large")

    with pytest.raises(InvalidInput, match=r"^size: got small; want large"):
        load(folder, settings, block_of(item_tfms=refuse)).one_batch()


def test_values_that_make_no_batch(folder: Path, settings: Settings) -> None:
    block = block_of(blocks=(ImageBlock, TransformBlock), get_y=lambda file: file.name)
    with pytest.raises(InvalidInput, match=r"get_y on .*\.jpg: got a str; want a number or an array.*CategoryBlock"):
        load(folder, settings, block).one_batch()
    with pytest.raises(InvalidInput, match=r"got get_y of shape \(1,\) on a and of shape \(2,\) on b; want one shape"):
        collate_values([np.ones(1), np.ones(2)], ["a", "b"], "get_y")


def test_numbers_and_arrays(folder: Path, settings: Settings) -> None:
    block = DataBlock(
        blocks=(ImageBlock, TransformBlock, RegressionBlock),
        get_items=get_image_files,
        get_x=[lambda file: file, lambda file: [1.5, 2.5]],
        get_y=lambda file: len(file.name),
        splitter=IndexSplitter([0]),
        item_tfms=Resize(16),
    )
    dls = load(folder, settings, block)
    picture, pair, number = dls.one_batch()
    assert dls.n_inp == 2
    assert (pair.dtype, tuple(pair.shape), pair[0].tolist()) == (torch.float32, (4, 2), [1.5, 2.5])
    assert (number.dtype, number.tolist()) == (torch.float32, [6.0] * 4)
    assert picture.shape[1:] == (3, 16, 16)


def test_two_pictures_an_item(folder: Path, settings: Settings) -> None:
    block = DataBlock(
        blocks=(ImageBlock, TransformBlock([Image.open]), CategoryBlock),
        get_items=get_image_files,
        get_x=[lambda file: file.read_bytes(), lambda file: file],
        get_y=lambda file: file.parent.name,
        splitter=IndexSplitter([0, 6]),
        item_tfms=Resize(16),
    )
    left, right, _ = next(iter(load(folder, settings, block).valid))
    assert torch.equal(left, right)


@pytest.mark.parametrize("kind", ["bytes", "image", "array", "grey", "column"])
def test_a_picture_may_come_as(folder: Path, settings: Settings, kind: str) -> None:
    ways: dict[str, Any] = {
        "bytes": Path.read_bytes,
        "image": Image.open,
        "array": lambda file: np.asarray(Image.open(file)),
        "grey": lambda file: np.asarray(Image.open(file).convert("L")),
        "column": lambda file: np.asarray(Image.open(file).convert("L"))[:, :, None],
    }
    ours = next(iter(load(folder, settings, block_of(get_x=ways[kind])).valid))[0]
    theirs = next(iter(load(folder, settings).valid))[0]
    if kind in ("grey", "column"):
        assert torch.equal(ours[:, 0], ours[:, 1])
    else:
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)


def test_what_is_no_picture_is_told(folder: Path, settings: Settings) -> None:
    kinds = iter([folder / "cat/02.jpg"] * 3 + [np.zeros((2, 2, 4), dtype=np.uint8)] * 99)
    with pytest.raises(InvalidInput, match=r"got uint8 of shape \(2, 2, 4\); want uint8 of shape"):
        load(folder, settings, block_of(get_x=lambda file: next(kinds)), num_workers=0).one_batch()
    others = iter([folder / "cat/02.jpg"] * 3 + [3.5] * 99)
    with pytest.raises(InvalidInput, match=r"got a float; want a path, bytes, a PIL picture.*get_x says which part"):
        load(folder, settings, block_of(get_x=lambda file: next(others)), num_workers=0).one_batch()
