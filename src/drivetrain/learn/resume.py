"""What a running training keeps so that it can go on after a kill, and how it is taken up again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from drivetrain.errors import Conflict, InvalidInput

from .callbacks import Callback
from .checkpoint import read_tree
from .learner_state import LearnerState
from .optimizer import capture_optimizer, restore_optimizer
from .recorder import Recorder

__all__ = [
    "Position",
    "as_plain",
    "capture",
    "checkpoint_path",
    "find_kept",
    "restore",
]

_VERSION = 1


@dataclass(slots=True, kw_only=True)
class Position:
    """How far a fit is."""

    first_epoch: int  # of the learner's life: what the loader draws by
    epoch: int = 0  # of this fit
    batch: int = 0  # so many of this epoch are done
    n_batches: int = 0  # in this epoch, as it began
    loss_sum: float = 0.0  # over the pictures of this epoch
    n_seen: int = 0
    seconds: float = 0.0  # that this epoch took before it was kept
    is_stopping: bool = False  # a callback asked for it
    is_done: bool = False


def checkpoint_path(learn: LearnerState) -> Path | None:
    """Where a running training is kept; None where it is not."""
    if learn.checkpoint is None:
        return None
    return learn.file_of(learn.checkpoint.name)


def capture(learn: LearnerState, position: Position, callbacks: Sequence[Callback]) -> dict[str, Any]:
    """A tree for write_tree."""
    assert learn.opt is not None
    states = [[type(cb).__name__, cb.state_dict()] for cb in callbacks if hasattr(cb, "state_dict")]
    return {
        "what": "running training",
        "version": _VERSION,
        "fits": learn.fits,
        "position": asdict(position),
        "left_out": {str(at): reason for at, reason in learn.dls.train.left_out.items()},
        "at_once": learn.memory.at_once,
        "recorder": learn.recorder.as_json(),
        "callbacks": states,
        "scaler": learn.precision.state_dict(),
        "model": learn.model.state_dict(),
        "opt": capture_optimizer(learn.opt),
    }


def restore(learn: LearnerState, kept: dict[str, Any], callbacks: Sequence[Callback]) -> Position:
    """Bring learner and callbacks where they were. Raises Conflict where the callbacks are others."""
    assert learn.opt is not None
    stateful = [cb for cb in callbacks if hasattr(cb, "state_dict")]
    then, now = [name for name, _ in kept["callbacks"]], [type(cb).__name__ for cb in stateful]
    if then != now:
        raise Conflict("cbs", got=", ".join(now) or "none", want=f"as when it was kept: {', '.join(then) or 'none'}")
    learn.model.load_state_dict(kept["model"])
    restore_optimizer(learn.opt, kept["opt"])
    learn.precision.load_state_dict(kept["scaler"])
    learn.memory.at_once = kept["at_once"]
    learn.recorder = Recorder.from_json(kept["recorder"])
    learn.dls.train.left_out |= {int(at): reason for at, reason in kept["left_out"].items()}
    for cb, (_, state) in zip(stateful, kept["callbacks"], strict=True):
        cb.load_state_dict(state)  # type: ignore[attr-defined]
    return Position(**kept["position"])


def find_kept(learn: LearnerState, description: dict[str, Any]) -> dict[str, Any] | None:
    """The checkpoint to go on from, for a fit described so; None where this fit has not begun yet.

    Raises Conflict where what is kept is another training, naming what differs.
    """
    path = checkpoint_path(learn)
    if path is None:
        raise Conflict("resume", got="checkpoint=None", want="a Learner that keeps checkpoints")
    if not path.is_file():
        return None
    kept = read_tree(path)
    if kept.get("what") != "running training" or kept.get("version") != _VERSION:
        raise InvalidInput(str(path), got="a file of another kind or version", want="a checkpoint of a training")
    mine = [*learn.fits, description]
    for number, (then, now) in enumerate(zip(kept["fits"], mine, strict=False), start=1):
        differing = [f"{key} {then.get(key)!r} then, {now.get(key)!r} now" for key in now if then.get(key) != now[key]]
        if differing:
            raise Conflict(
                f"resume from {path}",
                got=f"fit {number} with other settings: {'; '.join(differing)}",
                want="the training that was broken off",
                hint="Give the settings it had, another checkpoint name, or resume=False to begin anew.",
            )
    return kept if len(kept["fits"]) >= len(mine) else None


def as_plain(value: Any) -> Any:
    """As JSON gives it back: tuples as lists."""
    return json.loads(json.dumps(value))
