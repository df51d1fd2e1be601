"""Open an ONNX model in onnxruntime, set up for many callers at once, and for models of strangers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import onnxruntime as ort

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidInput, Unavailable

from .device import CPU, Device, refuse_device

__all__ = ["Session"]

_SILENT = 4  # what goes wrong comes as an exception; warnings about a graph are for its maker, not for its user
_MAX_MEMORY_BYTES = 4 << 30  # of weights and activations, all sessions of the process together
# ONNX, whatever the bytes look like: by itself onnxruntime also opens its own format, which check_onnx cannot read
_CONFIG = {"session.load_model_format": "ONNX", "session.use_env_allocators": "1"}
# Between two operators its threads wait by spinning: asleep, they took twice as long (6.2 ms against 3.4). But for no
# longer than that, and not after the run: others decode and answer on these cores
_CONFIG_MANY = {"session.intra_op.spin_duration_us": "100", "session.force_spinning_stop": "1"}
# It computes at opening what is constant in a graph, without bound; our graphs hold no such thing
_DISABLED = ["ConstantFolding"]


class Session:
    """One network. `run` may be called from several threads; with one thread, each call works on the caller's own core.

    One picture a call, a caller per core: on CPUs this beats larger batches, whose activations fall out of the caches
    (measured: 3.0 ms a picture at batch 1 against 5.8 ms at batch 32, EfficientNet-Lite0 on two cores).
    """

    def __init__(self, model: Path | bytes, *, threads: int = 1, device: Device = CPU) -> None:
        """`threads` work on one call. Raises InvalidInput if onnxruntime cannot open it, Unavailable if not there."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _SILENT
        for key, value in (_CONFIG | (_CONFIG_MANY if threads > 1 else {})).items():
            options.add_session_config_entry(key, value)
        source = model if isinstance(model, bytes) else str(model)
        _bound_memory()
        try:
            self._session = ort.InferenceSession(
                source,
                options,
                providers=device.providers,
                disabled_optimizers=_DISABLED,
                enable_fallback=0,  # it would print to stdout, and open the same file again in the same way
            )
            self.inputs = _shapes(self._session.get_inputs())
            self.outputs = _shapes(self._session.get_outputs())
        except Exception as exc:  # onnxruntime's own errors have no common base
            if device.name != "cpu" and _opens_on_cpu(source):
                raise refuse_device(device, _first_line(exc)) from None
            raise InvalidInput("model", got=_first_line(exc), want="an ONNX model that onnxruntime can run") from None
        self._session._model_bytes = None  # noqa: SLF001 - kept for that fallback: a second copy of all the weights
        if device.first_provider not in self._session.get_providers():  # onnxruntime goes on without a word
            raise refuse_device(device, f"a session on {', '.join(self._session.get_providers())}")

    def run(self, names: list[str], pixels: FloatArray, *, deadline_s: float | None = None) -> list[FloatArray]:
        """The named outputs for float32 pixels (n, 3, h, w).

        Raises Unavailable if the network fails, or is not done in time.
        """
        feed = {"pixels": np.ascontiguousarray(pixels, dtype=np.float32)}
        options = ort.RunOptions()
        options.log_severity_level = _SILENT
        try:
            with _stop_after(deadline_s, options):
                outputs: list[FloatArray] = self._session.run(names, feed, options)
        except Exception as exc:  # as above
            raise Unavailable("model", got=_first_line(exc), want="a run to its end") from None
        return outputs


@contextmanager
def _stop_after(deadline_s: float | None, options: ort.RunOptions) -> Iterator[None]:
    if deadline_s is None:
        yield
        return
    timer = Timer(deadline_s, setattr, (options, "terminate", True))  # looked at between two operators
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _opens_on_cpu(source: str | bytes) -> bool:
    """Whether it is the device that fails, and not the model."""
    try:
        Session(source if isinstance(source, bytes) else Path(source))
    except InvalidInput:
        return False
    return True


def _shapes(nodes: Iterable[Any]) -> dict[str, list[int | str | None]]:
    """Names and shapes as the model declares them; a dimension given by name, or None, is free."""
    return {node.name: list(node.shape) for node in nodes}  # a name that is no UTF-8 raises here


def _bound_memory() -> None:
    """A few bytes of ONNX can ask for all the memory there is. The first call counts, later ones change nothing."""
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(where, ort.OrtArenaCfg({"max_mem": _MAX_MEMORY_BYTES}))


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
