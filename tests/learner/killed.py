"""A training in a process of its own that is killed in the middle of a step: python -m tests.learner.killed IN OUT."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from drivetrain.learn.callbacks import Callback
from drivetrain.learn.checkpoint import CheckpointConfig

from .makers import make_learner

KEPT_EVERY = 2  # batches
DIES_AT = (1, 3)  # epoch and step in the epoch of the second fit: between two that are kept


class Killed(Callback):
    """No chance to clean up."""

    def before_batch(self, learn: Any) -> None:
        if learn.training and len(learn.fits) == 2 and (learn.epoch, learn.step % 6) == DIES_AT:
            os.kill(os.getpid(), signal.SIGKILL)


def make(pictures: Path, out: Path, *, cbs: Any = None) -> Any:
    """What the killed process, the resumed one and the unbroken one all train."""
    return make_learner(
        pictures, out, dropout=0.3, checkpoint=CheckpointConfig(every_batches=KEPT_EVERY, every_s=3600), cbs=cbs
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), cbs=Killed).fine_tune(3, base_lr=0.01, resume=True)
