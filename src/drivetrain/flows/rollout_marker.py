"""Rolled back while the database could not be written: a file that servers obey at once, entered later.

`NAME.rolled-back` stands beside an SQLite file; with PostgreSQL in `rollouts` of the cache folder of each machine.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from drivetrain.errors import InvalidInput, Unavailable
from drivetrain.files import write_whole
from drivetrain.store.database import parse_url

__all__ = ["Marker", "find_marker_folder", "read_markers", "remove_marker", "write_marker"]

_SUFFIX = ".rolled-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """Who took a roll-out back, when and why. It holds for what was started before."""

    name: str
    by: str
    reason: str
    at: float  # seconds UTC
    path: Path


def find_marker_folder(url: str, *, cache_dir: Path) -> Path:
    """Where the files of this database stand."""
    parsed = parse_url(url)
    if parsed.drivername == "sqlite" and parsed.database:
        return Path(parsed.database).parent
    return cache_dir / "rollouts"


def write_marker(folder: Path, name: str, *, by: str, reason: str, at: float) -> Marker:
    """The file, whole; a later one takes its place."""
    if not name or any(not (c.isascii() and (c.isalnum() or c in "-_")) for c in name):
        raise InvalidInput("name", got=name, want="letters, digits, - and _")
    path = folder / f"{name}{_SUFFIX}"
    marker = Marker(name=name, by=by, reason=reason, at=at, path=path)
    text = json.dumps({key: value for key, value in asdict(marker).items() if key != "path"})
    try:
        write_whole(path, text.encode())
    except OSError as exc:
        raise Unavailable(
            "rollback",
            got=f"{path}: {exc.strerror or exc}",
            want="a database or a folder beside it that can be written",
            hint="Stop the server, or serve the incumbent alone.",
        ) from None
    return marker


def read_markers(folder: Path) -> list[Marker]:
    """All there are, by name. One that cannot be read holds for all that was started before it was written."""
    found = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            at = path.stat().st_mtime
            raw = json.loads(path.read_bytes())
            found.append(Marker(name=raw["name"], by=raw["by"], reason=raw["reason"], at=float(raw["at"]), path=path))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):  # to stop is safe; who and why is lost
            name = path.name.removesuffix(_SUFFIX)
            found.append(Marker(name=name, by="unknown", reason="a file that cannot be read", at=at, path=path))
    return found


def remove_marker(marker: Marker) -> None:
    """Once it is entered."""
    marker.path.unlink(missing_ok=True)
