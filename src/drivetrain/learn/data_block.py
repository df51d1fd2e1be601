"""DataBlock: the four things a model must be told about its data, as a plan that can be used on any source.

What kind of data (`blocks`), how to get the items (`get_items`), how to label one (`get_y`), and which are held out
(`splitter`). The names are fastai's. Nothing is read before a source is given, and torch is loaded by `dataloaders`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.data.rows import is_frame, is_row, list_items, read_rows
from drivetrain.data.splitters import RandomSplitter
from drivetrain.data.transforms import ItemTransform
from drivetrain.errors import DrivetrainError, InvalidConfig, InvalidInput
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.settings import Settings, load_settings

from .blocks import CategoryBlock, ImageBlock, TransformBlock, as_list, name_of
from .datasets import Datasets, build_datasets, check_pictures, make_columns, split_items
from .edited_items import ItemEdits, read_item_edits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data_loaders import DataLoaders

__all__ = ["DataBlock"]

_DEFAULT_SEED = 42  # of the split, where no splitter is given: the same items are held out in every run
_OURS = "drivetrain."
_Block = TransformBlock | Callable[[], TransformBlock]
_Getter = Callable[[Any], Any]


class DataBlock:
    """A plan of how to read data; any callable will do as getter, splitter or transform, a lambda too.

    `blocks` are inputs first, then targets: all but the last are inputs unless `n_inp` says how many. Each reads its
    part of an item by `get_x` and `get_y` (a list of functions where there are several of a kind), or by `getters`, one
    for each block; a picture without a getter is the item itself. Without `blocks`, an input and a target stay what the
    getters give: `.datasets(...)` shows whether these are right. Without `get_items`, the source is a list of items, a
    pandas frame (an item is a row) or a CSV file. Without `splitter`, a random fifth is held out, the same in every
    run. `item_tfms` see one picture, `batch_tfms` a whole batch. Raises InvalidConfig.
    """

    def __init__(
        self,
        blocks: _Block | Sequence[_Block] | None = None,
        getters: Sequence[_Getter] | None = None,
        n_inp: int | None = None,
        item_tfms: Any = None,
        batch_tfms: Any = None,
        get_items: Callable[[Any], Any] | None = None,
        splitter: Callable[[Any], Any] | None = None,
        get_y: _Getter | Sequence[_Getter] | None = None,
        get_x: _Getter | Sequence[_Getter] | None = None,
    ) -> None:
        given = (TransformBlock, TransformBlock) if blocks is None else blocks
        self.blocks = [_make_block(block) for block in as_list(given)]
        if not self.blocks:
            raise InvalidConfig(
                "DataBlock(blocks)", got="none", want="what goes in and what comes out",
                hint="For one label a picture: blocks=(ImageBlock, CategoryBlock).",
            )  # fmt: skip
        self.n_inp = max(1, len(self.blocks) - 1) if n_inp is None else n_inp
        if not 1 <= self.n_inp <= len(self.blocks):
            raise InvalidConfig("DataBlock(n_inp)", got=n_inp, want=f"1 to {len(self.blocks)}, the number of blocks")
        self.get_items = get_items
        self.splitter = RandomSplitter(seed=_DEFAULT_SEED) if splitter is None else splitter
        self.getters = self._name_getters(getters, get_x, get_y)
        for role, function in [("get_items", get_items), ("splitter", self.splitter), *self.getters]:
            if function is not None and not callable(function):
                raise InvalidConfig(f"DataBlock({role})", got=function, want="a function")
            if isinstance(function, type) and function.__module__.startswith(_OURS):  # `str` and its like are functions
                hint = f"Call it: {function.__name__}(...)."
                raise InvalidConfig(f"DataBlock({role})", got=function, want="a function", hint=hint)
        self.own_item_tfms = _check_tfms("item_tfms", item_tfms)
        self.own_batch_tfms = _check_tfms("batch_tfms", batch_tfms)

    @property
    def item_tfms(self) -> list[Any]:
        """What is done to one picture: the blocks' transforms, then this block's own."""
        return [tfm for block in self.blocks for tfm in block.item_tfms] + self.own_item_tfms

    @property
    def batch_tfms(self) -> list[Any]:
        """What is done to a batch: the blocks' transforms, then this block's own."""
        return [tfm for block in self.blocks for tfm in block.batch_tfms] + self.own_batch_tfms

    def __repr__(self) -> str:
        told = [repr(block) for block in self.blocks]
        told += [f"{role}={name_of(getter)}" for role, getter in self.getters if getter is not None]
        return f"DataBlock({', '.join(told)}, splitter={self.splitter!r})"

    def new(self, item_tfms: Any = None, batch_tfms: Any = None) -> DataBlock:
        """The same plan with other transforms; what is None stays as it is here, `[]` takes it away.

        This block is left as it was.
        """
        changed = object.__new__(type(self))
        changed.__dict__ |= self.__dict__
        if item_tfms is not None:
            changed.own_item_tfms = _check_tfms("item_tfms", item_tfms)
        if batch_tfms is not None:
            changed.own_batch_tfms = _check_tfms("batch_tfms", batch_tfms)
        return changed

    def datasets(self, source: Any, *, settings: Settings | None = None) -> Datasets:
        """The items of `source` on their two sides, labels read and turned into numbers, no picture opened yet.

        Raises InvalidInput, or what a getter or the splitter raises; each names the item.
        """
        found = self.find_items(source)
        items = list_items(found)
        rules = load_settings() if settings is None else settings
        limits = DecodeLimits(max_bytes=rules.image_max_bytes, max_pixels=rules.image_max_pixels)
        columns = make_columns(self.blocks, self.fill_getters(items[0], source))
        sides = split_items(found, self.splitter)
        datasets = build_datasets(items, columns, sides=sides, n_inp=self.n_inp, limits=limits)
        check_pictures(datasets.train)
        return datasets

    def dataloaders(
        self,
        source: Any,
        path: str | Path = ".",
        *,
        bs: int = 64,
        val_bs: int | None = None,
        num_workers: int | None = None,
        device: Any = None,
        seed: int = 42,
        shuffle: bool = True,
        drop_last: bool | None = None,
        settings: Settings | None = None,
    ) -> DataLoaders:
        """Batches of `source`: `bs` items each in training, `val_bs` (or as many) outside of it.

        `num_workers` threads read and decode (None: as many as the setting `threads`, and one more; 0: none beside the
        caller's). `device` None is the GPU where there is one, else the CPU. `seed` fixes order and draws, whatever
        num_workers is; `shuffle` concerns training, as does `drop_last`, which leaves out a last batch that is not
        whole (None: unless it is the only one). `path` is where a learner will keep its files. Raises as `datasets`.
        """
        from .data_loaders import build_loaders  # torch

        rules = load_settings() if settings is None else settings
        loaders = build_loaders(
            self.datasets(source, settings=rules),
            item_tfms=self.item_tfms,
            batch_tfms=self.batch_tfms,
            path=path,
            bs=bs,
            val_bs=val_bs,
            num_workers=num_workers,
            device=device,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            settings=rules,
        )
        loaders.block = self  # a model's record says what it was made by
        return loaders

    def summary(
        self, source: Any, bs: int = 4, show_batch: bool = False, *, settings: Settings | None = None
    ) -> Figure | None:
        """Print what happens to one item at every step, and to `bs` of them as a batch; at a step that fails, why.

        Raises nothing for the data's sake: what fails is told, with the item, the cause and what to do. With
        `show_batch`, the batch's figure is given back.
        """
        from .summary import summarise

        return summarise(self, source, bs=bs, show_batch=show_batch, settings=settings)

    def find_items(self, source: Any) -> Any:
        """The items of `source`: a list, or the frame whose rows they are. Raises InvalidInput where there are none."""
        if self.get_items is not None:
            name = f"get_items={name_of(self.get_items)}"
            try:
                found = self.get_items(source)
                items = found if is_frame(found) else list_items(found)
            except DrivetrainError:
                raise
            except Exception as exc:
                want = "a function of the source that gives a list of items"
                raise InvalidInput(name, got=f"{type(exc).__name__}: {exc}", want=want) from exc
        else:
            name = "source"
            items = _items_of(source)
        if not len(items):
            where = f" in {source}" if isinstance(source, str | Path) else ""
            raise InvalidInput(
                name, got=f"no items{where}", want="at least two", hint="Is it the right folder?" * bool(where)
            )
        return self._read_edits(source).keep(items)

    def fill_getters(self, item: Any, source: Any = None) -> list[tuple[str, _Getter]]:
        """A getter for each block; labels as the journal in the folder `source` says, where it does.

        Raises InvalidConfig where one is missing that the item needs.
        """
        edits = self._read_edits(source)
        filled: list[tuple[str, _Getter]] = []
        for number, (block, (role, getter)) in enumerate(zip(self.blocks, self.getters, strict=True)):
            if getter is not None:
                filled.append((role, edits.relabel(getter) if isinstance(block, CategoryBlock) else getter))
                continue
            is_target = number >= self.n_inp and bool(block.type_tfms)
            if is_target or (isinstance(block, ImageBlock) and is_row(item)):
                part = "label" if is_target else "picture"
                example = "get_y=parent_label" if is_target and not is_row(item) else f"{role}=ColReader('...')"
                raise InvalidConfig(
                    f"DataBlock({role})",
                    got="none",
                    want=f"a function that reads the {part} of an item such as {str(item)[:100]}",
                    hint=f"For example {example}.",
                )
            filled.append((role, _same))
        return filled

    def _read_edits(self, source: Any) -> ItemEdits:
        """What `drivetrain check --quarantine` and others have written beside the pictures."""
        return read_item_edits(source, self.getters[0][1])

    def _name_getters(
        self, getters: Sequence[_Getter] | None, get_x: Any, get_y: Any
    ) -> list[tuple[str, _Getter | None]]:
        count, n_targets = len(self.blocks), len(self.blocks) - self.n_inp
        if getters is not None:
            if get_x is not None or get_y is not None:
                raise InvalidConfig("DataBlock(getters)", got="getters beside get_x or get_y", want="one or the other")
            if len(getters) != count:
                raise InvalidConfig("DataBlock(getters)", got=f"{len(getters)} functions", want=f"{count}, one a block")
            return [(f"getters[{at}]", getter) for at, getter in enumerate(getters)]
        named: list[tuple[str, _Getter | None]] = []
        for role, given, wanted in (("get_x", get_x, self.n_inp), ("get_y", get_y, n_targets)):
            functions: list[Any] = as_list(given) or [None] * wanted
            if len(functions) != wanted:
                raise InvalidConfig(
                    f"DataBlock({role})",
                    got=f"{len(functions)} functions",
                    want=f"{wanted}: of {count} blocks, {self.n_inp} are inputs",
                    hint="n_inp says how many of the blocks are inputs.",
                )
            named += [(role if wanted == 1 else f"{role}[{at}]", one) for at, one in enumerate(functions)]
        return named


def _make_block(block: Any) -> TransformBlock:
    made = block() if callable(block) and not isinstance(block, TransformBlock) else block
    if not isinstance(made, TransformBlock):
        raise InvalidConfig(
            "DataBlock(blocks)",
            got=block,
            want="blocks such as ImageBlock or CategoryBlock(vocab=[...]), or a TransformBlock",
        )
    return made


def _check_tfms(name: str, given: Any) -> list[Any]:
    tfms = as_list(given)
    for tfm in tfms:
        if not callable(tfm) or isinstance(tfm, type):
            hint = f"Call it: {tfm.__name__}(224)." if isinstance(tfm, type) else ""
            raise InvalidConfig(
                f"DataBlock({name})", got=tfm, want="transforms, such as Resize(224), or functions", hint=hint
            )
        other = "batch_tfms" if hasattr(tfm, "on_valid") else "item_tfms" if isinstance(tfm, ItemTransform) else name
        if other != name:
            one = "one picture" if name == "item_tfms" else "a whole batch"
            raise InvalidConfig(
                f"DataBlock({name})", got=tfm, want=f"transforms of {one}", hint=f"This one belongs into {other}."
            )
    return tfms


def _items_of(source: Any) -> Any:
    if is_frame(source):
        return source
    if isinstance(source, str | Path):
        if Path(source).is_file() and Path(source).suffix.lower() == ".csv":
            return list(read_rows(source))
        raise InvalidConfig(
            "DataBlock(get_items)",
            got=f"none, with the source {str(source)!r}",
            want="a function that finds the items in it",
            hint="For example get_items=get_image_files, or get_items=read_rows for a CSV file.",
        )
    return list_items(source)


def _same(item: Any) -> Any:
    return item
