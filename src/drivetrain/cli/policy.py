"""The options that say when a model decides by itself, the same for every verb that makes one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = [
    "CostErrorOption",
    "CostReviewOption",
    "MaxDeferOption",
    "MaxErrorOption",
    "OodAlphaOption",
    "PerClassFlag",
    "keep_given",
]

MaxErrorOption = Annotated[
    float | None, typer.Option("--max-error", help="Share of its own decisions that may be wrong: 0.05, or less.")
]
MaxDeferOption = Annotated[
    float | None, typer.Option("--max-defer", help="Largest share left to a person; said where it is more.")
]
PerClassFlag = Annotated[
    bool, typer.Option("--per-class", help="Promise it of each class; one of too few pictures is left to a person.")
]
CostErrorOption = Annotated[
    float | None, typer.Option("--cost-error", help="What a wrong decision costs; in place of --max-error.")
]
CostReviewOption = Annotated[
    float | None, typer.Option("--cost-review", help="What a person's look costs, in the same unit.")
]
OodAlphaOption = Annotated[
    float | None, typer.Option("--ood-alpha", help="Share of known pictures that may be called strange: 0.05.")
]


def keep_given(**options: float | bool | None) -> dict[str, Any]:
    """Those of them that were given; a flag that was not is False."""
    return {name: value for name, value in options.items() if value is not None and value is not False}
