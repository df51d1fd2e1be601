"""Part a network that somebody else wrote into steps that run one behind the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["find_steps", "first_tensor", "merge_steps", "run_steps"]

_MAX_GAP = 1e-5  # of the result, as a share of its largest value


@dataclass(slots=True, eq=False)
class _Call:
    path: str
    source: Tensor
    result: Tensor | None = None


def find_steps(root: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], pixels: Tensor) -> tuple[str, ...]:
    """Names of submodules that, each given what the one before it gave, make what `run(root, pixels)` makes.

    Found by watching who is given whose output, as deep as containers go, and then tried on `pixels`. () where the
    network does anything between its modules that none of them does.
    """
    with torch.no_grad():
        calls, result = _watch(root, run, pixels)
        steps = _walk(calls, "", pixels, result)
        names = tuple(name for step in steps for name in _expand(root, calls, step))
        return names if names and _is_same(root, names, pixels, run(root, pixels)) else ()


def run_steps(root: nn.Module, names: Sequence[str], x: Tensor) -> Tensor:
    """What the named submodules of root make of x, one behind the other."""
    for name in names:
        x = first_tensor(root.get_submodule(name)(x))
    return x


def merge_steps(root: nn.Module, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The steps in pieces, each begun by one that holds a convolution or a linear layer.

    So a norm or an activation stays with the convolution before it, and a fold of the two stays within a piece.
    """
    pieces: list[list[str]] = []
    for name in names:
        is_heavy = any(isinstance(m, (nn.Conv2d, nn.Linear)) for m in root.get_submodule(name).modules())
        if is_heavy or not pieces:
            pieces.append([])
        pieces[-1].append(name)
    return tuple(tuple(piece) for piece in pieces)


def first_tensor(out: Any) -> Tensor:
    """The tensor itself, the first of a tuple, or `last_hidden_state` of the outputs of transformers."""
    if isinstance(out, Mapping):
        out = out["last_hidden_state"]
    elif isinstance(out, (tuple, list)):
        out = out[0]
    if not isinstance(out, Tensor):
        raise TypeError(f"a module gave {type(out).__name__}, not a tensor")
    return out


def _watch(root: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], pixels: Tensor) -> tuple[list[_Call], Tensor]:
    """Every call of a submodule in the order they began, and the result. The calls keep the tensors alive, so that
    none takes another's identity."""
    calls: list[_Call] = []

    def begin(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, path: str) -> None:
        given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        if given:
            calls.append(_Call(path, given[0]))

    def end(_module: nn.Module, _args: tuple[Any, ...], out: Any, *, path: str) -> None:
        call = next((one for one in reversed(calls) if one.path == path and one.result is None), None)
        if call is None:  # it was given no tensor
            return
        try:
            call.result = first_tensor(out)
        except (TypeError, KeyError, IndexError):
            calls.remove(call)

    handles = []
    for path, module in root.named_modules():
        if path:
            handles.append(module.register_forward_pre_hook(partial(begin, path=path), with_kwargs=True))
            handles.append(module.register_forward_hook(partial(end, path=path)))
    try:
        result = run(root, pixels)
    finally:
        for handle in handles:
            handle.remove()
    return [call for call in calls if call.result is not None], result


def _walk(calls: Sequence[_Call], within: str, source: Tensor, target: Tensor) -> list[_Call]:
    """From source to target through the outermost calls below `within`; [] where the way breaks off.

    An operation in place gives its own input back, so the way goes on behind the target and is then cut back to it.
    """
    steps: list[_Call] = []
    length, current = 0, source
    for call in calls:
        if not call.path.startswith(f"{within}." if within else ""):
            continue
        if call.source is current and not (steps and call.path.startswith(f"{steps[-1].path}.")):
            assert call.result is not None
            steps.append(call)
            current = call.result
            if current is target:
                length = len(steps)
    return steps[:length]


def _expand(root: nn.Module, calls: Sequence[_Call], step: _Call) -> list[str]:
    """The step's own steps where it is a container of layers; else its name."""
    module = root.get_submodule(step.path)
    is_container = isinstance(module, nn.Sequential) or any(
        isinstance(child, (nn.Sequential, nn.ModuleList)) for child in module.children()
    )
    if not is_container or step.result is None:
        return [step.path]
    names = [name for one in _walk(calls, step.path, step.source, step.result) for name in _expand(root, calls, one)]
    # a shortcut that is added in place leaves no trace in who is given what: the numbers tell
    if names and _is_same(root, names, step.source, run_steps(root, [step.path], step.source.clone())):
        return names
    return [step.path]


def _is_same(root: nn.Module, names: Sequence[str], x: Tensor, expected: Tensor) -> bool:
    """Whether the steps make `expected` of x; what a step changes in place, it changes in a copy."""
    try:
        made = run_steps(root, names, x.clone())
    except (TypeError, ValueError, RuntimeError):  # a module that needs more than the tensor it is given
        return False
    gap = (made - expected).abs().max() / expected.abs().max().clamp_min(1.0) if made.shape == expected.shape else 1.0
    return bool(gap <= _MAX_GAP)
