"""Gather pictures, each with its source on record, from lists of addresses, folders and searches."""

from __future__ import annotations

import math
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivetrain.data.gather.addresses import Resolve, resolve_by_system
from drivetrain.data.gather.folder import REFUSED_FILE, SOURCES_FILE, GatherFolder, check_class_folder
from drivetrain.data.gather.refusal import Refusal
from drivetrain.data.gather.search import DdgsSearch, ImageSearch
from drivetrain.data.gather.wanted import Wanted, check_class_name, list_folder, read_url_list, spell_url
from drivetrain.errors import Conflict, InvalidConfig, InvalidInput, Unavailable
from drivetrain.flows.gather_run import GatherRun, Outcome, Standing
from drivetrain.progress import Progress, SilentProgress
from drivetrain.settings import Settings, load_settings

__all__ = ["ClassTally", "GatherConfig", "GatherResult", "gather"]

_SEARCH_MAX = 150  # pictures of a class from a search, unless told: what the engines give without repeating themselves
_SEARCH_SPARE = 1.5  # one answer in three is gone, too small or no picture
_MAX_CONNECTIONS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherConfig:
    """What to gather and how politely; the fields are the options of `drivetrain gather`."""

    dest: Path
    classes: tuple[str, ...] = ()  # of --urls and --from all classes, where none is named
    urls: Path | None = None
    folder: Path | None = None
    search: bool = False
    query: str = "{class}"
    max_per_class: int | None = None  # pictures of a class, those that are there included
    min_size: int = 64  # pixels of the shorter side
    max_bytes: int = 20_000_000
    timeout_s: float = 30.0  # for one picture, redirects included
    retries: int = 3
    backoff_s: float = 0.5  # before the first retry; doubles with each
    per_host: int = 4  # connections at once
    delay_s: float = 0.1  # between two requests to one host
    connections: int = 16  # to all hosts together
    allow_private: bool = False
    retry_refused: bool = False
    contact: str = ""  # how a server's owner can reach you

    def __post_init__(self) -> None:
        if self.urls is None and self.folder is None and not self.search:
            raise InvalidConfig(
                "source", got="none", want="one of --urls FILE.csv, --from FOLDER, --search", hint="Or several of them."
            )
        if self.search and not self.classes:
            raise InvalidConfig("--class", got="none", want="the classes to search for, each with --class")
        if not self.search and self.query != "{class}":
            raise InvalidConfig("--query", got=self.query, want="--search with it")
        if not self.query.strip() or ("{class}" not in self.query and len(self.classes) > 1):
            raise InvalidConfig("--query", got=self.query, want="words with {class} in them, such as '{class} bear'")
        if not (self.contact.isascii() and (self.contact.isprintable() or not self.contact)):
            raise InvalidConfig("--contact", got=self.contact, want="an e-mail or web address in plain ASCII")
        self._check_number("--max", self.max_per_class, low=1, what="pictures")
        self._check_number("--min-size", self.min_size, low=1, what="pixels")
        self._check_number("--max-bytes", self.max_bytes, low=1_000, what="bytes")
        self._check_number("--timeout", self.timeout_s, low=0, what="seconds", is_open=True)
        self._check_number("--retries", self.retries, low=0, high=20, what="tries")
        self._check_number("backoff_s", self.backoff_s, low=0, what="seconds")
        self._check_number("--per-host", self.per_host, low=1, high=_MAX_CONNECTIONS, what="connections")
        self._check_number("--delay", self.delay_s, low=0, what="seconds")
        self._check_number("--connections", self.connections, low=1, high=_MAX_CONNECTIONS, what="connections")

    @staticmethod
    def _check_number(
        field: str, got: float | None, *, low: float, what: str, high: float = math.inf, is_open: bool = False
    ) -> None:
        if got is not None and not (low <= got <= high and math.isfinite(got) and not (is_open and got == low)):
            allowed = f"{what}, {'more than' if is_open else 'at least'} {low:,}"
            raise InvalidConfig(field, got=got, want=allowed + (f", at most {high:,}" if high < math.inf else ""))


@dataclass(slots=True, kw_only=True)
class ClassTally:
    """What became of the pictures asked for in one class; the counts add up to `asked`."""

    label: str
    asked: int = 0  # different addresses
    gathered: int = 0  # new in this run
    already_there: int = 0  # from an earlier run
    copies: int = 0  # another address of a picture that the class has
    left_over: int = 0  # not needed, the class being full
    refused: Counter[str] = field(default_factory=Counter)  # reason -> addresses

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        counts = {name: getattr(self, name) for name in ("asked", "gathered", "already_there", "copies", "left_over")}
        return {"class": self.label, **counts, "refused": dict(sorted(self.refused.items()))}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatherResult:
    """What a gathering brought."""

    dest: Path
    classes: tuple[ClassTally, ...]
    refused: tuple[tuple[Wanted, Refusal], ...]
    shared: tuple[tuple[str, ...], ...]  # the same picture in several classes: its paths
    notes: tuple[str, ...]
    seconds: float

    @property
    def has_pictures(self) -> bool:
        """Whether one picture at least was gathered, or was there already."""
        return any(tally.gathered or tally.already_there or tally.copies for tally in self.classes)

    def as_json(self) -> dict[str, Any]:
        """Plain values; what `drivetrain gather --json` prints."""
        return {
            "dest": str(self.dest),
            "classes": [tally.as_json() for tally in self.classes],
            "refused": [
                {"url": wanted.url, "class": wanted.label, "reason": refusal.reason, "detail": refusal.detail}
                for wanted, refusal in self.refused
            ],
            "in_several_classes": [list(paths) for paths in self.shared],
            "notes": list(self.notes),
            "sources": str(self.dest / SOURCES_FILE),
            "refused_file": str(self.dest / REFUSED_FILE) if (self.dest / REFUSED_FILE).exists() else None,
            "seconds": round(self.seconds, 3),
        }


def gather(
    config: GatherConfig,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
    search: ImageSearch | None = None,
    resolve: Resolve = resolve_by_system,
    ssl_context: ssl.SSLContext | None = None,
) -> GatherResult:
    """Fill DEST with a folder of pictures per class, and `sources.csv`: where each picture came from.

    What cannot be had is refused by name and the rest gathered. May be killed at any time: the same call goes on,
    and asks for no picture twice. `search` takes the place of ddgs. Raises InvalidConfig, InvalidInput, NotFound,
    Conflict (another run fills DEST, or it has a labels.csv) or MissingExtra.
    """
    begun = time.perf_counter()
    settings = load_settings() if settings is None else settings
    progress = SilentProgress() if progress is None else progress
    classes = tuple(dict.fromkeys(check_class_name(name, field="--class") for name in config.classes))
    if config.search and search is None:
        search = DdgsSearch()
    wanted, notes = _list_wanted(config, classes)
    labels = list(dict.fromkeys([*classes, *sorted({one.label for one in wanted})]))
    _check_folders(config, labels)
    with GatherFolder(config.dest, anew=config.retry_refused) as folder:
        if config.search and search is not None:
            wanted += _search(config, classes, folder, search, progress, notes)
        wanted = list({(one.label, one.url): one for one in reversed(wanted)}.values())[::-1]
        tallies = {label: ClassTally(label=label) for label in labels}
        for one in wanted:
            tallies[one.label].asked += 1
        run = GatherRun(config, settings, folder, resolve=resolve, ssl_context=ssl_context)
        refused: list[tuple[Wanted, Refusal]] = []
        for one, outcome in run.go(wanted, progress):
            _count(tallies[one.label], outcome)
            if isinstance(outcome, Refusal):
                refused.append((one, outcome))
        shared = folder.find_shared()
    if shared:
        notes.append(f"The same picture stands in several classes, {len(shared):,} times; --json lists them.")
    n_private = sum(refusal.limit == "allow-private false" for _, refusal in refused)
    if n_private:
        notes.append(f"Addresses that lead into no public network: {n_private:,}; if they are yours, --allow-private.")
    notes += [f"Nothing was asked for in class {label!r}." for label in labels if not tallies[label].asked]
    if config.search:
        notes.append(
            "A picture from a search is not free to use: what you may do with it, its page says (sources.csv, source)."
        )
    order = {(one.label, one.url): number for number, one in enumerate(wanted)}
    return GatherResult(
        dest=config.dest,
        classes=tuple(tallies.values()),
        refused=tuple(sorted(refused, key=lambda pair: order[pair[0].label, pair[0].url])),
        shared=tuple(shared),
        notes=tuple(notes),
        seconds=time.perf_counter() - begun,
    )


def _list_wanted(config: GatherConfig, classes: Sequence[str]) -> tuple[list[Wanted], list[str]]:
    """What the list and the folder ask for, of the classes named."""
    wanted: list[Wanted] = []
    notes: list[str] = []
    if config.urls is not None:
        rows, notes = read_url_list(config.urls)
        wanted += [row for row in rows if not classes or row.label in classes]
        if len(wanted) < len(rows):
            notes.append(f"Rows of {config.urls.name} in other classes, left alone: {len(rows) - len(wanted):,}.")
    if config.folder is not None:
        here, there = config.dest.resolve(), config.folder.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise InvalidInput("--from", got=f"{config.folder}, within DEST or around it", want="a folder apart")
        wanted += list_folder(config.folder, classes)
    return wanted, notes


def _check_folders(config: GatherConfig, labels: Sequence[str]) -> None:
    """A real folder for each class, or a free place; no two whose folders are one on a Mac or on Windows."""
    for label in labels:
        check_class_folder(config.dest, label)
    there = [entry.name for entry in config.dest.iterdir() if entry.is_dir()] if config.dest.is_dir() else []
    known: dict[str, str] = {}
    for name in [*labels, *there]:
        if known.setdefault(name.casefold(), name) != name:
            raise Conflict(
                "--class",
                got=f"{known[name.casefold()]!r} and {name!r}",
                want="classes that differ in more than capital letters",
                hint="On some systems their folders would be one.",
            )


def _search(
    config: GatherConfig,
    classes: Sequence[str],
    folder: GatherFolder,
    search: ImageSearch,
    progress: Progress,
    notes: list[str],
) -> list[Wanted]:
    """The answers of the search engine for each class that is not full; a search that fails is noted.

    Raises Unavailable where all fail.
    """
    most = config.max_per_class or _SEARCH_MAX
    there = folder.count_labels()
    wanted: list[Wanted] = []
    failures: list[Unavailable] = []
    for label in classes:
        if there[label] >= most:
            continue
        query = config.query.replace("{class}", label)
        progress.say(f"searching for {query!r}")
        try:
            answers = search.find(query, most=math.ceil(most * _SEARCH_SPARE))
        except Unavailable as exc:
            failures.append(exc)
            notes.append(f"Class {label!r}: {exc.message}")
            continue
        found_by = f"search {search.name}: {query}"
        wanted += [
            Wanted(url=spell_url(answer.url), label=label, source=answer.page, found_by=found_by) for answer in answers
        ]
    if failures and not wanted and config.urls is None and config.folder is None:
        raise failures[0]
    return wanted


def _count(tally: ClassTally, outcome: Outcome) -> None:
    if isinstance(outcome, Refusal):
        tally.refused[outcome.reason] += 1
    elif outcome is Standing.GATHERED:
        tally.gathered += 1
    elif outcome is Standing.COPY:
        tally.copies += 1
    elif outcome is Standing.ALREADY_THERE:
        tally.already_there += 1
    else:
        tally.left_over += 1
