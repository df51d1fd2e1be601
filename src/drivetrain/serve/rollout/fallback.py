"""The last roll-outs that were read, on disk: obeyed where the database cannot be read."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from drivetrain.files import write_whole
from drivetrain.store.deployments import Deployment

__all__ = ["LastKnown"]

_DATABASES_MAX = 16
_log = logging.getLogger("drivetrain.serve")


class LastKnown:
    """`deployments.json` in the cache folder; several databases stand in it side by side."""

    def __init__(self, folder: Path, *, url: str) -> None:
        self._path = folder / "deployments.json"
        self._url = url  # without a password

    def write(self, deployments: Sequence[Deployment], paths: Mapping[str, str]) -> None:
        """Whole or not at all. Where it cannot be written, that is logged."""
        ours = {
            "deployments": [asdict(one) | {"config": dict(one.config)} for one in deployments],
            "paths": dict(paths),
        }
        try:
            every = self._all()
            if every.get(self._url, {"deployments": [], "paths": {}}) == ours:
                return
            others = {url: known for url, known in every.items() if url != self._url}
            kept = dict(list(others.items())[1 - _DATABASES_MAX :])  # the newest last
            write_whole(self._path, json.dumps(kept | {self._url: ours}).encode())
        except OSError as exc:
            _log.warning("%s cannot be written (%s): without it, roll-outs need the database", self._path, exc.strerror)

    def read(self) -> tuple[list[Deployment], dict[str, str]]:
        """(roll-outs, version -> file); nothing where there is none, or what another version wrote."""
        found = self._all().get(self._url)
        try:
            return [Deployment(**one) for one in found["deployments"]], dict(found["paths"])  # type: ignore[index]
        except (TypeError, KeyError):
            return [], {}

    def _all(self) -> dict[str, object]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
