"""Pictures in; frozen features, fingerprints and styles out: each picture decoded and run at most once in its life."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.fingerprint import FINGERPRINT_LENGTH, FINGERPRINT_VERSION, fingerprint
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.preprocess import Preprocess
from drivetrain.imaging.style_measures import STYLE_MEASURES, STYLE_MEASURES_VERSION, StyledPreprocess
from drivetrain.progress import Progress
from drivetrain.runtime.feature_cache import FeatureCache, FileStamp, stamp_file
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.session import Session

__all__ = ["FeatureTable", "FrozenTrunk", "extract_features"]

_COMMIT_EVERY = 128  # pictures: about half a second of work
_AHEAD = 64  # pictures in work or done, 17 kB each: no core idles while the cache is written, which may take 0.1 s


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenTrunk:
    """A network that is never trained, with the preprocessing it reads."""

    model: Path  # ONNX with an output `frozen` (n, feature_count)
    weights_digest: str
    feature_count: int
    map_channels: int  # of its output `feature_map`; its means come first in `frozen`
    preprocess: Preprocess

    @property
    def recipe(self) -> bytes:
        """Names what a feature depends on besides the picture's bytes."""
        return hashlib.sha256(f"{self.preprocess.digest}:{self.weights_digest}:{self.feature_count}".encode()).digest()

    @property
    def fingerprint_recipe(self) -> bytes:
        """The same for a fingerprint: it is made of the preprocessed pixels, whatever network reads them."""
        return hashlib.sha256(f"fingerprint:{FINGERPRINT_VERSION}:{self.preprocess.digest}".encode()).digest()

    @property
    def style_recipe(self) -> bytes:
        """The same for a style, which is measured on those pixels too."""
        return hashlib.sha256(f"style:{STYLE_MEASURES_VERSION}:{self.preprocess.digest}".encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """Features of the readable pictures, in the order asked for."""

    features: FloatArray  # (n, feature_count) float32
    fingerprints: FloatArray  # (n, FINGERPRINT_LENGTH) float32: what `imaging.fingerprint` finds copies by
    styles: FloatArray  # (n, measures) float32: what `imaging.style_measures` gives, and `flows.fit_shift` learns from
    rows: tuple[int, ...]  # which of the files asked for each row is
    digests: tuple[bytes, ...]  # sha256 of each row's file
    unreadable: tuple[tuple[int, str], ...]  # (which file, why)
    n_computed: int  # pictures that were decoded and run; the others came from the cache


@dataclass(slots=True)
class _Found:
    sha256: bytes | None = None
    vector: FloatArray | None = None
    fingerprint: FloatArray | None = None
    style: FloatArray | None = None
    is_new: bool = False
    reason: str = ""

    @property
    def is_whole(self) -> bool:
        return self.vector is not None and self.fingerprint is not None and self.style is not None


@dataclass(slots=True)
class _Pending:
    vectors: list[tuple[bytes, FloatArray]] = field(default_factory=list)
    fingerprints: list[tuple[bytes, FloatArray]] = field(default_factory=list)
    styles: list[tuple[bytes, FloatArray]] = field(default_factory=list)
    files: list[tuple[FileStamp, bytes]] = field(default_factory=list)

    def take(self, state: _Found, stamp: FileStamp | None) -> None:
        if state.sha256 is None or stamp is None:
            return
        self.files.append((stamp, state.sha256))
        if state.vector is not None and state.fingerprint is not None and state.style is not None:
            self.vectors.append((state.sha256, state.vector))
            self.fingerprints.append((state.sha256, state.fingerprint))
            self.styles.append((state.sha256, state.style))

    def commit(self, trunk: FrozenTrunk, cache: FeatureCache) -> None:
        vectors = {
            trunk.recipe: self.vectors,
            trunk.fingerprint_recipe: self.fingerprints,
            trunk.style_recipe: self.styles,
        }
        cache.add_together(vectors, self.files)


def extract_features(
    files: Sequence[Path],
    *,
    trunk: FrozenTrunk,
    cache: FeatureCache,
    threads: int,
    limits: DecodeLimits,
    progress: Progress,
) -> FeatureTable:
    """Features, fingerprints and styles of `files`. What the cache holds of all three is neither read, decoded nor run;
    what it lacks is added to it.

    A file that cannot be read is named in `unreadable`. Ctrl-C keeps what was done: the next run goes on from there.
    """
    found, stamps = _look_up(files, trunk, cache)
    todo = [i for i, state in enumerate(found) if not state.is_whole and not state.reason]
    if todo:
        _compute(
            files, todo, found, stamps, trunk=trunk, cache=cache, threads=threads, limits=limits, progress=progress
        )
    rows = [i for i, state in enumerate(found) if state.is_whole]
    features: FloatArray = np.empty((len(rows), trunk.feature_count), dtype=np.float32)
    fingerprints: FloatArray = np.empty((len(rows), FINGERPRINT_LENGTH), dtype=np.float32)
    styles: FloatArray = np.empty((len(rows), len(STYLE_MEASURES)), dtype=np.float32)
    for row, index in enumerate(rows):
        one = found[index]
        features[row], fingerprints[row], styles[row] = one.vector, one.fingerprint, one.style
    return FeatureTable(
        features=features,
        fingerprints=fingerprints,
        styles=styles,
        rows=tuple(rows),
        digests=tuple(found[i].sha256 or b"" for i in rows),
        unreadable=tuple((i, state.reason) for i, state in enumerate(found) if state.reason),
        n_computed=sum(state.is_new for state in found),
    )


def _look_up(
    files: Sequence[Path], trunk: FrozenTrunk, cache: FeatureCache
) -> tuple[list[_Found], list[FileStamp | None]]:
    """What is known of each file without opening it."""
    found = [_Found() for _ in files]
    stamps: list[FileStamp | None] = []
    for file, state in zip(files, found, strict=True):
        try:
            stamps.append(stamp_file(file))
        except OSError as exc:
            stamps.append(None)
            state.reason = f"cannot be opened: {exc.strerror or exc}"
    digests = cache.digests([stamp for stamp in stamps if stamp is not None])
    for stamp, state in zip(stamps, found, strict=True):
        if stamp is not None and stamp.path in digests:
            state.sha256 = digests[stamp.path]
    _recall(found, trunk, cache)
    return found, stamps


def _recall(found: Sequence[_Found], trunk: FrozenTrunk, cache: FeatureCache) -> None:
    """Fill in what the cache holds of the pictures whose sha256 is known."""
    lacking = [state for state in found if not state.is_whole and state.sha256 is not None]
    shas = [state.sha256 for state in lacking if state.sha256 is not None]
    vectors = cache.features(trunk.recipe, shas, feature_count=trunk.feature_count)
    fingerprints = cache.features(trunk.fingerprint_recipe, shas, feature_count=FINGERPRINT_LENGTH)
    styles = cache.features(trunk.style_recipe, shas, feature_count=len(STYLE_MEASURES))
    for state, sha256 in zip(lacking, shas, strict=True):
        state.vector, state.fingerprint = vectors.get(sha256), fingerprints.get(sha256)
        state.style = styles.get(sha256)


def _compute(
    files: Sequence[Path],
    todo: Sequence[int],
    found: list[_Found],
    stamps: Sequence[FileStamp | None],
    *,
    trunk: FrozenTrunk,
    cache: FeatureCache,
    threads: int,
    limits: DecodeLimits,
    progress: Progress,
) -> None:
    session = Session(trunk.model)
    preprocess = StyledPreprocess(trunk.preprocess)
    # a picture that was moved, copied or touched is read and hashed, not run again
    known = cache.known(trunk.recipe) & cache.known(trunk.fingerprint_recipe) & cache.known(trunk.style_recipe)

    def work(index: int) -> _Found:
        name = str(files[index])
        try:
            data = read_picture_file(files[index], name=name, limits=limits)
            sha256 = hashlib.sha256(data).digest()
            if sha256 in known:
                return _Found(sha256=sha256)
            pixels, style = preprocess.from_bytes(data, name=name, limits=limits)
        except UnreadablePicture as exc:
            return _Found(reason=exc.reason)
        seen = fingerprint(pixels)  # before the network, after which the pixels are gone from the processor's caches
        before = found[index]
        # what was read before styles were measured, or otherwise, is not run again for one
        is_run = before.vector is not None and before.sha256 == sha256
        vector = before.vector if is_run else session.run(["frozen"], pixels[np.newaxis])[0][0]
        return _Found(sha256=sha256, vector=vector, fingerprint=seen, style=style, is_new=True)

    with progress.task("Reading pictures", total=len(todo)) as advance:
        while todo:
            results = map_in_order(work, todo, threads=callers_for(threads), ahead=_AHEAD)
            _keep(results, todo, found, stamps, trunk=trunk, cache=cache, advance=advance)
            _recall(found, trunk, cache)
            todo = [i for i in todo if not found[i].is_whole and not found[i].reason]
            known.clear()  # what is left was known and is gone: the cache was set aside or emptied meanwhile


def _keep(
    results: Generator[_Found, None, None],
    todo: Sequence[int],
    found: list[_Found],
    stamps: Sequence[FileStamp | None],
    *,
    trunk: FrozenTrunk,
    cache: FeatureCache,
    advance: Callable[[int], None],
) -> None:
    """Take the results as they come; whatever ends this, they are in the cache."""
    pending = _Pending()
    try:
        for index, state in zip(todo, results, strict=True):
            found[index] = state
            pending.take(state, stamps[index])
            if len(pending.files) >= _COMMIT_EVERY:
                pending.commit(trunk, cache)
                pending = _Pending()
            advance(1)
    finally:
        results.close()
        pending.commit(trunk, cache)
