"""What the server writes of itself: one line a request and one an event, as text or JSON, and never a secret."""

from __future__ import annotations

import json
import logging
import queue
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from typing import Any, TextIO

from drivetrain.errors import InvalidConfig

__all__ = ["LOG_FORMATS", "check_log_format", "log_access", "open_logs", "request_in_hand", "without_secrets"]

LOG_FORMATS = ("text", "json")
_NAMES = ("drivetrain", "uvicorn.error")
_WAITING_MAX = 10_000  # lines; more are dropped and counted: a reader that has stopped must not stop the server
_FLUSH_S = 2.0
_GATHER_S = 0.05  # lines wait so long for others, warnings do not: a thread that wakes for each disturbs those at work
_LINE_MAX_CHARS = 32_000  # a traceback may be long, a hostile one without end

# What a secret looks like, wherever it stands: a key of ours, a header that carries one, a cookie, a password in a URL.
_SECRETS = (
    (re.compile(r"\bdt_([A-Za-z0-9]+)_[A-Za-z0-9_-]{8,}"), r"dt_\1_***"),
    (re.compile(r"(?i)\b(authorization|x-api-key|cookie|set-cookie|x-csrf-token)(['\"]?\s*[:=]\s*).*"), r"\1\2***"),
    (re.compile(r"(?i)\bbearer\s+[^\s'\"]+"), "Bearer ***"),
    (re.compile(r"(?i)\b(drivetrain_session|password|passwd|secret|token|csrf)=[^\s;&'\"]+"), r"\1=***"),
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@"), r"\1:***@"),
)

_in_hand: ContextVar[Mapping[str, Any] | None] = ContextVar("drivetrain_request", default=None)
_access = logging.getLogger("drivetrain.access")


def check_log_format(name: str) -> str:
    """The name, or InvalidConfig."""
    if name not in LOG_FORMATS:
        raise InvalidConfig("log_format", got=name, want=" or ".join(LOG_FORMATS))
    return name


def without_secrets(text: str) -> str:
    """The text with what looks like a key, a cookie, or the password of a URL starred out."""
    for pattern, shown in _SECRETS:
        text = pattern.sub(shown, text)
    return text


@contextmanager
def request_in_hand(scope: Mapping[str, Any]) -> Iterator[None]:
    """Lines written within bear this request's id."""
    mark = _in_hand.set(scope)
    try:
        yield
    finally:
        _in_hand.reset(mark)


def log_access(fields: Mapping[str, str | int | float]) -> None:
    """The one line of a request: `method`, `route`, `status`, `seconds`, `caller`; nothing that the client chose."""
    if _access.isEnabledFor(logging.INFO):  # as `info` would, without a search of the stack for who calls
        _access.handle(
            _access.makeRecord(_access.name, logging.INFO, "", 0, "request", (), None, "", {"fields": fields})
        )


@contextmanager
def open_logs(log_format: str, *, stream: TextIO | None = None, worker: int | None = None) -> Iterator[None]:
    """Write the server's lines to `stream` (stderr) until the block ends; `worker` stands in each where it is given.

    Lines are written by a thread of their own: the loop that answers never waits for whoever reads them.
    """
    formatter = _JsonLines(worker) if check_log_format(log_format) == "json" else _TextLines(worker)
    writer = _Writer(stream or sys.stderr, formatter)
    handler = _Hand(writer)
    loggers = [logging.getLogger(name) for name in _NAMES]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.INFO if logger.name == "drivetrain" else logging.WARNING)
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate
        writer.close(handler.dropped)


class _Hand(QueueHandler):
    """Takes a line where it is written; counts those for which there is no room."""

    def __init__(self, writer: _Writer) -> None:
        super().__init__(writer.waiting)
        self.dropped = 0
        self._waiting = writer.waiting
        self._hurry = writer.hurry

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        scope = _in_hand.get()
        if scope is not None:
            record.request_id = scope.get("state", {}).get("request_id")
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._waiting.qsize() < _WAITING_MAX:
            self._waiting.put(record)
            if record.levelno >= logging.WARNING:
                self._hurry.set()
        else:
            self.dropped += 1


class _Writer:
    """The thread that writes."""

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        self.waiting: queue.SimpleQueue[logging.LogRecord | None] = queue.SimpleQueue()  # bounded by _Hand
        self.hurry = threading.Event()  # write what there is at once
        self._stream = stream
        self._formatter = formatter
        self._thread = threading.Thread(target=self._run, name="drivetrain-logs", daemon=True)
        self._thread.start()

    def close(self, dropped: int) -> None:
        """Write what waits; a stream that takes nothing is left after a moment."""
        if dropped:
            self.waiting.put(
                logging.LogRecord("drivetrain.logs", logging.WARNING, "", 0, "%d lines were dropped", (dropped,), None)
            )
        self.waiting.put(None)  # there is always room for the end, or the thread would wait for ever
        self.hurry.set()
        self._thread.join(_FLUSH_S)

    def _run(self) -> None:
        is_over = False
        while not is_over:
            records = [self.waiting.get()]
            self.hurry.wait(_GATHER_S)
            self.hurry.clear()
            while not self.waiting.empty():
                records.append(self.waiting.get())
            is_over = records[-1] is None
            lines = [self._formatter.format(record) + "\n" for record in records if record is not None]
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except (OSError, ValueError):  # closed, or its reader has left: nobody to tell
                continue


class _Lines(logging.Formatter):
    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = worker

    def fields_of(self, record: logging.LogRecord) -> dict[str, Any]:
        """What a line tells beside its message."""
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        if request_id := getattr(record, "request_id", None):
            fields.setdefault("request_id", request_id)
        if self._worker is not None:
            fields["worker"] = self._worker
        return fields

    def time_of(self, record: logging.LogRecord) -> str:
        """UTC, to the millisecond."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _JsonLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage())[:_LINE_MAX_CHARS],
            **self.fields_of(record),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = without_secrets(self.formatException(record.exc_info))[-_LINE_MAX_CHARS:]
        return json.dumps(line, ensure_ascii=True, default=str)  # a line feed or an escape in it cannot act


class _TextLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        fields = self.fields_of(record)
        head = f"{self.time_of(record)} {record.levelname.lower():<7}"
        if record.name == _access.name:
            parts = [str(fields.pop(name)) for name in ("method", "route", "status") if name in fields]
            message = " ".join(parts)
        else:
            message = _one_line(without_secrets(record.getMessage())[:_LINE_MAX_CHARS])
        told = "".join(f" {name}={value}" for name, value in fields.items())
        line = f"{head} {message}{told}"
        if record.exc_info and record.exc_info[0]:
            line += "\n" + without_secrets(self.formatException(record.exc_info))[-_LINE_MAX_CHARS:]
        return line


def _one_line(text: str) -> str:
    """A picture's name may hold a line feed, and must not write lines of its own."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
