"""What kind of data: a block says how one part of an item, the picture or its label, becomes numbers.

`blocks=(ImageBlock, CategoryBlock)` reads: a picture goes in, one of several categories comes out. A block of your own
is a `TransformBlock` with functions; one that must first see the training labels (a vocabulary, a count) holds an
`Encoder`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from drivetrain.errors import InvalidConfig, InvalidInput

__all__ = [
    "Categorize",
    "CategoryBlock",
    "Encoder",
    "ImageBlock",
    "MultiCategorize",
    "MultiCategoryBlock",
    "OpenPicture",
    "RegressionBlock",
    "ToFloat",
    "TransformBlock",
    "as_list",
]

Labelled = Sequence[tuple[str, object]]  # (whose label, label)
NA = "#na#"
_SHOWN = 8  # labels listed in an error


@runtime_checkable
class Encoder(Protocol):
    """A type transform that reads the training labels before it turns labels into numbers."""

    @property
    def vocab(self) -> tuple[Any, ...] | None:
        """The labels by number; None where labels are numbers themselves."""
        ...

    @property
    def c(self) -> int:
        """How many numbers a model must answer with."""
        ...

    def fit(self, labels: Labelled) -> Encoder:
        """The encoder for these training labels, each with the name of its item; this one stays as it is."""
        ...

    def __call__(self, label: Any, *, where: str = "label") -> Any:
        """The label as a number or an array; `where` names its item in errors."""
        ...

    def decode(self, number: Any) -> str:
        """What a person reads."""
        ...


class TransformBlock:
    """A part of an item: functions that bring it to its type, and transforms that this kind of data always needs.

    `type_tfms` run one after the other on what the getter gave; any callable will do, and an `Encoder` where the labels
    must be seen first. What they give is a picture (PIL), or numbers that can be stacked. `item_tfms` and `batch_tfms`
    come before those of the DataBlock.
    """

    def __init__(
        self,
        type_tfms: Callable[[Any], Any] | Iterable[Callable[[Any], Any]] | None = None,
        item_tfms: Any = None,
        batch_tfms: Any = None,
    ) -> None:
        self.type_tfms: tuple[Callable[[Any], Any], ...] = tuple(as_list(type_tfms))
        self.item_tfms: tuple[Any, ...] = tuple(as_list(item_tfms))
        self.batch_tfms: tuple[Any, ...] = tuple(as_list(batch_tfms))
        for tfm in self.type_tfms:
            if not callable(tfm):
                raise InvalidConfig(f"{type(self).__name__}(type_tfms)", got=tfm, want="functions of one value")

    def __repr__(self) -> str:
        if type(self) is not TransformBlock:
            return type(self).__name__
        return f"TransformBlock({', '.join(map(name_of, self.type_tfms))})"


class ImageBlock(TransformBlock):
    """A picture: a path, the bytes of a file, a PIL picture, or a uint8 array (height, width, 3)."""

    def __init__(self) -> None:
        super().__init__(type_tfms=[OpenPicture()])


class CategoryBlock(TransformBlock):
    """One label of several. The vocabulary is that of the training items, sorted; or `vocab`, in the order given.

    `sort=False` keeps the order in which the training items bring the labels. With `add_na`, number 0 is `#na#`, and
    that is what a label becomes that the vocabulary lacks; without, such a label is an error that names its item.
    """

    def __init__(self, vocab: Iterable[Any] | None = None, sort: bool = True, add_na: bool = False) -> None:
        super().__init__(type_tfms=[Categorize(_check_vocab(vocab, add_na), sort=sort, add_na=add_na)])


class MultiCategoryBlock(TransformBlock):
    """Any number of labels at once, none too: float32 zeros and ones, one for each label of the vocabulary.

    The getter gives a list of labels; with `encoded=True`, the zeros and ones themselves (`vocab` then names them).
    `add_na` and `vocab` as in CategoryBlock.
    """

    def __init__(self, encoded: bool = False, vocab: Iterable[Any] | None = None, add_na: bool = False) -> None:
        if encoded and vocab is None:
            raise InvalidConfig(
                "MultiCategoryBlock(encoded=True)", got="no vocab", want="vocab, the name of each column in order"
            )
        super().__init__(type_tfms=[MultiCategorize(_check_vocab(vocab, add_na), encoded=encoded, add_na=add_na)])


class RegressionBlock(TransformBlock):
    """A number, or `n_out` of them, as float32; None takes the count of the training items."""

    def __init__(self, n_out: int | None = None) -> None:
        if n_out is not None and (isinstance(n_out, bool) or n_out < 1):
            raise InvalidConfig("RegressionBlock(n_out)", got=n_out, want="a whole number of at least 1")
        super().__init__(type_tfms=[ToFloat(n_out)])


class OpenPicture:
    """Marks a part of an item as a picture; the loader opens it, as small as its transforms allow."""

    def __call__(self, source: Any) -> Any:
        return source


@dataclass(frozen=True)
class _OfVocabulary:
    """What encoders of labels have in common."""

    vocab: tuple[Any, ...] | None = None
    add_na: bool = field(default=False, kw_only=True)

    @property
    def c(self) -> int:
        return len(self.vocab or ())

    @cached_property
    def numbers(self) -> dict[Any, int]:
        """label -> number"""
        return {label: number for number, label in enumerate(self.vocab or ())}

    def look_up(self, label: Any, where: str) -> int:
        """The number of one label. Raises InvalidInput for one that the vocabulary lacks."""
        return _look_up(_plain(label, where), self.numbers, where, add_na=self.add_na)


@dataclass(frozen=True)
class Categorize(_OfVocabulary):
    """Label -> int64."""

    sort: bool = field(default=True, kw_only=True)

    def fit(self, labels: Labelled) -> Categorize:
        if self.vocab is not None:
            return self
        found = _find_vocab([_plain(label, where) for where, label in labels], sort=self.sort, add_na=self.add_na)
        return replace(self, vocab=found)

    def __call__(self, label: Any, *, where: str = "label") -> np.int64:
        return np.int64(self.look_up(label, where))

    def decode(self, number: Any) -> str:
        return str((self.vocab or ())[int(number)])


@dataclass(frozen=True)
class MultiCategorize(_OfVocabulary):
    """Labels -> float32 (c,) of zeros and ones."""

    encoded: bool = field(default=False, kw_only=True)

    def fit(self, labels: Labelled) -> MultiCategorize:
        if self.vocab is not None:
            return self
        each = [_plain(one, where) for where, given in labels for one in _check_labels(given, where)]
        return replace(self, vocab=_find_vocab(each, sort=True, add_na=self.add_na))

    def __call__(self, label: Any, *, where: str = "label") -> Any:
        vocab = self.vocab or ()
        if self.encoded:
            return _check_encoded(label, vocab, where)
        row = np.zeros(len(vocab), dtype=np.float32)
        for one in _check_labels(label, where):
            row[self.look_up(one, where)] = 1
        return row

    def decode(self, number: Any) -> str:
        return ";".join(str(label) for label, is_on in zip(self.vocab or (), number, strict=True) if is_on > 0.5)


@dataclass(frozen=True, slots=True)
class ToFloat:
    """A number -> float32; a list of them -> float32 (n_out,)."""

    n_out: int | None = None
    vocab: None = None

    @property
    def c(self) -> int:
        return self.n_out or 1

    def fit(self, labels: Labelled) -> ToFloat:
        if self.n_out is not None:
            return self
        where, first = labels[0]
        return ToFloat(max(1, _to_floats(first, where).size))

    def __call__(self, label: Any, *, where: str = "label") -> Any:
        row = _to_floats(label, where)
        if self.n_out is not None and row.size != self.n_out:
            raise InvalidInput(where, got=f"{row.size} numbers", want=f"{self.n_out}, as RegressionBlock says")
        return row

    def decode(self, number: Any) -> str:
        return ", ".join(f"{value:.4g}" for value in np.atleast_1d(np.asarray(number)))


def as_list(given: Any) -> list[Any]:
    """None -> [], one -> [it], lists and tuples flattened: `[*a, x]` and `[a, x]` mean the same."""
    if given is None:
        return []
    if isinstance(given, list | tuple):
        return [one for entry in given for one in as_list(entry)]
    return [given]


def name_of(tfm: object) -> str:
    """How a function or transform is called in messages."""
    name = getattr(tfm, "__name__", None)
    if name is None and hasattr(tfm, "func"):  # functools.partial
        name = f"partial({name_of(tfm.func)})"
    if name is None:
        name = type(tfm).__name__
    return "a lambda" if name == "<lambda>" else str(name)


def _find_vocab(labels: Iterable[Any], *, sort: bool, add_na: bool) -> tuple[Any, ...]:
    """Each label once: sorted, or as they come."""
    found = list(dict.fromkeys(labels))
    if not found:
        raise InvalidInput("labels", got="no label on any training item", want="a label at least")
    if sort:
        try:
            found.sort()
        except TypeError:
            kinds = sorted({type(label).__name__ for label in found})
            raise InvalidInput(
                "labels",
                got=f"labels of types {', '.join(kinds)}",
                want="labels of one type",
                hint="Turn them into text in get_y, or give the block vocab=[...].",
            ) from None
    return (NA, *found) if add_na else tuple(found)


def _check_vocab(vocab: Iterable[Any] | None, add_na: bool) -> tuple[Any, ...] | None:
    if vocab is None:
        return None
    labels = tuple(vocab)
    if not labels or isinstance(vocab, str) or len(set(labels)) != len(labels):
        raise InvalidConfig("vocab", got=vocab, want="a list of labels, each once")
    return (NA, *labels) if add_na and NA not in labels else labels


def _plain(label: Any, where: str) -> Any:
    """A label as Python has it, so that what comes from numpy or a frame is equal to what a person types."""
    if isinstance(label, np.generic):
        label = label.item()
    if label is None or (isinstance(label, float) and math.isnan(label)):
        raise InvalidInput(where, got="no label", want="a label", hint="Leave the item out, or give it one.")
    try:
        hash(label)
    except TypeError:
        raise InvalidInput(
            where,
            got=f"a {type(label).__name__}: {label!r}",
            want="one label, a text or a number",
            hint="For several labels at once, take MultiCategoryBlock.",
        ) from None
    return label


def _look_up(label: Any, known: Mapping[Any, int], where: str, *, add_na: bool) -> int:
    if label in known:
        return known[label]
    if add_na:
        return known[NA]
    shown = ", ".join(map(str, list(known)[:_SHOWN])) + (", ..." if len(known) > _SHOWN else "")
    raise InvalidInput(
        where,
        got=f"the label {label!r}, which no training item has",
        want=f"one of {shown}",
        hint="Put one of its kind into training, or give the block vocab=[...] or add_na=True.",
    )


def _check_labels(given: Any, where: str) -> Iterable[Any]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidInput(
            where,
            got=given,
            want="a list of labels",
            hint="Of a text, make a list: ColReader('labels', label_delim=' '), or lambda r: r['labels'].split(';').",
        )
    return given


def _check_encoded(label: Any, vocab: Sequence[Any], where: str) -> Any:
    row = np.asarray(label)
    if row.shape != (len(vocab),) or not np.isin(row, (0, 1)).all():
        raise InvalidInput(where, got=label, want=f"{len(vocab)} zeros and ones, one for each of vocab")
    return row.astype(np.float32)


def _to_floats(label: Any, where: str) -> Any:
    try:
        row = np.asarray(label, dtype=np.float32)  # "12.5" too: all that a CSV holds is text
    except (TypeError, ValueError):
        row = None
    if row is None or row.ndim > 1 or row.size == 0 or not np.isfinite(row).all():
        raise InvalidInput(where, got=label, want="a finite number, or a list of them")
    return row
