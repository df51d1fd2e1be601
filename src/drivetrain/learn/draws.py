"""Chance that depends on a place in the training alone: (seed, epoch, batch), as in the loaders.

So a run that goes on after a kill draws what the unbroken one would have drawn, with no state to keep, and what is done
between two trainings changes neither.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["draws_of_our_own", "seed_draws"]


def seed_draws(*place: int) -> None:
    """Seed the generators that everybody shares, torch's, numpy's and Python's, by a place."""
    words = np.random.SeedSequence(place).generate_state(2, np.uint64)
    torch.manual_seed(int(words[0] >> np.uint64(1)))
    random.seed(int(words[1]))
    np.random.seed(int(words[1] >> np.uint64(32)))  # noqa: NPY002 -- a callback may draw from it


@contextmanager
def draws_of_our_own() -> Iterator[None]:
    """Leave those generators behind as they were found."""
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    kept = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    kept_cuda = torch.cuda.get_rng_state_all() if cuda else []
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        random.setstate(kept[1])
        np.random.set_state(kept[2])  # noqa: NPY002
        if kept_cuda:  # pragma: no cover -- needs a GPU
            torch.cuda.set_rng_state_all(kept_cuda)
