"""One item through every step of a DataBlock, told line by line; where a step fails, which, on what, and why."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image

from drivetrain.data.rows import list_items
from drivetrain.errors import DrivetrainError, UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.settings import Settings, load_settings

from .blocks import name_of
from .datasets import Column, Dataset, Datasets, build_datasets, make_columns, split_items
from .pictures import PictureLoader, plan_training, plan_validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data_block import DataBlock

__all__ = ["describe_value", "summarise"]

_TRIED = 50  # pictures, to find some that can be read
_Result = TypeVar("_Result")
_NAME_CHARS = 34
_TEXT_CHARS = 90


class _Stopped(Exception):
    """A step failed and was told."""


def summarise(
    block: DataBlock, source: Any, *, bs: int, show_batch: bool, settings: Settings | None = None
) -> Figure | None:
    """DataBlock.summary."""
    try:
        datasets, limits = _tell_items(block, source, load_settings() if settings is None else settings)
        shown = _find_readable(datasets.train, bs)
        _tell_item(block, datasets.train, shown[0], limits)
        _tell_batch(block, datasets.train, shown, limits)
    except _Stopped:
        return None
    if not show_batch:
        return None
    return block.dataloaders(source, bs=bs, settings=settings).show_batch(max_n=bs)


def describe_value(value: Any) -> str:
    """Type, shape and range of what stands between two steps."""
    if isinstance(value, Image.Image):
        low, high = _range(np.asarray(value))
        return f"picture, {value.width} x {value.height} pixels, {value.mode}, {low} to {high}"
    if hasattr(value, "detach"):  # a tensor, without importing torch here
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        shape = f" {value.shape}" if value.shape else ""
        low, high = _range(value)
        return f"{value.dtype}{shape}, {low} to {high}" if shape else f"{value.dtype} {value}"
    text = f"path {value}" if isinstance(value, Path) else f"{type(value).__name__} {value!r}"
    return text if len(text) <= _TEXT_CHARS else text[:_TEXT_CHARS] + "..."


def _range(values: Any) -> tuple[str, str]:
    if not values.size or values.dtype.kind not in "fiub":
        return "?", "?"
    ends = values.min(), values.max()
    low, high = (f"{end:.3g}" if values.dtype.kind == "f" else str(int(end)) for end in ends)
    return low, high


def _say(name: str, told: str) -> None:
    print(f"  {name:<{_NAME_CHARS}} {told}")  # noqa: T201 - what the call is for


def _head(line: str) -> None:
    print(f"\n{line}")  # noqa: T201


def _step(
    name: str, on: str, work: Callable[[], _Result], *, show: Callable[[_Result], str] = describe_value
) -> _Result:
    """Do it and tell what came out; a failure is told with its cause and ends the walk."""
    try:
        result = work()
    except Exception as exc:  # whatever a user's function raises is what this is to show
        _say(name, "FAILED")
        _tell_failure(on, exc)
        raise _Stopped from None
    _say(name, show(result))
    return result


def _tell_failure(on: str, exc: Exception) -> None:
    cause = exc.__cause__
    told = exc.message if isinstance(exc, DrivetrainError) else f"{type(exc).__name__}: {exc}"
    print(f"\n    on    {on}\n    why   {told}")  # noqa: T201
    shown = cause if cause is not None else exc
    frames = traceback.extract_tb(shown.__traceback__)
    if frames and not isinstance(shown, DrivetrainError):
        installed = (*map(sysconfig.get_path, ("purelib", "platlib", "stdlib")), str(Path(__file__).parents[1]))
        own = [frame for frame in frames if not frame.filename.startswith(installed)]
        last = (own or frames)[-1]  # the user's own line, not that of the library it called
        print(f"    from  {last.filename}, line {last.lineno}")  # noqa: T201


def _tell_items(block: DataBlock, source: Any, rules: Settings) -> tuple[Datasets, DecodeLimits]:
    _head("Items")
    limits = DecodeLimits(max_bytes=rules.image_max_bytes, max_pixels=rules.image_max_pixels)
    where = f"the source, {describe_value(source)}" if not hasattr(source, "columns") else "the frame"
    getter = "source" if block.get_items is None else f"get_items={name_of(block.get_items)}"
    found = _step(getter, where, lambda: block.find_items(source), show=lambda found: f"{len(found):,} items")
    items = list_items(found)
    splitter = f"splitter={name_of(block.splitter)}"
    sides = _step(splitter, f"{len(items):,} items", lambda: split_items(found, block.splitter), show=_tell_sides)
    columns = _step(
        "blocks",
        "the DataBlock",
        lambda: make_columns(block.blocks, block.fill_getters(items[0], source)),
        show=lambda made: ", ".join(map(repr, block.blocks)),
    )
    datasets = _step(
        "labels",
        "all items",
        lambda: build_datasets(items, columns, sides=sides, n_inp=block.n_inp, limits=limits),
        show=_tell_labels,
    )
    return datasets, limits


def _tell_sides(sides: tuple[list[int], list[int]]) -> str:
    return f"{len(sides[0]):,} to train on, {len(sides[1]):,} held out"


def _tell_labels(datasets: Datasets) -> str:
    if datasets.vocab is None:
        return f"{datasets.c} numbers"
    told = str(datasets.vocab)
    return f"{datasets.c}: {told if len(told) <= _TEXT_CHARS else told[: _TEXT_CHARS - 3] + '...'}"


def _find_readable(side: Dataset, count: int) -> list[int]:
    """The first `count` items that a loader would not leave out; where there are none, or another step fails, any."""
    found: list[int] = []
    for at in range(min(_TRIED, len(side))):
        try:
            side[at]
        except UnreadablePicture as exc:
            _say("left out", f"{side.name(at)}: {exc.reason}")
            continue
        except Exception:  # a user's function at work: it will be told where its step is
            break
        found.append(at)
        if len(found) == count:
            return found
    return found or list(range(min(max(1, count), len(side))))


def _tell_item(block: DataBlock, side: Dataset, at: int, limits: DecodeLimits) -> None:
    item, name = side.items[at], side.name(at)
    _head(f"One item of training: {describe_value(item)}")
    for column in side.columns:
        value = _step(_name_getter(column), name, partial(column.getter, item))
        for tfm in column.tfms:
            if not column.is_picture:
                value = _step(f"type transform {name_of(tfm)}", name, partial(tfm, value))
        if column.is_picture or isinstance(value, Image.Image):
            _tell_picture(block, value, name, limits)
        elif column.encoder is not None:
            _tell_number(column, value, name)


def _name_getter(column: Column) -> str:
    called = name_of(column.getter)
    return f"{column.role}: the item itself" if called == "_same" else f"{column.role}={called}"


def _tell_picture(block: DataBlock, source: Any, name: str, limits: DecodeLimits) -> None:
    rng = np.random.default_rng(0)
    opened = PictureLoader(plan_validation(()), limits=limits)
    image = _step("open", name, partial(opened.open, source, rng, name=name))
    for tfm in block.item_tfms:
        one = PictureLoader(plan_training([tfm]), limits=limits)
        image = _step(f"item transform {name_of(tfm)}", name, partial(one.open, image, rng, name=name))


def _tell_number(column: Column, value: Any, name: str) -> None:
    encoder = column.encoder
    assert encoder is not None
    number = _step(f"type transform {name_of(encoder)}", name, partial(encoder, value, where=f"label of {name}"))
    _say("  read back", encoder.decode(number))


def _tell_batch(block: DataBlock, side: Dataset, shown: Sequence[int], limits: DecodeLimits) -> None:
    from .collate import BatchBuffers, collate_pictures, collate_values, scale_pixels  # torch
    from .data_loaders import order_batch_tfms

    count, buffers = len(shown), BatchBuffers()
    _head(f"A batch of {count}")
    names = [side.name(at) for at in shown]
    loader = PictureLoader(plan_training(block.item_tfms), limits=limits)
    for number, column in enumerate(side.columns):
        values = [side.value(at, number) for at in shown]
        if not (column.is_picture or isinstance(values[0], Image.Image)):
            _step(f"collate {column.role}", f"{count} items", partial(collate_values, values, names, column.role))
            continue
        load = partial(_load_all, loader, values, names)
        pixels = _step("item transforms", f"{count} pictures", load, show=_tell_all)
        batch = _step("collate", f"{count} pictures", partial(collate_pictures, pixels, names, buffers=buffers))
        x = _step("to floats", "the batch", partial(scale_pixels, batch, buffers=buffers))
        for tfm in order_batch_tfms(block.batch_tfms):
            x = _step(f"batch transform {name_of(tfm)}", "the batch", partial(_run_on_batch, tfm, x))


def _run_on_batch(tfm: Any, x: Any) -> Any:
    import torch

    return tfm(x, torch.Generator().manual_seed(0)) if hasattr(tfm, "on_valid") else tfm(x)


def _load_all(loader: PictureLoader, sources: Sequence[Any], names: Sequence[str]) -> list[Any]:
    return [
        loader.load(source, np.random.default_rng(at), name=name)
        for at, (source, name) in enumerate(zip(sources, names, strict=True))
    ]


def _tell_all(pixels: list[Any]) -> str:
    sizes = {f"{each.shape[2]} x {each.shape[1]}" for each in pixels}
    return f"{len(pixels)} pictures, {', '.join(sorted(sizes))} pixels"
