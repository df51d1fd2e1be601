"""The folder that a gathering fills: pictures under content-addressed names, and where each came from."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from drivetrain.data.items import LABELS_FILE
from drivetrain.errors import Conflict, InvalidInput

from .append_table import AppendTable
from .refusal import Refusal, Refused
from .wanted import Wanted

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: two runs at once on one folder are not noticed there
    fcntl = None  # type: ignore[assignment]

__all__ = ["REFUSED_FILE", "SOURCES_FILE", "GatherFolder", "Picture", "check_class_folder"]

SOURCES_FILE, REFUSED_FILE = "sources.csv", "refused.csv"
_SOURCES = (
    "path", "class", "url", "final_url", "time", "licence", "source", "found_by", "sha256", "bytes", "width", "height",
)  # fmt: skip
_REFUSED = ("url", "class", "time", "reason", "detail", "limit")
_NAME_CHARS = 20  # 80 bits of the sha256: no two pictures of one class will share them
_ASIDE = ".gather"  # hidden, so that no reader looks for pictures there
_SUFFIX_OF = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture's bytes, known to decode whole."""

    data: bytes
    format: str  # Pillow's name of it
    width: int
    height: int
    final_url: str  # after redirects


class GatherFolder:
    """DEST of `drivetrain gather`; safe to call from many threads, and to kill.

    A row stands in sources.csv before its picture has its name, and the picture lies complete on the disk before
    that: whatever moment a run is killed at, the next one finishes the move and asks for nothing twice. `anew` forgets
    what was refused before, and which pictures were deleted since.
    """

    def __init__(
        self, root: Path, *, anew: bool = False, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.root = root
        self._anew = anew
        self._now = now
        self._lock = threading.Lock()
        self._is_open = True
        self._is_broken = False  # a picture that is on record could not be given its name
        self._check_root()
        self._is_made_here = not root.exists()
        self._aside = root / _ASIDE
        self._aside.mkdir(parents=True, exist_ok=True)
        self._held = _hold(self._aside / "lock", root)
        try:
            self._sources = AppendTable(root / SOURCES_FILE, _SOURCES)
            self._refused = AppendTable(root / REFUSED_FILE, _REFUSED)
        except BaseException:
            self._held.close()
            raise
        self._paths: dict[tuple[str, str], str] = {}  # (class, url) -> path, "" where its file was deleted since
        self._path_of_url: dict[str, tuple[str, str]] = {}  # url -> (path, final url) of a file that is there
        self._homes: defaultdict[str, dict[str, str]] = defaultdict(dict)  # sha256 -> class -> path
        self._deleted: set[tuple[str, str]] = set()  # (class, sha256)
        self._refusals: dict[tuple[str, str], Refusal] = {}
        for row in self._sources.rows:
            self._recall(row)
        for row in () if anew else self._refused.rows:
            self._refusals[row.get("class", ""), row.get("url", "")] = Refusal(
                reason=row.get("reason", ""), detail=row.get("detail", ""), limit=row.get("limit", "")
            )
        self._sweep()

    def __enter__(self) -> GatherFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Bring the tables to the disk; a thread that still comes with a picture finds the folder closed."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                try:
                    self._sources.close()
                    self._refused.close()
                finally:
                    self._let_go()

    def find(self, wanted: Wanted) -> str | None:
        """Where the picture of this address lies in its class, from the root; "" if deleted since, None if unknown."""
        return self._paths.get((wanted.label, wanted.url))

    def find_refusal(self, wanted: Wanted) -> Refusal | None:
        """Why the address was refused before."""
        return self._refusals.get((wanted.label, wanted.url))

    def count_labels(self) -> Counter[str]:
        """Pictures on record that are there, per class."""
        return Counter(label for homes in self._homes.values() for label in homes)

    def read_known(self, url: str) -> tuple[bytes, str] | None:
        """The bytes of an address that was gathered for another class, and its final address; unchanged since."""
        with self._lock:
            path, final_url = self._path_of_url.get(url, ("", ""))
        if not path:
            return None
        try:
            data = (self.root / path).read_bytes()
        except OSError:
            return None
        is_same = hashlib.sha256(data).hexdigest() in self._homes
        return (data, final_url) if is_same else None

    def keep(self, wanted: Wanted, picture: Picture) -> tuple[str, bool]:
        """Put the picture into its class: (path from the root, whether it is new there).

        The same bytes are kept once in a class, with a row for every address they came from. Raises Refused for a
        picture that was deleted from the class since it was gathered.
        """
        digest = hashlib.sha256(picture.data).hexdigest()
        with self._lock:
            known = self._homes[digest].get(wanted.label)
        name = f"{digest[:_NAME_CHARS]}{_SUFFIX_OF[picture.format]}"
        path = known or f"{wanted.label}/{name}"
        aside = self._aside / f"{digest}.{threading.get_ident()}.part"
        if known is None:
            _write_synced(aside, picture.data)
        is_moved = True
        try:
            with self._lock:
                self._check_open()
                check_class_folder(self.root, wanted.label)
                if (wanted.label, digest) in self._deleted:
                    raise Refused(Refusal(reason="removed", detail="the same picture was deleted from the class"))
                is_new = wanted.label not in self._homes[digest]
                if is_new:
                    (self.root / wanted.label).mkdir(exist_ok=True)
                self._sources.append(self._row(wanted, picture, path=path, digest=digest))
                self._note(wanted.label, wanted.url, path=path, digest=digest, final_url=picture.final_url)
                if is_new:
                    is_moved = False
                    aside.replace(self.root / path)
                    is_moved = True
        finally:
            if is_moved:
                aside.unlink(missing_ok=True)
            else:  # it is on record: the next run finishes the move
                self._is_broken = True
        return path, is_new

    def refuse(self, wanted: Wanted, refusal: Refusal) -> None:
        """Remember why an address gave no picture."""
        with self._lock:
            self._check_open()
            if self._refusals.get((wanted.label, wanted.url)) == refusal:
                return
            self._refusals[wanted.label, wanted.url] = refusal
            row = {"reason": refusal.reason, "detail": refusal.detail, "limit": refusal.limit}
            self._refused.append({"url": wanted.url, "class": wanted.label, "time": self._time(), **row})

    def find_shared(self) -> list[tuple[str, ...]]:
        """Pictures that stand in more than one class: the paths of each."""
        return sorted(tuple(sorted(homes.values())) for homes in self._homes.values() if len(homes) > 1)

    def _row(self, wanted: Wanted, picture: Picture, *, path: str, digest: str) -> dict[str, str]:
        return {
            "path": path,
            "class": wanted.label,
            "url": wanted.url,
            "final_url": picture.final_url,
            "time": self._time(),
            "licence": wanted.licence,
            "source": wanted.source,
            "found_by": wanted.found_by,
            "sha256": digest,
            "bytes": str(len(picture.data)),
            "width": str(picture.width),
            "height": str(picture.height),
        }

    def _time(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _note(self, label: str, url: str, *, path: str, digest: str, final_url: str) -> None:
        self._paths[label, url] = path
        self._path_of_url.setdefault(url, (path, final_url))
        self._homes[digest][label] = path

    def _recall(self, row: dict[str, str]) -> None:
        """Take up a row of an earlier run, and finish the move of a picture that was killed just before it."""
        path, label, url, digest = (row.get(name, "") for name in ("path", "class", "url", "sha256"))
        steps = path.split("/")
        if not label or len(steps) < 2 or ".." in steps or Path(path).is_absolute():
            return  # a row that a person changed beyond use
        file = self.root / path
        if not file.is_file():
            is_inside = file.parent.resolve().is_relative_to(self.root.resolve())
            for part in self._aside.glob(f"{digest}.*.part") if digest.isalnum() and is_inside else ():
                if hashlib.sha256(part.read_bytes()).hexdigest() == digest:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    part.replace(file)
                    break
            else:
                if not self._anew:
                    self._paths.setdefault((label, url), "")
                    self._deleted.add((label, digest))
                return
        self._note(label, url, path=path, digest=digest, final_url=row.get("final_url", ""))

    def _sweep(self) -> None:
        """Throw away what a killed run had begun and not recorded."""
        for part in self._aside.glob("*.part"):
            part.unlink()

    def _check_root(self) -> None:
        if self.root.exists() and not self.root.is_dir():
            raise InvalidInput("DEST", got=f"{self.root}, a file", want="a folder")
        if (self.root / LABELS_FILE).exists():
            raise Conflict(
                "DEST",
                got=f"{self.root} with {LABELS_FILE}",
                want="a folder whose classes are its folders",
                hint=f"{LABELS_FILE} goes before folders, so nothing gathered there would be read. Gather elsewhere.",
            )

        for name in (_ASIDE, SOURCES_FILE, REFUSED_FILE):
            if (self.root / name).is_symlink():
                raise _link_in(self.root, name)

    def _let_go(self) -> None:
        """Leave nothing behind that only a run needs."""
        if not self._is_broken:
            for part in self._aside.glob("*.part"):  # of threads that are not done yet
                part.unlink(missing_ok=True)
        (self._aside / "lock").unlink(missing_ok=True)
        self._held.close()
        with suppress(OSError):
            self._aside.rmdir()
            if self._is_made_here:
                self.root.rmdir()  # goes only where nothing was gathered and nothing refused

    def _check_open(self) -> None:
        if not self._is_open:
            raise Conflict("DEST", got="a picture after the end", want="an open folder")


def check_class_folder(root: Path, label: str) -> None:
    """Raises Conflict where something else than a folder stands in the place of a class."""
    place = root / label
    if place.is_symlink():
        raise _link_in(root, label)
    if place.exists() and not place.is_dir():
        raise Conflict("DEST", got=f"{place}, a file", want=f"a folder, or nothing, where class {label!r} goes")


def _link_in(root: Path, name: str) -> Conflict:
    return Conflict(
        "DEST",
        got=f"{root / name}, a link",
        want="a real one: who made the link would choose where we write",
        hint="DEST itself may be a link.",
    )


def _hold(file: Path, root: Path) -> BinaryIO:
    """Keep others out as long as this file is open; the system lets go of it when the process ends, however it ends."""
    try:
        # a link put there by others would have its target emptied
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        held = os.fdopen(os.open(file, flags, 0o666), "r+b")
    except FileNotFoundError:  # the run that ended just now has deleted the folder around it
        raise _busy(root) from None
    try:
        if fcntl is not None:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.fstat(held.fileno()).st_nlink > 0  # or the run that ended just now has deleted it
    except OSError:
        is_ours = False
    if not is_ours:
        held.close()
        raise _busy(root)
    return held


def _busy(root: Path) -> Conflict:
    return Conflict("DEST", got=f"{root}, which another run is filling", want="one run at a time")


def _write_synced(file: Path, data: bytes) -> None:
    try:
        with file.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
    except OSError as exc:
        file.unlink(missing_ok=True)
        exc.filename = exc.filename or str(file)  # a full disk says no name
        raise
