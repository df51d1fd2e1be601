"""What the frozen part of a network says of pictures and their views, at the place where training begins, on disk.

One folder in the cache for each set of pictures and way to look at them: `rows.npy` is mapped into memory, never read
whole, so that its size does not count against the memory of a run. A killed run goes on where it was; a set that
shares pictures with an older one takes theirs over. The folders used longest ago go when all together are too large.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.arrays import FloatArray, IntArray
from drivetrain.errors import Conflict, Unavailable
from drivetrain.files import write_whole
from drivetrain.imaging.decode import DecodeLimits, open_picture
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.progress import Progress
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.session import Session
from drivetrain.runtime.views import ViewRecipe, decode_for_views, draw_view, seed_view

from .onnx_export import import_onnx
from .trunk import Trunk, name_piece, open_cuts

__all__ = ["ActivationSpec", "Activations", "cut_trunk", "keep_activations", "measure_maps"]

_VERSION = 2  # raise it when the same spec gives other numbers: older folders are then left to go
_FLUSH_EVERY = 128  # pictures
_FOLDER = "activations"
_LARGEST = 65504.0  # of float16


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationSpec:
    """What activations depend on besides the pictures."""

    trunk: Trunk
    preprocess: Preprocess
    cut: int  # the piece that would read them
    views: int  # augmented ones
    recipe: ViewRecipe
    has_clean: bool = True  # the picture as production sees it, before them

    @property
    def name(self) -> str:
        """A digest: activations of one name are interchangeable."""
        views = [*["clean"][: self.has_clean], *map(self.recipe.name_view, range(self.views))]
        told = f"{_VERSION}:{self.trunk.weights_digest}:{self.preprocess.digest}:{self.cut}:{views}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Activations:
    """rows (n, [1 +] views, h, w, c) float16, mapped: of each picture the clean view, if kept, and augmented ones."""

    rows: NDArray[np.float16]
    cut: int
    folder: Path | None = None  # where they are kept
    has_clean: bool = True

    @property
    def views(self) -> int:
        """Augmented views a picture."""
        return int(self.rows.shape[1]) - self.has_clean

    def take(self, rows: IntArray, *, view: int) -> NDArray[np.float16]:
        """(len(rows), h, w, c): of some pictures view 1, 2, ..., or 0, the clean one."""
        assert view or self.has_clean
        found: NDArray[np.float16] = np.ascontiguousarray(self.rows[rows, view - (not self.has_clean)])
        return found


def keep_activations(
    files: Sequence[Path],
    digests: Sequence[bytes],
    *,
    spec: ActivationSpec,
    cache_dir: Path,
    max_bytes: int,
    threads: int,
    limits: DecodeLimits,
    progress: Progress,
    beside: Sequence[Activations] = (),
    flush_every: int = _FLUSH_EVERY,
) -> Activations:
    """Activations of `files`, whose sha256 is `digests`: from the cache, or computed into it on `threads` cores.

    A picture is decoded once for all its views. Ctrl-C and kills keep what was done. Neither these nor those in use
    `beside` them are removed to make room. Raises UnreadablePicture,
    Conflict for a file that is no longer the one with that digest, Unavailable where the cache cannot hold them.
    """
    session = Session(cut_trunk(spec.trunk, spec.cut))
    blank = np.zeros((1, 3, spec.trunk.size, spec.trunk.size), np.float32)
    _, channels, height, width = session.run(["activation"], blank)[0].shape
    shape = (len(files), spec.has_clean + spec.views, height, width, channels)
    folder = cache_dir / _FOLDER / f"{spec.name}-{hashlib.sha256(b''.join(digests)).hexdigest()[:16]}"
    in_use = {folder, *(other.folder for other in beside if other.folder is not None)}
    rows, done = _open(folder, shape, digests, in_use=in_use, max_bytes=max_bytes)
    _take_over(folder, rows, done, digests)
    todo = np.flatnonzero(done == 0).tolist()

    def work(row: int) -> NDArray[np.float16]:
        pixels = _look_at(files[row], digests[row], spec, limits)
        maps = [session.run(["activation"], view[np.newaxis])[0][0] for view in pixels]
        bounded = np.clip(np.stack(maps), -_LARGEST, _LARGEST)  # (views, c, h, w)
        halves: NDArray[np.float16] = bounded.transpose(0, 2, 3, 1).astype(np.float16)
        return halves

    if todo:
        with progress.task(f"Looking at pictures, {_count_views(spec)}", total=len(todo)) as advance:
            results = map_in_order(work, todo, threads=callers_for(threads))
            waiting: list[int] = []
            try:
                for row, maps in zip(todo, results, strict=True):
                    rows[row] = maps
                    waiting.append(row)
                    if len(waiting) >= flush_every:
                        _mark(rows, done, waiting)
                        waiting = []
                    advance(1)
            finally:
                results.close()
                _mark(rows, done, waiting)
    rows.flags.writeable = False
    return Activations(rows=rows, cut=spec.cut, folder=folder, has_clean=spec.has_clean)


def measure_maps(trunk: Trunk) -> dict[int, tuple[int, int]]:
    """piece -> (channels, places) of the maps it is given, where the trunk may be cut; {} where it cannot be parted."""
    onnx = import_onnx("opening a trunk")
    shapes = {}
    inner = onnx.load_model_from_string(trunk.model.read_bytes()).graph.value_info
    for value in inner:
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
        if len(dims) == 3:  # tokens make no map
            shapes[value.name] = dims[0], dims[1] * dims[2]
    return {piece: shapes[name_piece(piece)] for piece in range(1, len(inner) + 1) if name_piece(piece) in shapes}


def _count_views(spec: ActivationSpec) -> str:
    count = spec.has_clean + spec.views
    return f"{count} views each" if count > 1 else "one view each"


def _look_at(file: Path, digest: bytes, spec: ActivationSpec, limits: DecodeLimits) -> Iterator[FloatArray]:
    """The picture as production sees it, if asked for, then its views, each float32 (3, size, size)."""
    name = str(file)
    data = read_picture_file(file, name=name, limits=limits)
    if hashlib.sha256(data).digest() != digest:
        raise Conflict(
            name, got="other bytes than a minute ago", want="a file that no one changes meanwhile", hint="Run again."
        )
    if not spec.views:
        yield spec.preprocess.from_bytes(data, name=name, limits=limits)
        return
    picture = decode_for_views(data, name=name, limits=limits, preprocess=spec.preprocess, recipe=spec.recipe)
    if spec.has_clean:
        shortest = min(open_picture(data, name=name, limits=limits).size)
        if min(picture.size) == shortest < 2 * spec.preprocess.size:  # too small for production to decode it smaller
            yield spec.preprocess.from_image(picture)
        else:
            yield spec.preprocess.from_bytes(data, name=name, limits=limits)
    for view in range(spec.views):
        yield draw_view(picture, spec.preprocess, seed_view(digest, view, spec.recipe), spec.recipe)


def cut_trunk(trunk: Trunk, cut: int) -> bytes:
    """The trunk's first pieces as an ONNX model from `pixels` to `activation` (n, c, h, w), and nothing after it."""
    onnx = import_onnx("opening a trunk")
    model = onnx.load_model_from_string(open_cuts(trunk, [cut]))
    graph, name = model.graph, name_piece(cut)
    needed, kept = {name}, []
    for node in reversed(graph.node):  # nodes stand in the order of their work
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    weights = [onnx.TensorProto.FromString(w.SerializeToString()) for w in graph.initializer if w.name in needed]
    output = next(value for value in graph.output if value.name == name)
    output = onnx.ValueInfoProto.FromString(output.SerializeToString())
    for field, parts in (("node", copies), ("initializer", weights), ("output", [output])):
        graph.ClearField(field)
        getattr(graph, field).extend(parts)
    graph.ClearField("value_info")
    graph.output[0].name = "activation"
    graph.node.append(onnx.helper.make_node("Identity", [name], ["activation"], "activation"))
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _open(
    folder: Path, shape: tuple[int, ...], digests: Sequence[bytes], *, in_use: Collection[Path], max_bytes: int
) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """The rows, and which of them are done (n,) uint8; both mapped to be written."""
    bytes_needed = int(np.prod(shape)) * 2
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _make_room(folder.parent, max(0, max_bytes - bytes_needed), in_use=in_use)
        if not _is_whole(folder, shape):
            _create(folder, shape, digests, bytes_needed=bytes_needed)
        os.utime(folder)
        rows: Any = np.load(folder / "rows.npy", mmap_mode="r+")
        done: Any = np.load(folder / "done.npy", mmap_mode="r+")
    except OSError as exc:
        raise Unavailable(
            "cache_dir",
            got=f"{folder.parent}: {exc.strerror or exc}",
            want=f"a folder that can be written, with {bytes_needed / 1e9:.1f} GB free",
            hint="Set DRIVETRAIN_CACHE_DIR to another folder, give fewer --views, or train with --method head.",
        ) from exc
    return rows, done


def _create(folder: Path, shape: tuple[int, ...], digests: Sequence[bytes], *, bytes_needed: int) -> None:
    """An empty one, made aside and renamed: a run that begins at the same moment never finds half of one."""
    shutil.rmtree(folder, ignore_errors=True)  # damaged
    free = shutil.disk_usage(folder.parent).free
    if free < bytes_needed:
        raise OSError(f"{free / 1e9:.1f} GB free of {bytes_needed / 1e9:.1f} GB needed")
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        aside.mkdir()
        np.lib.format.open_memmap(aside / "rows.npy", "w+", np.float16, shape)
        _reserve(aside / "rows.npy")
        write_whole(aside / "digests", b"".join(digests))
        np.lib.format.open_memmap(aside / "done.npy", "w+", np.uint8, shape[:1])
        aside.rename(folder)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        if not _is_whole(folder, shape):  # else somebody was faster
            raise


def _reserve(file: Path) -> None:
    """Take the blocks now: a disk that is full once they are written to through a map kills the process."""
    if not hasattr(os, "posix_fallocate"):  # pragma: no cover -- macOS, Windows
        return
    with file.open("rb+") as opened:
        try:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
        except OSError as exc:
            if exc.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that knows no such thing
                raise


def _is_whole(folder: Path, shape: tuple[int, ...]) -> bool:
    try:
        rows, done = (np.load(folder / name, mmap_mode="r") for name in ("rows.npy", "done.npy"))
    except (OSError, ValueError, EOFError):
        return False
    return bool(rows.shape == shape and rows.dtype == np.float16 and done.shape == shape[:1])


def _mark(rows: Any, done: Any, waiting: Sequence[int]) -> None:
    """Rows first, then the word that they are there."""
    rows.flush()
    done[list(waiting)] = 1
    done.flush()


def _take_over(folder: Path, rows: Any, done: Any, digests: Sequence[bytes]) -> None:
    """Copy what other folders of the same name hold of these pictures."""
    lacking = {digests[row]: row for row in np.flatnonzero(done == 0).tolist()}
    for other in sorted(folder.parent.glob(f"{folder.name.split('-')[0]}-*")):
        if other == folder or not lacking:
            continue
        try:
            theirs, is_done = (np.load(other / name, mmap_mode="r") for name in ("rows.npy", "done.npy"))
            told = (other / "digests").read_bytes()
        except (OSError, ValueError, EOFError):
            continue
        if theirs.shape[1:] != rows.shape[1:] or len(told) != 32 * len(theirs):
            continue
        taken = []
        for row in np.flatnonzero(is_done).tolist():
            mine = lacking.pop(told[32 * row : 32 * row + 32], None)
            if mine is not None:
                rows[mine] = theirs[row]
                taken.append(mine)
        _mark(rows, done, taken)


def _make_room(place: Path, max_bytes: int, *, in_use: Collection[Path]) -> None:
    """Remove the folders used longest ago until those that are not in use hold at most `max_bytes`."""
    others = sorted(
        (path for path in place.iterdir() if path.is_dir() and path not in in_use),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    held = 0
    for path in others:
        held += sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        if held > max_bytes:
            shutil.rmtree(path, ignore_errors=True)
