"""What the loaders do to pictures: random in training, declared outside of it, kept for the next epoch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from drivetrain.data.edits import JOURNAL_FILE
from drivetrain.data.transforms import FlipItem, RandomResizedCrop, Resize
from drivetrain.errors import InvalidInput
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.learn.augment import Normalize, aug_transforms, imagenet_stats
from drivetrain.settings import Settings

from .makers import block_of, load, make_files


def test_item_transforms_are_random_in_training_and_centred_outside(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings, block_of(item_tfms=[FlipItem(p=1.0), Resize(16)]), shuffle=False, bs=9)
    plain = load(folder, settings, block_of(item_tfms=Resize(16, "squish")), shuffle=False, bs=9)
    flipped = load(folder, settings, block_of(item_tfms=[FlipItem(p=1.0), Resize(16, "squish")]), shuffle=False, bs=9)
    torch.testing.assert_close(next(iter(flipped.train))[0].flip(3), next(iter(plain.train))[0], atol=0.02, rtol=0)
    assert torch.equal(next(iter(flipped.valid))[0], next(iter(plain.valid))[0])
    two = [next(iter(dls.train))[0] for _ in range(2)]
    assert not torch.equal(*two)  # the crop is drawn anew
    assert torch.equal(next(iter(dls.valid))[0], next(iter(dls.valid))[0])


class Note:
    """A batch transform that notes its calls."""

    on_valid: ClassVar[bool] = False

    def __init__(self, order: int, calls: list[str], *, on_valid: bool = False) -> None:
        self.order, self.calls = order, calls
        self.on_valid = on_valid  # type: ignore[misc]

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        self.calls.append(f"{self.order}")
        return x + torch.rand(1, generator=rng)

    def valid_ops(self) -> list[dict[str, Any]]:
        return []


def test_batch_transforms_run_in_their_order(folder: Path, settings: Settings) -> None:
    calls: list[str] = []
    dls = load(folder, settings, block_of(batch_tfms=[Note(9, calls), [Note(3, calls, on_valid=True)]]), bs=9)
    next(iter(dls.train))
    assert calls == ["3", "9"]
    calls.clear()
    next(iter(dls.valid))
    assert calls == ["3"]


def test_a_plain_function_of_batches_runs_on_both_sides(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings, block_of(batch_tfms=[lambda x: x * 0 + 5]))
    assert float(dls.one_batch()[0].mean()) == 5
    assert float(next(iter(dls.valid))[0].mean()) == 5
    assert dls.undeclared == ("the batch transform a lambda runs outside of training and is no declared op",)


def test_transforms_may_be_added_later(folder: Path, settings: Settings) -> None:
    dls = load(folder, settings, block_of(item_tfms=Resize(32)))
    before = next(iter(dls.valid))[0]
    dls.add_tfms([Normalize.from_stats([0.5] * 3, [0.25] * 3)])
    torch.testing.assert_close(next(iter(dls.valid))[0], (before - 0.5) / 0.25)
    dls.add_tfms(aug_transforms(size=16))
    assert next(iter(dls.valid))[0].shape[2:] == (16, 16)
    assert next(iter(dls.train))[0].shape[2:] == (16, 16)
    assert [type(tfm).__name__ for tfm in dls.train.batch_tfms][-1] == "Normalize"


def test_what_is_done_outside_of_training_is_declared(folder: Path, settings: Settings) -> None:
    stats = Normalize.from_stats([0.5, 0.4, 0.3], [0.25, 0.2, 0.1])
    dls = load(folder, settings, block_of(item_tfms=Resize(32), batch_tfms=[*aug_transforms(size=16), stats]))
    ops = dls.valid_ops
    assert [op["op"] for op in ops] == [
        "decode", "exif_transpose", "resize", "resize", "scale", "normalize", "layout",
    ]  # fmt: skip
    assert ops[0]["jpeg_min_side"] == 32
    file = dls.valid.items[0]
    pixels = Preprocess(ops).from_bytes(file.read_bytes(), name="x", limits=DecodeLimits())
    np.testing.assert_allclose(next(iter(dls.valid))[0][0].numpy(), pixels, atol=1e-5)


def test_a_plain_function_cannot_be_declared(folder: Path, settings: Settings) -> None:
    block = block_of(
        item_tfms=[Resize(32), lambda image: image.rotate(180), Resize(8)], batch_tfms=aug_transforms(size=4)
    )
    dls = load(folder, settings, block)
    assert dls.undeclared == ("the item transform a lambda is a plain function: what it does cannot be written down",)
    with pytest.raises(InvalidInput, match=r"the preprocessing: got the item transform a lambda is a plain function"):
        _ = dls.valid_ops
    assert next(iter(dls.valid))[0].shape[2:] == (4, 4)  # it works all the same
    assert dls.one_batch()[0].shape[2:] == (4, 4)


def test_a_preprocessing_that_makes_no_square_is_none(folder: Path, settings: Settings) -> None:
    with pytest.raises(InvalidInput, match=r"a square"):
        _ = load(folder, settings, block_of(item_tfms=None)).valid_ops


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The pictures that are read from here on."""
    read: list[Path] = []
    original = Path.read_bytes

    def note(self: Path) -> bytes:
        if self.name != JOURNAL_FILE:
            read.append(self)
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", note)
    return read


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Pictures that cost something to decode, long settled."""
    import os

    for file in make_files(tmp_path / "large", size=(900, 700)):
        os.utime(file, (1_000_000, 1_000_000))
    return tmp_path / "large"


@pytest.mark.parametrize("tfm", [Resize(64), Resize(64, "pad"), RandomResizedCrop(64, min_scale=0.5)])
def test_a_second_epoch_reads_no_file_and_sees_the_same(
    large: Path, settings: Settings, counted: list[Path], tfm: Any
) -> None:
    block = block_of(item_tfms=tfm)
    kept, bare = load(large, settings, block), load(large, replace(settings, pixel_cache_bytes=0), block)
    first = [list(dls.train) + list(dls.valid) for dls in (kept, bare)]
    counted.clear()
    second = [list(kept.train) + list(kept.valid)]
    assert counted == []
    second.append(list(bare.train) + list(bare.valid))
    assert len(counted) == 12
    for ours, theirs in (first, second):
        assert all(torch.equal(a[0], b[0]) for a, b in zip(ours, theirs, strict=True))
    counted.clear()
    list(load(large, settings, block).train)  # another run finds them too
    assert counted == []


def test_a_changed_file_is_read_again(large: Path, settings: Settings, counted: list[Path]) -> None:
    import os

    dls = load(large, settings, block_of(item_tfms=Resize(64)))
    list(dls.train)
    counted.clear()
    changed = large / "cat/02.jpg"
    os.utime(changed, (2_000_000, 2_000_000))
    list(dls.train)
    assert counted == [changed]


def test_where_the_cache_is_and_that_it_can_be_turned_off(large: Path, settings: Settings) -> None:
    bare = load(large, replace(settings, pixel_cache_bytes=0), block_of(item_tfms=Resize(64)))
    list(bare.train)
    assert not (settings.cache_dir / "pixels").exists()
    list(load(large, settings, block_of(item_tfms=Resize(64))).train)
    assert list((settings.cache_dir / "pixels").glob("*.px"))


def test_held_out_pictures_are_those_of_production_to_the_last_bit(folder: Path, settings: Settings) -> None:
    """Symptom before: the loader divided by 255 where production multiplies, which differs in the last bit."""
    plain = load(folder, settings, block_of(batch_tfms=aug_transforms(size=12, min_scale=0.5)))
    centred = load(folder, settings, block_of(batch_tfms=Normalize.from_stats(*imagenet_stats)))
    for dls, most in ((plain, 0.0), (centred, 1e-6)):  # production scales and normalises in one step
        production = Preprocess(dls.valid_ops)
        for pictures, _ in dls.valid:
            files = dls.valid_ds.items
            served = [production.from_bytes(file.read_bytes(), name="x", limits=DecodeLimits()) for file in files]
            np.testing.assert_allclose(pictures.numpy(), np.stack(served), rtol=0, atol=most)
