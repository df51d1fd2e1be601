"""Batches: pictures decoded on threads while the model computes, in an order that seed and epoch fix."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra, UnreadablePicture
from drivetrain.runtime.parallel import map_in_order

from .collate import BatchBuffers, collate_pictures, collate_values, scale_pixels
from .datasets import Dataset, Datasets
from .pictures import PictureLoader

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Batch", "DataLoader", "LoaderConfig"]

Batch = tuple[Tensor, ...]  # inputs, then targets
_Walk = Generator[Batch, None, None]
_Draw = tuple[int, int]  # which item, and which draw of it: always the first, but where one is shown many times

_EPOCH, _LOOK = 0, 1  # streams of draws: looking at pictures leaves the training's draws as they are
_CHUNK = 4  # pictures a thread takes at once: each hand-over wakes the caller, who then wants the GIL
_NAMED = 5  # unreadable pictures that get a warning of their own
_BATCHES_AHEAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How a side is walked over."""

    bs: int = 64  # items a batch
    seed: int = 42
    threads: int = 1  # that read and decode; 0: the caller's own
    shuffle: bool = False
    drop_last: bool = False  # leave out a last batch smaller than bs
    is_training: bool = False  # batch transforms that are for training only run
    leaves_out_unreadable: bool = True  # else the first unreadable picture ends it

    def __post_init__(self) -> None:
        for name, least in (("bs", 1), ("seed", 0), ("threads", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                told = {"threads": "num_workers"}.get(name, name)
                raise InvalidConfig(told, got=value, want=f"a whole number of at least {least}")


@dataclass(frozen=True, slots=True)
class _Loaded:
    at: int
    values: tuple[Any, ...]
    pictures: tuple[int, ...] = ()  # which of them are pixels, (3, h, w)
    unreadable: UnreadablePicture | None = None


class DataLoader:
    """Batches of one side: tuples of tensors, pictures float32 (n, 3, h, w) in [0, 1] before normalisation.

    Iterating walks over one epoch. Which picture comes when, and what is drawn for it, depends on the seed, the epoch
    and its place among the items alone. A picture that cannot be read is left out, with a warning that names it, and
    the next one takes its place; `left_out` has them all.
    """

    def __init__(
        self,
        dataset: Dataset,
        pictures: PictureLoader,
        *,
        batch_tfms: Sequence[Any] = (),
        device: torch.device,
        config: LoaderConfig,
    ) -> None:
        self.dataset = dataset
        self.pictures = pictures
        self.batch_tfms: list[Any] = list(batch_tfms)
        self.device = device
        self.config = config
        self.epoch = 0  # of the next iteration
        self.left_out: dict[int, str] = {}  # item -> why it cannot be read
        self._looks = 0

    @property
    def bs(self) -> int:
        """Items a batch."""
        return self.config.bs

    @property
    def items(self) -> list[Any]:
        """The items that come, in the dataset's order: without what was left out."""
        return [item for at, item in enumerate(self.dataset.items) if at not in self.left_out]

    @property
    def vocab(self) -> Any:
        """The labels by number."""
        return Datasets(self.dataset, self.dataset).vocab

    def __len__(self) -> int:
        return self.count_batches()

    def count_batches(self, *, shares: int = 1) -> int:
        """How many batches an epoch has, for each of so many processes that share its items."""
        n = (len(self.dataset) - len(self.left_out)) // shares
        return n // self.bs if self.config.drop_last else -(-n // self.bs)

    def __repr__(self) -> str:
        left = f", {len(self.left_out):,} left out" if self.left_out else ""
        return f"<{len(self):,} batches of {self.bs} from {len(self.dataset):,} items{left}, on {self.device}>"

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        self.epoch += 1
        return self._walk(_EPOCH, epoch, self._order(_EPOCH, epoch), bs=self.bs, drop_last=self.config.drop_last)

    def batches(self, epoch: int, *, skip: int = 0, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """The batches of one epoch from number `skip` on: those before it are neither read nor drawn for.

        `share` (i, n) takes every n-th item from the i-th on; in training the same number for each of n processes.
        The epoch that plain iteration comes to next stays what it is.
        """
        draws = self._order(_EPOCH, epoch, share=share)[skip * self.bs :]
        numbers = count(skip * share[1] + share[0], share[1])
        return self._walk(_EPOCH, epoch, draws, bs=self.bs, drop_last=self.config.drop_last, numbers=numbers)

    def names_of(self, epoch: int, number: int, *, share: tuple[int, int] = (0, 1)) -> list[str]:
        """The items in batch `number` of an epoch that was walked to it, by name."""
        draws = self._order(_EPOCH, epoch, share=share)[number * self.bs : (number + 1) * self.bs]
        return [self.dataset.name(at) for at, _ in draws]

    def one_batch(self) -> Batch:
        """A batch to look at: another each time, and no step towards the next epoch."""
        batch = self._look(None, bs=self.bs, drop_last=self.config.drop_last)
        if batch is None:
            raise InvalidInput(
                "one_batch",
                got=f"{len(self.dataset):,} items, which make no whole batch of {self.bs}",
                want="one batch",
                hint="Give a smaller bs, or drop_last=False.",
            )
        return batch

    def show_batch(
        self,
        b: Batch | None = None,
        max_n: int = 9,
        nrows: int | None = None,
        ncols: int | None = None,
        figsize: tuple[float, float] | None = None,
        unique: bool = False,
    ) -> Figure:
        """A figure of pictures with their labels: of `b`, or of items; a notebook shows what is returned.

        At most `max_n`, and no more than there are places where `nrows` and `ncols` are both given. `unique=True`
        shows one picture only, as often as asked for, each time as other draws of the transforms make it. Raises
        MissingExtra without matplotlib.
        """
        try:
            from .show import draw_batch
        except ModuleNotFoundError as exc:
            raise MissingExtra("show_batch", package=exc.name or "matplotlib", extra="train") from None
        if max_n < 1:
            raise InvalidConfig("show_batch(max_n)", got=max_n, want="a whole number of at least 1")
        if nrows is not None and ncols is not None:
            max_n = min(max_n, max(1, nrows * ncols))
        batch = self._draw_sample(max_n, unique=unique) if b is None else b
        pictures = self.decode_pictures(batch[0][:max_n])
        numbers = [target[:max_n].cpu().numpy() for target in batch[self.dataset.n_inp :]]
        titles = [
            self.dataset.decode([target[row] for target in numbers]) if numbers else "" for row in range(len(pictures))
        ]
        return draw_batch(pictures, titles, nrows=nrows, ncols=ncols, figsize=figsize)

    def to(self, device: torch.device | str) -> DataLoader:
        """The same loader, its batches on `device` from now on."""
        self.device = torch.device(device)
        return self

    def new(self, dataset: Dataset, **changes: Any) -> DataLoader:
        """A loader of other items, told apart by fields of LoaderConfig."""
        return DataLoader(
            dataset,
            self.pictures,
            batch_tfms=self.batch_tfms,
            device=self.device,
            config=replace(self.config, **changes),
        )

    def _draw_sample(self, count: int, *, unique: bool) -> Batch:
        """`count` items, as this side sees them; fewer where there are no more."""
        if not unique:
            batch = self._look(None, bs=count, drop_last=False)
        else:
            batch, first = None, 0
            while batch is None and first < len(self.dataset):  # the first that can be read
                if first not in self.left_out:
                    batch = self._look([(first, draw) for draw in range(count)], bs=count, drop_last=False)
                first += 1
        if batch is None:
            raise InvalidInput("show_batch", got="no picture that can be read", want="one at least")
        return batch

    def _look(self, draws: Sequence[_Draw] | None, *, bs: int, drop_last: bool) -> Batch | None:
        """The first batch of a walk that is none of the training's."""
        look = self._looks
        self._looks += 1
        chosen = self._order(_LOOK, look) if draws is None else draws
        with closing(self._walk(_LOOK, look, chosen, bs=bs, drop_last=drop_last)) as walk:
            return next(walk, None)

    def decode_pictures(self, x: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
        """float32 (n, h, w, 3) in [0, 1]: what normalises is undone."""
        for tfm in reversed(self.batch_tfms):
            if hasattr(tfm, "decode"):
                x = tfm.decode(x)
        shown: np.ndarray[Any, np.dtype[np.float32]] = x.detach().float().clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
        return shown

    def _order(self, stream: int, epoch: int, *, share: tuple[int, int] = (0, 1)) -> list[_Draw]:
        order = np.arange(len(self.dataset))
        if self.config.shuffle:
            order = np.random.default_rng([self.config.seed, stream, epoch]).permutation(order)
        if self.config.is_training:
            order = order[: len(order) // share[1] * share[1]]
        order = order[share[0] :: share[1]]  # before what is left out goes, so that no other share moves for it
        return [(at, 0) for at in order.tolist() if at not in self.left_out]

    def _walk(
        self,
        stream: int,
        epoch: int,
        draws: Sequence[_Draw],
        *,
        bs: int,
        drop_last: bool,
        numbers: Iterator[int] | None = None,
    ) -> _Walk:
        """Batches of what `draws` names, each by its number. Closing it, or dropping it, ends its threads."""

        def load(draw: _Draw) -> _Loaded:
            return self._load(draw[0], np.random.default_rng([self.config.seed, stream, epoch, *draw]))

        buffers = BatchBuffers()
        numbers = count() if numbers is None else numbers
        is_empty = True
        waiting: list[_Loaded] = []
        with closing(self._map(load, draws, ahead=_BATCHES_AHEAD * bs)) as results:
            for loaded in results:
                if loaded.unreadable is not None:
                    self._leave_out(loaded.at, loaded.unreadable)
                    continue
                waiting.append(loaded)
                if len(waiting) == bs:
                    yield self._finish(waiting, (self.config.seed, stream, epoch, next(numbers)), buffers)
                    is_empty, waiting = False, []
            if waiting and not drop_last:
                yield self._finish(waiting, (self.config.seed, stream, epoch, next(numbers)), buffers)
                is_empty = False
        if is_empty and len(self.left_out) == len(self.dataset):
            at, reason = next(iter(self.left_out.items()))
            raise InvalidInput(
                "pictures",
                got=f"none of {len(self.dataset):,} that can be read, such as {self.dataset.name(at)}: {reason}",
                want="pictures",
            )

    def _map(
        self, load: Callable[[_Draw], _Loaded], draws: Sequence[_Draw], *, ahead: int
    ) -> Generator[_Loaded, None, None]:
        """What is loaded, in order; `ahead` pictures are loaded while the caller is busy with what it got."""
        threads = self.config.threads
        if not threads:
            yield from map(load, draws)
            return
        chunks = [draws[at : at + _CHUNK] for at in range(0, len(draws), _CHUNK)]
        window = max(-(-ahead // _CHUNK), threads)
        with closing(
            map_in_order(lambda chunk: [load(draw) for draw in chunk], chunks, threads=threads, ahead=window)
        ) as loaded:
            for some in loaded:
                yield from some

    def _load(self, at: int, rng: np.random.Generator) -> _Loaded:
        dataset = self.dataset
        values: list[Any] = []
        pictures = []
        try:
            for number, column in enumerate(dataset.columns):
                value = dataset.value(at, number)
                if column.is_picture or isinstance(value, Image.Image):
                    pictures.append(number)
                    value = self.pictures.load(value, rng, name=dataset.name(at))  # (3, h, w)
                values.append(value)
        except UnreadablePicture as exc:
            if not self.config.leaves_out_unreadable:
                raise
            return _Loaded(at, (), unreadable=exc)
        return _Loaded(at, tuple(values), tuple(pictures))

    def _leave_out(self, at: int, why: UnreadablePicture) -> None:
        if at in self.left_out:
            return
        self.left_out[at] = why.reason
        n = len(self.left_out)
        if n > _NAMED:
            told = f"{n:,} pictures cannot be read and are left out; `left_out` names them all"
            if n & (n - 1):  # told again at 8, 16, 32, ...
                return
        else:
            told = f"{self.dataset.name(at)} cannot be read and is left out: {why.reason}"
        warnings.warn(f"{told} ({n:,} of {len(self.dataset):,} so far)", UserWarning, stacklevel=4)

    def _finish(self, loaded: Sequence[_Loaded], key: Sequence[int], buffers: BatchBuffers) -> Batch:
        """Collate, move, scale and transform; what is drawn for the batch depends on `key` alone."""
        rng = torch.Generator()  # on the CPU, so that a GPU draws the same
        rng.manual_seed(_seed_of(key))
        names = [self.dataset.name(one.at) for one in loaded]
        batch = []
        for number, column in enumerate(self.dataset.columns):
            values = [one.values[number] for one in loaded]
            if number in loaded[0].pictures:
                x = collate_pictures(values, names, buffers=buffers, pinned=self.device.type == "cuda")
                x = scale_pixels(x.to(self.device, non_blocking=True), buffers=buffers)
                batch.append(self._transform(x, rng))
            else:
                batch.append(collate_values(values, names, column.role).to(self.device, non_blocking=True))
        return tuple(batch)

    def _transform(self, x: Tensor, rng: torch.Generator) -> Tensor:
        for tfm in self.batch_tfms:
            if not hasattr(tfm, "on_valid"):
                x = tfm(x)
            elif self.config.is_training or tfm.on_valid:
                x = tfm(x, rng)
        return x


def _seed_of(key: Sequence[int]) -> int:
    """A number below 2 to the 63rd."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
