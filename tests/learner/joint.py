"""One of several processes that train together: python -m tests.learner.joint IN OUT, as a launcher starts it."""

from __future__ import annotations

import sys
from pathlib import Path

from drivetrain.learn.checkpoint import CheckpointConfig, write_tree
from drivetrain.learn.learner import Learner
from drivetrain.learn.metrics import accuracy

from .makers import make_learner, weights_of

BATCH = 8  # of all processes together


def train(pictures: Path, out: Path, *, processes: int, resume: bool = False) -> Learner:
    block = {"batch_tfms": []}  # whose draws are a process's own
    learn = make_learner(
        pictures, out, bs=BATCH // processes, metrics=accuracy, block=block, checkpoint=CheckpointConfig()
    )
    learn.fine_tune(2, base_lr=0.01, resume=resume)
    learn.validate()
    return learn


if __name__ == "__main__":
    learn = train(Path(sys.argv[1]), Path(sys.argv[2]), processes=2)
    write_tree(
        Path(sys.argv[2], f"rank{learn.processes.share[0]}.safetensors"),
        {
            "weights": weights_of(learn),
            "values": learn.recorder.values,
            "preds": learn.get_preds()[0],
            "lines": learn.progress.lines if learn.processes.share[0] == 0 else [],
            "again": train(Path(sys.argv[1]), Path(sys.argv[2]), processes=2, resume=True).recorder.values,
        },
    )
