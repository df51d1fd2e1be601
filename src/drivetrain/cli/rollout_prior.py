"""The two questions of a prior: what is believed of the candidate before anything was seen."""

from __future__ import annotations

import typer

__all__ = ["ask_prior"]


def ask_prior(given: str | None, *, is_asked: bool) -> str | None:
    """What was given; else, where questions are asked at a terminal at all, two more: how many wrong, and how sure."""
    if given is not None or not is_asked:
        return given
    share = typer.prompt(
        "Of a hundred decisions by itself, how many do you expect to be mistaken? Empty: no belief",
        default="",
        err=True,
    )
    if not share.strip():
        return None
    sure = typer.prompt("How sure: as if you had seen how many pictures?", default="20", err=True)
    return f"expected {share.strip().rstrip('%').strip()} %, as sure as {sure.strip()} pictures"
