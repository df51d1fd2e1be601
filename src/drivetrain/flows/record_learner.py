"""What a Learner's bundle says of how it was made: the plan of the data, the transforms, the method, the fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.learn.blocks import Categorize, MultiCategorize, ToFloat, name_of

if TYPE_CHECKING:
    from drivetrain.learn.vision_learner import VisionLearner

__all__ = ["describe_learner", "find_method", "tell"]

_BLOCKS: dict[type, str] = {
    Categorize: "CategoryBlock",
    MultiCategorize: "MultiCategoryBlock",
    ToFloat: "RegressionBlock",
}
_PLAIN = (str, int, float, bool, type(None))


def describe_learner(learn: VisionLearner, *, n_train: int, n_valid: int) -> dict[str, Any]:
    """The manifest's `training`: what it takes to do it again, as far as it can be told."""
    dls = learn.dls
    block = getattr(dls, "block", None)  # the DataBlock, where the loaders came from one
    columns = dls.train_ds.columns
    if block is None:
        blocks: list[Any] = ["ImageBlock" if c.is_picture else _BLOCKS[type(c.encoder)] for c in columns]
        getters: dict[str, Any] = {column.role: tell(column.getter) for column in columns}
    else:
        blocks = [repr(one) for one in block.blocks]
        getters = {role: None if getter is None else tell(getter) for role, getter in block.getters}
    return {
        "blocks": blocks,
        **({} if block is None else {"get_items": None if block.get_items is None else tell(block.get_items)}),
        "getters": getters,
        "splitter": {"name": "unknown"} if block is None else tell(block.splitter),
        "item_tfms": [tell(tfm) for tfm in dls.item_tfms],
        "batch_tfms": [tell(tfm) for tfm in dls.train.batch_tfms],
        "method": find_method(learn),
        "n_train": n_train,
        "n_valid": n_valid,
        "learner": {k: v for k, v in learn.training_record().items() if k not in ("item_tfms", "batch_tfms")},
    }


def find_method(learn: VisionLearner) -> str:
    """The most that any fit trained: all weights, the last pieces, or the head."""
    last = len(learn.model.groups()) - 1
    methods = {
        fit["method"] if fit["method"] in ("head", "top") else "head" if fit["frozen_groups"] == last else "full"
        for fit in learn.fits
    }
    return next((method for method in ("full", "top", "head") if method in methods), "none")


def tell(thing: Any) -> dict[str, Any]:
    """A function or transform by name, with its arguments where it tells them."""
    told: dict[str, Any] = {"name": name_of(thing)}
    if is_dataclass(thing) and not isinstance(thing, type):
        told["arguments"] = {field.name: _plain(getattr(thing, field.name)) for field in fields(thing) if field.init}
    elif module := getattr(thing, "__module__", None):
        told["module"] = module
    return told


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return name_of(value)
