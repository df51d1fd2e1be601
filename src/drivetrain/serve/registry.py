"""Which models answer: several at once, in versions, loaded and swapped while requests run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from drivetrain.errors import NotFound, Unavailable

from .model import PredictorModel, ServedModel
from .model_folder import ModelFolder

if TYPE_CHECKING:
    from concurrent.futures import Future

    from drivetrain.arrays import FloatArray
    from drivetrain.runtime.batch_types import PictureJob
    from drivetrain.runtime.prediction import Answer
    from drivetrain.runtime.predictor import Predictor

__all__ = ["Batching", "IndexRow", "ModelRegistry", "Served", "predictor_of"]

_DRAIN_S = 60.0  # what holds an old version for longer ends with it


class Batching(Protocol):
    """What answers a model's pictures: a Batcher, or a fake in tests. Closed after the model's last request."""

    @property
    def pending(self) -> int:
        """Pictures in work or waiting."""
        ...

    def why_not_ready(self) -> str | None: ...

    def check_room(self, pictures: int = 1) -> None:
        """Raises QueueFull where so many more find no place."""
        ...

    def submit(self, pictures: Sequence[PictureJob], *, deadline_s: float | None = None) -> list[Future[Answer]]: ...

    def submit_pixels(self, pixels: FloatArray, *, deadline_s: float | None = None) -> Sequence[Future[Answer]]: ...

    def close(self, *, drain_s: float) -> None:
        """Take no more, end what is in hand within `drain_s`. A second call does nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One version of one model, ready."""

    model: ServedModel
    batcher: Batching
    path: Path | None  # the file it came from
    loaded_at: float  # seconds since 1970

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def version(self) -> str:
        """As in answers: `bears@0123456789ab`."""
        return self.model.version

    @property
    def digest(self) -> str:
        """The version without the name: what the protocol calls a version."""
        return self.model.version.rpartition("@")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow:
    """One row of the repository's index; `version` is empty where the file has not been loaded."""

    name: str  # of the model; of the file until it is loaded
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str
    file: str  # without its suffix: what `load_named` takes; empty where it does not lie in the folder


@dataclass(slots=True, eq=False)
class _Slot:
    """A version and how many requests hold it."""

    served: Served
    holds: int = 0
    is_retired: bool = False
    is_aside: bool = False  # for a roll-out: where it is not ready, others answer in its place
    is_free: threading.Event = field(default_factory=threading.Event)  # retired, and nobody holds it


class ModelRegistry:
    """Safe to call from every thread. The first name that was added is the default until all of it is unloaded.

    `load` proves a file before anyone is sent to it; a request holds the version that it began with.
    """

    def __init__(
        self,
        *,
        open_model: Callable[[Path], ServedModel],
        open_batcher: Callable[[ServedModel], Batching],
        folder: Path | None = None,
        drain_s: float = _DRAIN_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = folder  # the only place from which the API loads
        self._files = ModelFolder(folder)
        self._open_model = open_model
        self._open_batcher = open_batcher
        self._drain_s = drain_s
        self._clock = clock
        self._lock = threading.Lock()  # held for moments
        self._loading = threading.Lock()  # one file is proved at a time: it takes all cores and much memory
        self._live: dict[str, list[_Slot]] = {}  # newest last
        self._default: str | None = None
        self._retiring: list[threading.Thread] = []
        self._is_closed = False

    # what answers

    def get(self, name: str | None = None, version: str | None = None) -> Served:
        """The version asked for, else the newest of `name`, else of the default model.

        `version` may be the digest alone or, as in answers, `name@digest`. Raises NotFound, or Unavailable where no
        model is loaded at all.
        """
        with self._lock:
            return self._find(name, version).served

    @contextmanager
    def hold(self, name: str | None = None, version: str | None = None) -> Iterator[Served]:
        """As `get`; it stays open until the block ends, even if it is swapped or unloaded meanwhile."""
        with self._lock:
            slot = self._find(name, version)
            slot.holds += 1
        try:
            yield slot.served
        finally:
            with self._lock:
                slot.holds -= 1
                self._free_if_done(slot)

    @property
    def default(self) -> str | None:
        """The model that answers when none is named."""
        return self._default

    def names(self) -> list[str]:
        """The models that answer, the default first."""
        with self._lock:
            return sorted(self._live, key=lambda name: (name != self._default, name))

    def all(self) -> list[Served]:
        """Every version that answers, by name, newest last."""
        with self._lock:
            return [slot.served for name in sorted(self._live) for slot in self._live[name]]

    def versions(self, name: str) -> list[Served]:
        """The versions of a model, newest last. Raises NotFound."""
        with self._lock:
            newest = self._find(name, None)
            return [slot.served for slot in self._live[newest.served.name]]

    def why_not_ready(self) -> str | None:
        """None when every model answers; else the reason, for a person."""
        if self._is_closed:
            return "the server is shutting down"
        with self._lock:
            slots = [slot for name in sorted(self._live) for slot in self._live[name]]
        if not slots:
            return "no model is loaded"
        served = [slot.served for slot in slots if not slot.is_aside]
        reasons = ((one, one.batcher.why_not_ready()) for one in served)
        return next((f"{one.version}: {why}" for one, why in reasons if why is not None), None)

    # what changes

    def add(self, model: ServedModel, *, path: Path | None = None, keep: bool = False) -> Served:
        """Let a proved model answer; it takes the place of what bears its name, or with `keep` stands beside it."""
        path = None if path is None else path.resolve()
        served = Served(model=model, batcher=self._open_batcher(model), path=path, loaded_at=self._clock())
        slot = _Slot(served)
        with self._lock:
            if self._is_closed:
                old, refused = [slot], True
            else:
                before, refused = self._live.get(served.name, []), False
                old = [one for one in before if not keep or one.served.version == served.version]
                self._live[served.name] = [*(one for one in before if one not in old), slot]
                self._default = self._default or served.name
            self._retire(old)
        if refused:
            raise Unavailable("server", got="a model", want="one before shutdown")
        return served

    def load(self, path: Path, *, keep: bool = False) -> Served:
        """Read, prove and warm a file, then let it answer; raises what reading it raises, with nothing changed."""
        with self._loading:
            return self.add(self._open_model(path), path=path, keep=keep)

    def load_named(self, file_name: str, *, keep: bool = False) -> Served:
        """`load` of `file_name`.dt in the folder that the API may load from; no error tells where that is."""
        path = self._files.find(file_name)
        with self._files.loading(path):
            return self.load(path, keep=keep)

    # for roll-outs

    def has(self, version: str) -> bool:
        """Whether this version (`name@digest`) is loaded."""
        with self._lock:
            return any(slot.served.version == version for slot in self._live.get(version.rpartition("@")[0], []))

    def put_aside(self, path: Path, *, version: str) -> Served:
        """Load a file beside what answers: whoever names no version does not get it. As `load`, and raises NotFound
        where the file holds another version by now."""
        with self._loading:
            model = self._open_model(path)
            if model.version != version:
                raise NotFound("version", got=f"{model.version} in {path}", want=version)
            served = Served(model=model, batcher=self._open_batcher(model), path=path, loaded_at=self._clock())
            with self._lock:
                is_closed = self._is_closed
                if not is_closed:
                    self._live.setdefault(served.name, []).insert(0, _Slot(served, is_aside=True))
                    self._default = self._default or served.name
            if is_closed:
                served.batcher.close(drain_s=0.0)
                raise Unavailable("server", got="a model", want="one before shutdown")
            return served

    def promote(self, version: str) -> None:
        """It is the one that answers from now on, where no version is named. Raises NotFound."""
        with self._lock:
            slot = self._find(None, version)
            slot.is_aside = False
            slots = self._live[slot.served.name]
            self._live[slot.served.name] = [*(one for one in slots if one is not slot), slot]

    def let_go(self, version: str) -> None:
        """`unload` of one version in this process alone; nothing where it is not loaded."""
        if self.has(version):
            ModelRegistry.unload(self, version.rpartition("@")[0], version)

    def unload(self, name: str, version: str | None = None) -> list[Served]:
        """Send nobody there any more: one version, or all of the name. Raises NotFound."""
        with self._lock:
            is_whole = version is None and name in self._live  # not written as name@digest
            found = self._find(name, version)
            name = found.served.name
            gone = list(self._live[name]) if is_whole else [found]
            left = [slot for slot in self._live[name] if slot not in gone]
            if left:
                self._live[name] = left
            else:
                del self._live[name]
            if not self._live:
                self._default = None
            self._retire(gone)
        return [slot.served for slot in gone]

    def index(self) -> list[IndexRow]:
        """What answers, and what lies in the folder unloaded, by name."""
        rows, served, files = [], self.all(), self._files.files()
        stems: dict[Path | None, str] = {path.resolve(): path.stem for path, _, _ in files}
        for one in served:
            why, file = one.batcher.why_not_ready(), stems.get(one.path, "")
            state: Literal["READY", "UNAVAILABLE"] = "READY" if why is None else "UNAVAILABLE"
            rows.append(IndexRow(name=one.name, version=one.digest, state=state, reason=why or "", file=file))
        loaded = {one.path for one in served}
        for path, of_file, reason in files:
            if path.resolve() not in loaded or self._files.has_failed(path):
                rows.append(IndexRow(name=path.stem, version="", state=of_file, reason=reason, file=path.stem))
        return sorted(rows, key=lambda row: (row.name, row.version))

    def open(self) -> None:
        """Answer again after `close`, with the same models."""
        with self._lock:
            if not self._is_closed:
                return
            self._is_closed = False
            for slots in self._live.values():
                slots[:] = [
                    _Slot(replace(slot.served, batcher=self._open_batcher(slot.served.model)), is_aside=slot.is_aside)
                    for slot in slots
                ]

    def close(self, *, drain_s: float = _DRAIN_S) -> None:
        """Take no more requests; end those in hand within about `drain_s`."""
        with self._lock:
            self._is_closed = True
            slots = [slot for slots in self._live.values() for slot in slots]
            retiring, self._retiring = self._retiring, []
        deadline = time.monotonic() + drain_s
        for slot in slots:
            slot.served.batcher.close(drain_s=max(0.0, deadline - time.monotonic()))
        for thread in retiring:
            thread.join(max(0.0, deadline - time.monotonic()))

    # inside

    def _find(self, name: str | None, version: str | None) -> _Slot:
        """Under the lock."""
        if not self._live:
            hint = "Start again with `drivetrain serve M.dt`, or load one."
            raise Unavailable("model", got="none loaded", want="one", hint=hint)
        if name is None and version is not None and "@" in version:
            name = version.rpartition("@")[0]
        name = self._default if name is None else name
        if name not in self._live and name is not None and "@" in name:  # as answers tell it: bears@0123456789ab
            name, _, digest = name.rpartition("@")
            version = version or digest
        slots = self._live.get(name or "")
        if not slots:
            raise NotFound("model", got=name, want=_one_of(sorted(self._live)), hint="GET /models lists them.")
        if version is None:
            return slots[-1]
        for slot in slots:
            if version in (slot.served.digest, slot.served.version):
                return slot
        raise NotFound("version", got=version, want=_one_of([slot.served.digest for slot in slots]) + f" of {name}")

    def _retire(self, slots: Sequence[_Slot]) -> None:
        """Under the lock: nobody is sent to them any more; each closes when its last request ends."""
        self._retiring = [thread for thread in self._retiring if thread.is_alive()]
        for slot in slots:
            slot.is_retired = True
            self._free_if_done(slot)
            thread = threading.Thread(target=self._drain, args=(slot,), name="drivetrain-retire", daemon=True)
            thread.start()
            self._retiring.append(thread)

    def _free_if_done(self, slot: _Slot) -> None:
        if slot.is_retired and slot.holds == 0:
            slot.is_free.set()

    def _drain(self, slot: _Slot) -> None:
        begun = time.monotonic()
        slot.is_free.wait(self._drain_s)
        slot.served.batcher.close(drain_s=max(0.0, self._drain_s - (time.monotonic() - begun)))


def predictor_of(served: Served) -> Predictor | None:
    """The bundle's own predictor; None for a fake in a test."""
    return served.model.predictor if isinstance(served.model, PredictorModel) else None


def _one_of(names: Sequence[str]) -> str:
    shown = names[:20]
    return ("one of " if len(shown) > 1 else "") + ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
