"""The one folder from which models are loaded while the server runs: by the name of a file, never by a path."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from drivetrain.errors import BundleRefused, DrivetrainError, NotFound

__all__ = ["FileState", "ModelFolder"]

FileState = Literal["LOADING", "UNAVAILABLE"]

_SUFFIX = ".dt"
_FILE_NAME = re.compile(r"[^./\\\x00-\x1f\x7f][^/\\\x00-\x1f\x7f]{0,199}")  # no path, nothing hidden


class ModelFolder:
    """Finds files, and remembers what became of those that did not load. No error tells where the folder is."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._states: dict[str, tuple[FileState, str]] = {}

    def find(self, file_name: str) -> Path:
        """The file of this name, without its suffix. Raises NotFound."""
        if self._path is None:
            hint = "Start the server with --models FOLDER to allow it."
            raise NotFound("model", got=file_name, want="a folder to load from, which this server has not", hint=hint)
        path = self._path / f"{file_name}{_SUFFIX}"
        if not _FILE_NAME.fullmatch(file_name) or not path.is_file():
            raise _no_file(file_name)
        return path

    @contextmanager
    def loading(self, path: Path) -> Iterator[None]:
        """Around reading the file: its state is known meanwhile, and so is its reason where it fails."""
        self._note(path, ("LOADING", ""))
        failed: tuple[FileState, str] | None = ("UNAVAILABLE", "the server failed on it")
        try:
            yield
            failed = None
        except BundleRefused as exc:
            failed = ("UNAVAILABLE", exc.code)
            field = path.name if exc.field == str(path) else exc.field
            got = exc.got.replace(str(path), path.name)
            raise BundleRefused(exc.code, field, got=got, want=exc.want, hint=exc.hint) from None
        except NotFound:
            failed = ("UNAVAILABLE", "no such file")
            raise _no_file(path.stem) from None
        except DrivetrainError as exc:
            failed = ("UNAVAILABLE", exc.code)
            raise
        finally:
            self._note(path, failed)

    def files(self) -> list[tuple[Path, FileState, str]]:
        """Each file with its state and the reason, by name."""
        found = [] if self._path is None else sorted(self._path.glob(f"*{_SUFFIX}"))
        with self._lock:
            states = dict(self._states)
        return [(path, *states.get(path.stem, ("UNAVAILABLE", "not loaded"))) for path in found]

    def has_failed(self, path: Path) -> bool:
        """Whether the last try to load it failed, or goes on."""
        with self._lock:
            return path.stem in self._states

    def _note(self, path: Path, state: tuple[FileState, str] | None) -> None:
        with self._lock:
            self._states.pop(path.stem, None)
            if state is not None:
                self._states[path.stem] = state


def _no_file(file_name: str) -> NotFound:
    hint = "POST /v2/repository/index lists them."
    return NotFound("model", got=file_name, want=f"the name of a {_SUFFIX} file in the folder of models", hint=hint)
