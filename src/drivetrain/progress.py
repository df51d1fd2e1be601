"""Progress on long work: a bar for people (rich, on stderr), silence for machines and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

__all__ = ["Progress", "SilentProgress", "TerminalProgress"]

Advance = Callable[[int], None]


class Progress(Protocol):
    """Where long work says how far it is."""

    def task(self, name: str, total: int) -> AbstractContextManager[Advance]:
        """Open a task of `total` steps; call what it yields with the steps just done."""
        ...

    def say(self, message: str) -> None:
        """One line for the person who waits."""
        ...


class SilentProgress:
    """Says nothing."""

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:
        yield lambda steps: None

    def say(self, message: str) -> None:
        return None


class TerminalProgress:
    """Bars with rate and remaining time on stderr, so that stdout stays for answers.

    A task that is opened while another runs gets a line below it.
    """

    def __init__(self) -> None:
        from rich.console import Console  # late: rich costs 0.1 s that `predict --json` must not pay

        self._console = Console(stderr=True, highlight=False)
        self._shown: Any = None  # the display of the task that was opened first

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Advance]:
        from rich import progress as bars
        from rich.markup import escape  # a class may be called [red]

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
        )
        with ExitStack() as stack:
            if self._shown is None:
                self._shown = stack.enter_context(bars.Progress(*columns, console=self._console))
                stack.callback(setattr, self, "_shown", None)
            shown = self._shown
            # nor may it steer the terminal
            told = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
            bar = shown.add_task(escape(told), total=total, rate="")

            def advance(steps: int) -> None:
                shown.advance(bar, steps)
                speed = shown.tasks[bar].speed
                shown.update(bar, rate=f"{speed:,.0f}/s" if speed else "")

            yield advance

    def say(self, message: str) -> None:
        self._console.print(message, markup=False)
