"""Where networks run: what was asked for, what is used, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from drivetrain.errors import InvalidConfig, MissingExtra, Unavailable

__all__ = ["CPU", "Device", "DeviceName", "find_device", "refuse_device"]

DeviceName = Literal["auto", "cpu", "cuda"]

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
# Products in TF32 keep 10 bits of 23: enough for most, and not what the model was proved with
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where to run, and the reason in words for whoever started it."""

    name: Literal["cpu", "cuda"]
    asked: DeviceName = "cpu"
    why: str = "it was asked for"

    @property
    def providers(self) -> list[Any]:
        """As onnxruntime takes them. CUDA is followed by the CPU, which runs the few operators that CUDA lacks."""
        return [_CPU] if self.name == "cpu" else [(_CUDA, dict(_CUDA_OPTIONS)), _CPU]

    @property
    def first_provider(self) -> str:
        """The one that an open session must have, or it runs elsewhere than asked."""
        return _CPU if self.name == "cpu" else _CUDA

    @property
    def statement(self) -> str:
        """One line for the start of a server: `device: auto was asked for, cpu is used: ...`."""
        return f"device: {self.asked} was asked for, {self.name} is used: {self.why}"


CPU = Device(name="cpu")


def find_device(asked: str, *, available: list[str] | None = None) -> Device:
    """The device to try. For "auto", cuda is only a proposal: `runtime.ready` takes it if the fixtures agree there.

    `available` are onnxruntime's providers, by default those of the package that is installed.
    Raises InvalidConfig, or MissingExtra where cuda is asked for and this onnxruntime cannot do it.
    """
    if asked not in get_args(DeviceName):
        raise InvalidConfig("device", got=asked, want="one of " + ", ".join(get_args(DeviceName)))
    name = cast(DeviceName, asked)
    if name == "cpu":
        return Device(name="cpu", asked=name)
    if available is None:
        import onnxruntime as ort

        available = list(ort.get_available_providers())
    if _CUDA in available:
        why = "it was asked for" if name == "cuda" else "it gives the fixtures' answers"
        return Device(name="cuda", asked=name, why=why)
    if name == "cuda":
        raise MissingExtra("device cuda", package="onnxruntime-gpu", extra="gpu")
    why = "the onnxruntime installed here has no CUDA (it comes with 'drivetrain[gpu]')"
    return Device(name="cpu", asked=name, why=why)


def refuse_device(device: Device, reason: str) -> Unavailable:
    """The error of a device that is installed and does not run: never another one in its place without a word."""
    return Unavailable(
        f"device {device.name}",
        got=reason,
        want="a GPU with its driver, CUDA and cuDNN, as onnxruntime-gpu needs them",
        hint="Start with --device cpu, or mend the driver: `nvidia-smi` must list a GPU.",
    )
