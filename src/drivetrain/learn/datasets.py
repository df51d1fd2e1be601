"""Items on their sides, with what their getters say and their labels as numbers; pictures are opened when asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.data.rows import is_frame, is_row, list_items
from drivetrain.data.splitters import Sides
from drivetrain.errors import DrivetrainError, InvalidConfig, InvalidInput
from drivetrain.imaging.decode import DecodeLimits

from .blocks import Encoder, OpenPicture, TransformBlock, name_of
from .pictures import PictureLoader, is_picture, plan_validation

__all__ = [
    "Column",
    "Dataset",
    "Datasets",
    "build_datasets",
    "check_pictures",
    "make_columns",
    "split_items",
    "tell_item",
]

Splitter = Callable[[Any], Any]
_AT_LEAST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Column:
    """One part of every item: where it is read from, and what it becomes."""

    role: str  # the argument it comes from: get_x, get_y, getters[0]
    getter: Callable[[Any], Any]
    tfms: tuple[Callable[[Any], Any], ...]
    encoder: Encoder | None
    is_picture: bool
    names_items: bool = False  # what its getter gives is a path, by which a person knows the item

    def read(self, item: Any, name: str) -> Any:
        """What the getter and the type transforms give, before the encoder. Raises InvalidInput naming the item."""
        value = _call(self.getter, item, f"{self.role} on {name}")
        for tfm in self.tfms:
            value = _call(tfm, value, f"type transform {name_of(tfm)} on {name}")
        return value

    def encode(self, value: Any, name: str) -> Any:
        """The value as what is stacked into a batch."""
        return value if self.encoder is None else self.encoder(value, where=f"label of {name}")


class Dataset:
    """The items of one side; `dataset[i]` is the picture as it lies on disk, turned upright, and its label's number."""

    def __init__(self, items: Sequence[Any], columns: Sequence[Column], *, n_inp: int, limits: DecodeLimits) -> None:
        self.items = list(items)
        self.columns = tuple(columns)
        self.n_inp = n_inp
        self.limits = limits
        self._names: dict[int, str] = {}
        self._numbers: dict[int, list[Any]] = {}  # column -> number of each item

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (self[at] for at in range(len(self)))

    def __getitem__(self, at: int) -> tuple[Any, ...]:
        if not -len(self) <= at < len(self):
            raise IndexError(f"item {at} of {len(self)}")
        at %= len(self)
        opened = PictureLoader(plan_validation(()), limits=self.limits)
        rng = np.random.default_rng(0)  # nothing is drawn
        values = [self.value(at, number) for number in range(len(self.columns))]
        return tuple(
            opened.open(value, rng, name=self.name(at))
            if self.columns[number].is_picture or isinstance(value, Image.Image)
            else value
            for number, value in enumerate(values)
        )

    def __repr__(self) -> str:
        return f"<{len(self):,} items, such as {self.name(0) if self.items else 'none'}>"

    def name(self, at: int) -> str:
        """How the item is called in messages."""
        if at not in self._names:
            self._names[at] = tell_item(self.items[at], at, self.columns)
        return self._names[at]

    def value(self, at: int, column: int) -> Any:
        """A part of an item: a picture not opened yet, or a label's number."""
        if column in self._numbers:
            return self._numbers[column][at]
        which = self.columns[column]
        return which.encode(which.read(self.items[at], self.name(at)), self.name(at))

    def encode_labels(self, column: int, values: Sequence[Any]) -> None:
        """Turn all labels of a column into numbers now. Raises InvalidInput naming the first that has none."""
        which = self.columns[column]
        self._numbers[column] = [which.encode(value, self.name(at)) for at, value in enumerate(values)]

    def decode(self, numbers: Sequence[Any]) -> str:
        """The labels behind one item's targets, for a person."""
        told = []
        for column, number in zip(self.columns[self.n_inp :], numbers, strict=True):
            plain = number.tolist() if hasattr(number, "tolist") else number
            told.append(str(plain) if column.encoder is None else column.encoder.decode(plain))
        return ", ".join(told)


class Datasets:
    """The two sides: `.train` and `.valid`, also `[0]` and `[1]`."""

    def __init__(self, train: Dataset, valid: Dataset) -> None:
        self.train = train
        self.valid = valid
        self.n_inp = train.n_inp

    def __len__(self) -> int:
        return len(self.train) + len(self.valid)

    def __getitem__(self, side: int) -> Dataset:
        return (self.train, self.valid)[side]

    def __repr__(self) -> str:
        return f"<{len(self.train):,} items to train on, {len(self.valid):,} held out; labels: {self.vocab or self.c}>"

    @property
    def vocab(self) -> Any:
        """The labels by number; a tuple of such where there are several targets, None where labels are numbers."""
        vocabs = [encoder.vocab for encoder in self._encoders]
        return vocabs[0] if len(vocabs) == 1 else tuple(vocabs) or None

    @property
    def c(self) -> Any:
        """How many numbers a model must answer with; a tuple where there are several targets."""
        counts = [encoder.c for encoder in self._encoders]
        return counts[0] if len(counts) == 1 else tuple(counts) or 0

    @property
    def _encoders(self) -> list[Encoder]:
        columns = self.train.columns[self.n_inp :]
        return [column.encoder for column in columns if column.encoder is not None]


def tell_item(item: Any, at: int, columns: Sequence[Column] = ()) -> str:
    """A path as it is; of anything else the path of its picture, if it has one, or its place."""
    if isinstance(item, str | Path):
        return str(item)
    for column in columns:
        if column.names_items:
            with contextlib.suppress(Exception):  # it will be told where it is used
                return str(column.getter(item))
    told = f" ({str(item)[:_AT_LEAST_SHOWN]})" if is_row(item) or isinstance(item, tuple | int) else ""
    return f"item {at}{told}"


def make_columns(blocks: Sequence[TransformBlock], getters: Sequence[tuple[str, Callable[[Any], Any]]]) -> list[Column]:
    """A column for each block. Raises InvalidConfig where an Encoder is not the last of its block."""
    columns = []
    for block, (role, getter) in zip(blocks, getters, strict=True):
        tfms: list[Any] = list(block.type_tfms)
        encoder: Encoder | None = tfms.pop() if tfms and isinstance(tfms[-1], Encoder) else None
        if any(isinstance(tfm, Encoder) for tfm in tfms):
            raise InvalidConfig(repr(block), got="an encoder before other type transforms", want="it as the last")
        columns.append(
            Column(
                role=role,
                getter=getter,
                tfms=tuple(tfms),
                encoder=encoder,
                is_picture=any(isinstance(tfm, OpenPicture) for tfm in tfms),
            )
        )
    return columns


def build_datasets(
    items: Sequence[Any], columns: Sequence[Column], *, sides: Sides, n_inp: int, limits: DecodeLimits
) -> Datasets:
    """Read all labels, fit the encoders to those of the training side, and turn all into numbers.

    Raises InvalidInput where a getter fails or a label has no number; each names the item.
    """
    columns = [replace(column, names_items=_gives_path(column, items[0])) for column in columns]
    labels: dict[int, list[Any]] = {}
    for number, column in enumerate(columns):
        if column.encoder is None:
            continue
        names = [tell_item(item, at, columns) for at, item in enumerate(items)]
        labels[number] = values = [column.read(item, name) for item, name in zip(items, names, strict=True)]
        fitted = column.encoder.fit([(f"label of {names[at]}", values[at]) for at in sides[0]])
        columns[number] = replace(column, encoder=fitted)
    made = []
    for indices in sides:
        side = Dataset([items[at] for at in indices], columns, n_inp=n_inp, limits=limits)
        for number, values in labels.items():
            side.encode_labels(number, [values[at] for at in indices])
        made.append(side)
    return Datasets(*made)


def split_items(found: Any, splitter: Splitter) -> Sides:
    """Which items train and which are held out; a splitter of a pandas frame is given the frame, as with fastai.

    Its rows are numbered from 0: `frame.index[frame.is_valid]` are the positions even where the frame was shuffled.
    Raises InvalidInput for an empty side or an item on both.
    """
    name = f"splitter {name_of(splitter)}"
    items = list_items(found)
    try:
        train, valid = splitter(found.reset_index(drop=True) if is_frame(found) else found)
    except DrivetrainError:
        raise
    except Exception as exc:
        raise InvalidInput(
            name,
            got=f"{type(exc).__name__}: {exc}",
            want="a function of all items that gives two lists of positions: (training, held out)",
        ) from exc
    sides = [_positions(side, len(items), name) for side in (train, valid)]
    counts = f"{len(sides[0]):,} items to train on and {len(sides[1]):,} held out, of {len(items):,}"
    if not sides[0] or not sides[1]:
        raise InvalidInput(
            name,
            got=counts,
            want="at least one item on each side",
            hint=f"It was given items such as {str(items[0])[: _AT_LEAST_SHOWN * 2]}.",
        )
    both = set(sides[0]) & set(sides[1])
    if both:
        at = min(both)
        raise InvalidInput(
            name,
            got=f"{len(both):,} of {len(items):,} items on both sides, such as {tell_item(items[at], at)}",
            want="each item on one side: what was trained on cannot tell how good the model is",
        )
    return sides[0], sides[1]


def _gives_path(column: Column, item: Any) -> bool:
    """Asked of one item: a getter that opens pictures must not open all of them for their names."""
    if isinstance(item, str | Path):  # its own name
        return False
    with contextlib.suppress(Exception):  # it will be told where it is used
        return column.is_picture and isinstance(column.getter(item), str | Path)
    return False


def _positions(side: Any, count: int, name: str) -> list[int]:
    array = np.asarray(side)
    if array.dtype == bool and array.shape == (count,):
        array = np.flatnonzero(array)
    if array.size == 0:
        return []
    if array.ndim != 1 or array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= count:
        raise InvalidInput(
            name, got=f"positions such as {str(side)[:_AT_LEAST_SHOWN]}", want=f"whole numbers from 0 to {count - 1}"
        )
    return [int(at) for at in array]


def _call(function: Callable[[Any], Any], value: Any, where: str) -> Any:
    try:
        return function(value)
    except DrivetrainError:
        raise
    except Exception as exc:  # a user's function at work: told with its name and item, cause kept
        hint = "get_x and get_y are given one item." if where.startswith("get_") else ""
        raise InvalidInput(
            where, got=f"{type(exc).__name__}: {exc}", want="a function that takes this value", hint=hint
        ) from exc


def check_pictures(dataset: Dataset) -> None:
    """Raise InvalidInput unless the first item's pictures can be pictures, by their type."""
    for number, column in enumerate(dataset.columns):
        if not column.is_picture:
            continue
        source = dataset.value(0, number)
        if isinstance(source, Image.Image):
            with contextlib.suppress(OSError):  # a damaged one is told when its turn comes
                source.load()  # and lets go of its file
        if not is_picture(source):
            raise InvalidInput(
                f"{column.role} on {dataset.name(0)}",
                got=f"a {type(source).__name__}: {str(source)[:_AT_LEAST_SHOWN]}",
                want="a path, bytes, a PIL picture or a uint8 array",
                hint="get_x says which part of an item is the picture, such as ColReader('path').",
            )
