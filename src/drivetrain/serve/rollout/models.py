"""The versions that roll-outs ask for, loaded beside what the server was started with."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from drivetrain.errors import DrivetrainError
from drivetrain.serve.registry import ModelRegistry

from .live import Arrangement

__all__ = ["Models"]

_RETRY_S = 10.0
_log = logging.getLogger("drivetrain.serve")


class Models:
    """For one thread. What it loaded, it also lets go."""

    def __init__(self, registry: ModelRegistry, *, on_missing: Callable[[str, str, str], None]) -> None:
        self._registry = registry
        self._on_missing = on_missing  # model, version, why
        self._ours: dict[str, str] = {}  # version -> model
        self._seen: set[str] = set()  # models that were ever served here
        self._failed: dict[str, float] = {}  # version -> when to try again

    def settle(self, arrangements: Iterable[Arrangement], paths: Mapping[str, str]) -> None:
        """Load, promote and let go until it is so. What cannot be loaded is told, and tried again later."""
        wanted: set[str] = set()
        for one in arrangements:
            if not self._is_served(one.model):
                continue
            now = self._newest(one.model)
            promoted = one.newest if now is None or now in one.known else None
            for version in dict.fromkeys(v for v in (one.newest, *one.aside) if v is not None):
                if version == one.newest and not one.aside and promoted is None:
                    continue  # it is over, and the operator serves something that it never spoke of
                wanted.add(version)
                self._load(one.model, version, paths)
            if promoted is not None and promoted != now and self._registry.has(promoted):
                self._registry.promote(promoted)
        self._let_go(wanted)
        self._seen |= set(self._registry.names())

    def _is_served(self, model: str) -> bool:
        """A model that this server was not started with is another server's; one without any takes all."""
        names = self._registry.names()
        return model in names or (model not in self._seen and not set(names) - set(self._ours.values()))

    def _newest(self, model: str) -> str | None:
        if model not in self._registry.names():
            return None
        return self._registry.versions(model)[-1].version

    def _load(self, model: str, version: str, paths: Mapping[str, str]) -> None:
        if self._registry.has(version):
            return
        if time.monotonic() < self._failed.get(version, 0.0):
            return
        before = _resident_mb()
        try:
            path = paths.get(version)
            if path is None:
                raise LookupError("no file is registered for it")
            served = self._registry.put_aside(Path(path), version=version)
        except Exception as exc:  # the edge of a thread: the incumbent goes on
            self._failed[version] = time.monotonic() + _RETRY_S
            why = exc.message if isinstance(exc, DrivetrainError) else str(exc) or type(exc).__name__
            self._on_missing(model, version, why)
            return
        self._failed.pop(version, None)
        self._ours[served.version] = model
        more = _resident_mb() - before
        _log.info("%s is loaded beside what answers, for its roll-out (%+.0f MB)", version, more)

    def _let_go(self, wanted: set[str]) -> None:
        for version, model in list(self._ours.items()):
            is_newest = self._registry.has(version) and self._newest(model) == version
            if version not in wanted and not is_newest:
                self._registry.let_go(version)
                del self._ours[version]
                _log.info("%s is let go: its roll-out is over", version)


def _resident_mb() -> float:
    """What this process holds of memory; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
