"""What kind of answer a model gives."""

from __future__ import annotations

from typing import Literal

__all__ = ["TASKS", "Task"]

Task = Literal["classification", "multilabel", "regression"]
TASKS: tuple[Task, ...] = ("classification", "multilabel", "regression")
