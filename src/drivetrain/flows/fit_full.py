"""The method `full`: every weight trained, from a fitted head on; the natural way where there is a GPU."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.flows.fitting import FitInput, Fitted, Side, describe_head, fit_first_head
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.style_measures import find_style_kernel
from drivetrain.learn.device import uses_bf16
from drivetrain.learn.export import export_network
from drivetrain.learn.head import Head
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.session import Session

if TYPE_CHECKING:
    from drivetrain.learn.data_loaders import DataLoaders

__all__ = ["fit_by_full"]

_EPOCHS, _BATCH, _LR = 4, 64, 1e-3
_LR_MULT = 30  # how much slower the stem learns than the head


def fit_by_full(given: FitInput, *, head: Head | None = None) -> Fitted:
    """Train all of the network with discriminative rates; in 16 bits on a GPU, on several under `accelerate launch`.

    A killed run goes on with `resume`. What the model says of both sides is asked of the exported file.
    """
    from drivetrain.learn.backbones import load_backbone
    from drivetrain.learn.checkpoint import CheckpointConfig
    from drivetrain.learn.learner import vision_learner
    from drivetrain.learn.network import build_network
    from drivetrain.learn.vision_learner import VisionLearner

    head = fit_first_head(given) if head is None else head
    options = given.options
    epochs, lr = options.epochs or _EPOCHS, options.lr or _LR
    dls = _build_loaders(given)
    network = build_network(load_backbone(given.trunk.name), n_out=given.n_out, head=head)
    learn = vision_learner(
        dls,
        network,
        kind=VisionLearner,
        class_weights=options.class_weights,  # type: ignore[arg-type]
        label_smoothing=0.1 if given.task == "classification" else 0.0,
        seed=options.seed,
        path=given.settings.cache_dir,
        model_dir="runs",
        checkpoint=CheckpointConfig(name=_name_run(given)),
        progress=given.progress,
    )
    on_gpu = dls.device.type == "cuda"
    if on_gpu:  # pragma: no cover - needs a GPU
        learn = learn.to_bf16() if uses_bf16() else learn.to_fp16()
    learn.fit_one_cycle(epochs, slice(lr / _LR_MULT, lr), div=5.0, resume=options.resume)
    (given.settings.cache_dir / "runs" / f"{_name_run(given)}.safetensors").unlink(missing_ok=True)
    trained = learn.model.cpu().eval()
    model = export_network(
        trained,
        size=given.trunk.size,
        trunk=given.trunk.model,
        style=find_style_kernel(given.preprocess),
    )
    session = Session(model)
    (train_frozen, train_logits), (valid_frozen, valid_logits) = (
        _answer(session, side, given) for side in (given.train, given.valid)
    )
    return Fitted(
        method="full",
        model=model,
        tensors={name: value.detach().numpy() for name, value in trained.named_parameters()},
        train_frozen=train_frozen,
        valid_frozen=valid_frozen,
        valid_logits=valid_logits,
        known_logits=None if given.known_rows is None else train_logits[given.known_rows],
        record={"head": describe_head(head), "full": {"epochs": epochs, "lr": lr, **learn.training_record()}},
        facts={"Trained": f"all weights, {epochs} epochs, on {dls.device}"},
    )


def _build_loaders(given: FitInput) -> DataLoaders:
    """Loaders of the two sides as they stand, with the transforms that fit the declared preprocessing."""
    from drivetrain.data.splitters import IndexSplitter
    from drivetrain.data.transforms import RandomResizedCrop, Resize
    from drivetrain.learn.augment import aug_transforms
    from drivetrain.learn.blocks import CategoryBlock, ImageBlock, MultiCategoryBlock, RegressionBlock
    from drivetrain.learn.data_block import DataBlock

    size = given.trunk.size
    pairs = [
        (file, target)
        for side in (given.train, given.valid)
        for file, target in zip(side.files, side.targets, strict=True)
    ]
    block: Any = {
        "classification": CategoryBlock(vocab=given.classes),
        "multilabel": MultiCategoryBlock(encoded=True, vocab=given.classes),
        "regression": RegressionBlock(n_out=given.n_out),
    }[given.task]

    def read_target(pair: tuple[Path, Any]) -> Any:
        return given.classes[int(pair[1])] if given.task == "classification" else pair[1]

    shape = next((op for op in given.preprocess.ops if op["op"] == "resize"), {"mode": "shortest"})
    is_crop = shape["mode"] in ("crop", "shortest")
    item_tfms = RandomResizedCrop(size, min_scale=0.35) if is_crop else Resize(size, _NAMES[shape["mode"]])
    options = given.options
    return DataBlock(
        blocks=(ImageBlock, block),
        get_items=None,
        get_x=lambda pair: pair[0],
        get_y=read_target,
        splitter=IndexSplitter(list(range(len(given.train.files), len(pairs)))),
        item_tfms=item_tfms,
        batch_tfms=aug_transforms(max_rotate=5.0, max_warp=0.0, max_zoom=1.0),
    ).dataloaders(pairs, bs=min(options.batch or _BATCH, len(given.train.files)), seed=options.seed)


_NAMES = {"squish": "squish", "longest": "pad"}  # resize op -> method of Resize


def _answer(session: Session, side: Side, given: FitInput) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(frozen (n, f), logits (n, k)) as production will have them."""

    def work(file: Path) -> list[NDArray[Any]]:
        data = read_picture_file(file, name=str(file), limits=given.limits)
        pixels = given.preprocess.from_bytes(data, name=str(file), limits=given.limits)
        return [row[0] for row in session.run(["frozen", "logits"], pixels[np.newaxis])]

    with given.progress.task("Asking the model", total=len(side.files)) as advance:
        rows = []
        for row in map_in_order(work, side.files, threads=callers_for(given.settings.worker_threads)):
            rows.append(row)
            advance(1)
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def _name_run(given: FitInput) -> str:
    told = (
        "".join(digest.hex() for digest in given.train.digests) + repr(given.options.seed) + given.trunk.weights_digest
    )
    return hashlib.sha256(told.encode()).hexdigest()[:16]
