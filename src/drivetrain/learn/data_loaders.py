"""The loaders of a training: one over what is trained on, one over what is held out, and those of pictures to come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from drivetrain.data.rows import list_items
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.preprocess import Op, Preprocess
from drivetrain.runtime.parallel import callers_for
from drivetrain.runtime.pixel_cache import PixelCache
from drivetrain.settings import Settings

from .augment import Normalize
from .blocks import as_list, name_of
from .data_loader import Batch, DataLoader, LoaderConfig
from .datasets import Dataset, Datasets, check_pictures
from .pictures import PictureLoader, is_picture, plan_training, plan_validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .data_block import DataBlock

__all__ = ["DataLoaders", "build_loaders", "order_batch_tfms"]

_CACHE_FOLDER = "pixels"


class DataLoaders:
    """`.train` and `.valid`, also `[0]` and `[1]`, and what they have in common."""

    def __init__(
        self,
        train: DataLoader,
        valid: DataLoader,
        *,
        datasets: Datasets,
        item_tfms: Sequence[Any] = (),
        path: str | Path = ".",
    ) -> None:
        self.train = train
        self.valid = valid
        self.datasets = datasets
        self.item_tfms = tuple(item_tfms)
        self.path = Path(path)
        self.block: DataBlock | None = None  # the plan they were made by

    def __getitem__(self, side: int) -> DataLoader:
        return (self.train, self.valid)[side]

    def __iter__(self) -> Iterator[DataLoader]:
        return iter((self.train, self.valid))

    def __len__(self) -> int:
        return 2

    def __repr__(self) -> str:
        return f"train: {self.train!r}\nvalid: {self.valid!r}\nlabels: {self.vocab or self.c}"

    @property
    def vocab(self) -> Any:
        """The labels by number; None where labels are numbers themselves."""
        return self.datasets.vocab

    @property
    def c(self) -> Any:
        """How many numbers a model must answer with."""
        return self.datasets.c

    @property
    def n_inp(self) -> int:
        """How many parts of a batch are inputs; the others are targets."""
        return self.datasets.n_inp

    @property
    def bs(self) -> int:
        """Items a batch, in training."""
        return self.train.bs

    @property
    def device(self) -> torch.device:
        """Where batches are put."""
        return self.train.device

    @property
    def train_ds(self) -> Dataset:
        """The items that are trained on."""
        return self.train.dataset

    @property
    def valid_ds(self) -> Dataset:
        """The items that are held out."""
        return self.valid.dataset

    def one_batch(self) -> Batch:
        """A training batch to look at."""
        return self.train.one_batch()

    def show_batch(self, *args: Any, **kwargs: Any) -> Figure:
        """Pictures of the training side; see DataLoader.show_batch."""
        return self.train.show_batch(*args, **kwargs)

    def to(self, device: torch.device | str) -> DataLoaders:
        """Put the batches of both sides on `device` from now on."""
        for loader in self:
            loader.to(device)
        return self

    def cpu(self) -> DataLoaders:
        """Put batches into main memory."""
        return self.to("cpu")

    def cuda(self) -> DataLoaders:
        """Put batches on the GPU."""
        return self.to("cuda")

    def add_tfms(self, batch_tfms: Any) -> None:
        """Let these batch transforms run too, on both sides, in the order that `order` says."""
        added = as_list(batch_tfms)
        for loader in self:
            loader.batch_tfms = order_batch_tfms([*loader.batch_tfms, *added])
        self.valid.pictures = PictureLoader(
            plan_validation(self.item_tfms, _declared_ops(self.valid.batch_tfms)),
            limits=self.valid.pictures.limits,
            cache=self.valid.pictures.cache,
        )

    def test_dl(self, files: Any, with_labels: bool = False, bs: int | None = None) -> DataLoader:
        """A loader of other items, in their order and treated like those held out: paths, rows, or a pandas frame.

        `with_labels` reads their labels as the training's were; a label that training did not have is an error. So is
        a picture that cannot be read: left out, it would shift all answers after it.
        """
        if isinstance(files, str | Path):
            if Path(files).is_dir():
                raise InvalidInput(
                    "test_dl", got=f"{files}, a folder", want="files", hint="Try get_image_files(folder)."
                )
            files = [files]
        items = list_items(files)
        if not items:
            raise InvalidInput("test_dl", got="no items", want="one at least")
        columns = self.train_ds.columns if with_labels else self.train_ds.columns[: self.n_inp]
        are_bare = is_picture(items[0]) and not is_picture(self.train_ds.items[0])
        if are_bare and with_labels:
            raise InvalidInput(
                "test_dl(with_labels=True)",
                got="pictures alone",
                want=f"items as in training, such as {str(self.train_ds.items[0])[:100]}",
            )
        if are_bare:
            columns = tuple(replace(column, getter=_same) if column.is_picture else column for column in columns)
        dataset = Dataset(items, columns, n_inp=self.n_inp, limits=self.train_ds.limits)
        for number, column in enumerate(columns):
            if number >= self.n_inp and column.encoder is not None:
                dataset.encode_labels(number, [column.read(item, dataset.name(at)) for at, item in enumerate(items)])
        check_pictures(dataset)
        return self.valid.new(dataset, bs=self.valid.bs if bs is None else bs, leaves_out_unreadable=False)

    @property
    def undeclared(self) -> tuple[str, ...]:
        """Why what is done to a picture outside of training cannot be written down; empty where it can."""
        of_batches = tuple(
            f"the batch transform {name_of(tfm)} runs outside of training and is no declared op"
            for tfm in self.valid.batch_tfms
            if getattr(tfm, "on_valid", True) and not isinstance(tfm, Normalize)
        )
        return self.valid.pictures.recipe.undeclared + of_batches

    @property
    def valid_ops(self) -> list[Op]:
        """All that is done to a picture outside of training, `decode` to `layout`: what a model is exported with.

        Raises InvalidInput where that cannot be written down, or no square comes out.
        """
        if self.undeclared:
            raise InvalidInput(
                "the preprocessing",
                got="; ".join(self.undeclared),
                want="declared transforms only",
                hint="Only these can be run alike in training, by the server and in a browser.",
            )
        ops: list[Op] = [*self.valid.pictures.recipe.steady.ops, {"op": "scale", "by": 1 / 255}]
        ops += [
            {"op": "normalize", "mean": list(tfm.mean), "std": list(tfm.std)}
            for tfm in self.valid.batch_tfms
            if isinstance(tfm, Normalize)
        ]
        ops.append({"op": "layout", "to": "NCHW"})
        return list(Preprocess(ops).ops)


def build_loaders(
    datasets: Datasets,
    *,
    item_tfms: Sequence[Any],
    batch_tfms: Sequence[Any],
    path: str | Path,
    bs: int,
    val_bs: int | None,
    num_workers: int | None,
    device: torch.device | str | None,
    seed: int,
    shuffle: bool,
    drop_last: bool | None,
    settings: Settings,
) -> DataLoaders:
    """The two loaders of DataBlock.dataloaders."""
    threads = callers_for(settings.worker_threads) if num_workers is None else num_workers
    train_config = LoaderConfig(
        bs=bs,
        seed=seed,
        threads=threads,
        shuffle=shuffle,
        drop_last=len(datasets.train) >= bs if drop_last is None else drop_last,
        is_training=True,
    )
    valid_config = LoaderConfig(bs=bs if val_bs is None else val_bs, seed=seed, threads=threads)
    if train_config.drop_last and len(datasets.train) < bs:
        raise InvalidConfig(
            "dataloaders(drop_last=True)",
            got=f"{len(datasets.train):,} items to train on and bs={bs}",
            want="at least one whole batch",
            hint="Give a smaller bs, or drop_last=False.",
        )
    where = _choose_device(device)
    limits = DecodeLimits(max_bytes=settings.image_max_bytes, max_pixels=settings.image_max_pixels)
    cache = None
    if settings.pixel_cache_bytes:
        cache = PixelCache(settings.cache_dir / _CACHE_FOLDER, max_bytes=settings.pixel_cache_bytes)
    ordered = order_batch_tfms(batch_tfms)
    training = PictureLoader(plan_training(item_tfms), limits=limits, cache=cache)
    validation = PictureLoader(plan_validation(item_tfms, _declared_ops(ordered)), limits=limits, cache=cache)
    return DataLoaders(
        DataLoader(datasets.train, training, batch_tfms=ordered, device=where, config=train_config),
        DataLoader(datasets.valid, validation, batch_tfms=ordered, device=where, config=valid_config),
        datasets=datasets,
        item_tfms=item_tfms,
        path=path,
    )


def order_batch_tfms(batch_tfms: Iterable[Any]) -> list[Any]:
    """By their `order`, lowest first; those without one where they stand among the zeros."""
    return sorted(batch_tfms, key=lambda tfm: getattr(tfm, "order", 0))


def _declared_ops(batch_tfms: Iterable[Any]) -> list[Op]:
    return [op for tfm in batch_tfms if hasattr(tfm, "valid_ops") for op in tfm.valid_ops()]


def _choose_device(device: torch.device | str | None) -> torch.device:
    """What is asked for, else the GPU where there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as exc:
        raise InvalidConfig("device", got=str(device), want="cpu, cuda or cuda:N") from exc
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InvalidConfig("device", got=str(device), want="cpu: no GPU can be used here")
    return chosen


def _same(item: Any) -> Any:
    return item
