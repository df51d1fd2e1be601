"""A torch module as the bytes of an ONNX file: the same weights give the same bytes, on any machine.

Nothing here imports torch or onnx until something is exported.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import MissingExtra, Unavailable

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["check_parity", "copy_message", "import_onnx", "make_pixels", "to_onnx"]

_OPSET = 20  # the newest that onnxruntime 1.20, the oldest we run on, knows well
_MAX_GAP = 1e-4  # of any output between onnxruntime and torch, as a share of its largest value


def import_onnx(what: str) -> Any:
    """The package onnx; MissingExtra names `what` needs it."""
    try:
        import onnx
    except ModuleNotFoundError as exc:
        raise MissingExtra(what, package="onnx", extra="train") from exc
    return onnx


def make_pixels(size: int) -> Tensor:
    """Noise to try a module on, (3, 3, size, size), the same each time."""
    import torch

    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(0))


def to_onnx(module: nn.Module, pixels: Tensor, *, outputs: Sequence[str], hidden: int = 0) -> Any:
    """The ONNX model of a module from `pixels` (n, 3, h, w) to `outputs`, its batch open, without metadata.

    The last `hidden` outputs stay in the graph under their names, their shapes in value_info, but are not given out.
    """
    try:
        import onnxscript  # noqa: F401 -- torch's exporter needs it, and would name it in a traceback of its own
        import torch
    except ModuleNotFoundError as exc:
        raise MissingExtra("exporting a network", package=exc.name or "torch", extra="train") from exc
    with _quiet():
        program = torch.onnx.export(
            module,
            (pixels[:2],),  # two pictures: the exporter takes a lone one for a constant
            input_names=["pixels"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            opset_version=_OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None comes from the exporter of old alone
    model = program.model_proto
    _strip(model)
    graph = model.graph
    del graph.value_info[:]  # shapes of inner tensors, which onnxruntime works out for itself
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "n"  # the exporter's own name changes between versions
    if hidden:
        graph.value_info.extend([copy_message(value) for value in graph.output[-hidden:]])
        del graph.output[-hidden:]
    return model


def copy_message(message: Any) -> Any:
    """A part of a protobuf list does not outlive the list's clearing."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def check_parity(data: bytes, pixels: FloatArray, expected: dict[str, FloatArray], *, floor: float = 1.0) -> None:
    """Raise Unavailable where onnxruntime makes something else of `pixels` than torch did.

    An output whose values are all smaller than `floor` is judged as if its largest were that.
    """
    import onnxruntime as ort  # late: a hit in the cache needs no session

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    got = session.run(list(expected), {"pixels": pixels})
    gaps = {name: _gap(a, b, floor) for (name, b), a in zip(expected.items(), got, strict=True)}
    worst = max(gaps, key=lambda name: gaps[name] if gaps[name] == gaps[name] else np.inf)
    if not gaps[worst] <= _MAX_GAP:  # so written that nan fails as well
        raise Unavailable(
            "exported network",
            got=f"the output {worst} {gaps[worst]:.1e} away from torch's",
            want=f"at most {_MAX_GAP:.0e}",
            hint="Install the newest torch, onnx, onnxscript and onnxruntime: pip install -U 'drivetrain[train]'",
        )


def _gap(a: FloatArray, b: FloatArray, floor: float) -> float:
    with np.errstate(invalid="ignore"):  # inf / inf is nan, and nan is refused
        return float(np.abs(a - b).max() / max(floor, np.abs(b).max()))


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
