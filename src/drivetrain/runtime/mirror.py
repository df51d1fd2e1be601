"""What the trunk sees in a picture and in its mirror image, left and right kept apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drivetrain.arrays import FloatArray
from drivetrain.errors import UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.progress import Progress
from drivetrain.runtime.feature_cache import FeatureCache, FileStamp, stamp_file
from drivetrain.runtime.features import FrozenTrunk
from drivetrain.runtime.parallel import callers_for, map_in_order
from drivetrain.runtime.session import Session

__all__ = ["MirrorTable", "extract_mirrored"]

_VIEWS = 4  # left and right half, of the picture and of its mirror image


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorTable:
    """Features of pictures and of their mirror images, by halves: (n, 2 * channels) float32 each.

    The mean over the whole picture is all but blind to mirroring, because pretraining mirrored its pictures at random:
    left and right arrows came out alike. The means of the two halves are not.
    """

    originals: FloatArray
    mirrored: FloatArray
    rows: tuple[int, ...]  # which of the files asked for each is


def extract_mirrored(
    files: Sequence[Path],
    *,
    trunk: FrozenTrunk,
    cache: FeatureCache,
    threads: int,
    limits: DecodeLimits,
    progress: Progress,
) -> MirrorTable:
    """Both views of `files`; those that cannot be read are left out. What the cache holds is not run again."""
    recipe = hashlib.sha256(b"mirror:1:" + trunk.recipe).digest()
    stamps = [_stamp(file) for file in files]
    digests = cache.digests([stamp for stamp in stamps if stamp is not None])
    length = _VIEWS * trunk.map_channels
    known = cache.features(recipe, digests.values(), feature_count=length)
    vectors = [known.get(digests.get(stamp.path, b"")) if stamp is not None else None for stamp in stamps]
    todo = [i for i, vector in enumerate(vectors) if vector is None and stamps[i] is not None]
    if todo:
        session = Session(trunk.model)

        def work(index: int) -> tuple[bytes, FloatArray] | None:
            name = str(files[index])
            try:
                data = read_picture_file(files[index], name=name, limits=limits)
                pixels = trunk.preprocess.from_bytes(data, name=name, limits=limits)
            except UnreadablePicture:
                return None
            return hashlib.sha256(data).digest(), _run_views(session, pixels)

        done: list[tuple[bytes, FloatArray]] = []
        seen: list[tuple[FileStamp, bytes]] = []
        with (
            progress.task("Mirroring pictures", total=len(todo)) as advance,
            closing(map_in_order(work, todo, threads=callers_for(threads))) as results,
        ):
            for index, result in zip(todo, results, strict=True):
                stamp = stamps[index]
                if result is not None and stamp is not None:
                    vectors[index] = result[1]
                    done.append(result)
                    seen.append((stamp, result[0]))
                advance(1)
        cache.add(recipe, done, seen)
    rows = tuple(i for i, vector in enumerate(vectors) if vector is not None)
    found = [vector for vector in vectors if vector is not None]
    table: FloatArray = np.stack(found) if found else np.empty((0, length), dtype=np.float32)
    return MirrorTable(originals=table[:, : length // 2], mirrored=table[:, length // 2 :], rows=rows)


def _run_views(session: Session, pixels: FloatArray) -> FloatArray:
    """(4 * channels,): the means of the left and the right half, then those of the mirror image."""
    views = []
    for one in (pixels, pixels[:, :, ::-1]):
        (feature_map,) = session.run(["feature_map"], one[np.newaxis])
        half = feature_map.shape[3] // 2 or 1
        views += [feature_map[0, :, :, :half].mean(axis=(1, 2)), feature_map[0, :, :, -half:].mean(axis=(1, 2))]
    out: FloatArray = np.concatenate(views).astype(np.float32)
    return out


def _stamp(file: Path) -> FileStamp | None:
    try:
        return stamp_file(file)
    except OSError:
        return None
