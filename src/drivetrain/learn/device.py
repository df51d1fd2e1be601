"""What there is to compute on."""

from __future__ import annotations

__all__ = ["has_gpu", "uses_bf16"]


def has_gpu() -> bool:
    """Whether torch can use one here."""
    import torch  # late: who only asks for a head must not wait for it

    return torch.cuda.is_available()


def uses_bf16() -> bool:
    """Whether the GPU computes in bfloat16; older ones have float16 alone."""
    import torch

    return bool(torch.cuda.is_bf16_supported())
