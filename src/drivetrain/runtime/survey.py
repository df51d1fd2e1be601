"""One pass over picture files for all that is told of them besides features: size, format, origin and style."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivetrain.errors import UnreadablePicture
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn, load_pixels, open_picture, to_rgb
from drivetrain.imaging.exif import Origin, read_origin
from drivetrain.imaging.picture_file import read_picture_file
from drivetrain.imaging.style import STYLE_SIDE, STYLE_VERSION, Style, measure_style
from drivetrain.progress import Progress
from drivetrain.runtime.feature_cache import FeatureCache, FileStamp, stamp_file
from drivetrain.runtime.parallel import callers_for, map_in_order

__all__ = ["PictureFacts", "Survey", "survey_pictures"]

_RECIPE = hashlib.sha256(f"survey:1:style:{STYLE_VERSION}:{STYLE_SIDE}".encode()).digest()
_COMMIT_EVERY = 256  # pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """What one file says and shows, apart from its class."""

    format: str  # Pillow's name: "JPEG", "PNG", ...
    style: Style  # its size among the rest
    origin: Origin

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the cache."""
        return {
            "format": self.format,
            "style": self.style.as_json(),
            "camera": self.origin.camera,
            "taken": self.origin.taken,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Facts of the readable pictures, in the order asked for."""

    facts: tuple[PictureFacts, ...]
    rows: tuple[int, ...]  # which of the files asked for each is
    digests: tuple[bytes, ...]  # sha256 of each one's file
    unreadable: tuple[tuple[int, str], ...]  # (which file, why)
    n_decoded: int  # the others came from the cache


@dataclass(slots=True)
class _Found:
    sha256: bytes = b""
    facts: PictureFacts | None = None
    reason: str = ""


@dataclass(slots=True)
class _Pending:
    notes: list[tuple[bytes, Any]] = field(default_factory=list)
    files: list[tuple[FileStamp, bytes]] = field(default_factory=list)


def survey_pictures(
    files: Sequence[Path], *, cache: FeatureCache, threads: int, limits: DecodeLimits, progress: Progress
) -> Survey:
    """Look at `files`, each decoded once in its life; what the cache knows is not opened.

    A file that cannot be read is named in `unreadable`. Ctrl-C keeps what was done.
    """
    found, stamps = _look_up(files, cache)
    todo = [i for i, one in enumerate(found) if one.facts is None and not one.reason]

    def work(index: int) -> _Found:
        try:
            return _look_at(files[index], limits)
        except UnreadablePicture as exc:
            return _Found(reason=exc.reason)

    if todo:
        with progress.task("Looking at pictures", total=len(todo)) as advance:
            results = map_in_order(work, todo, threads=callers_for(threads))
            _keep(results, todo, found, stamps, cache=cache, advance=advance)
    rows = [i for i, one in enumerate(found) if one.facts is not None]
    return Survey(
        facts=tuple(one.facts for one in found if one.facts is not None),
        rows=tuple(rows),
        digests=tuple(found[i].sha256 for i in rows),
        unreadable=tuple((i, one.reason) for i, one in enumerate(found) if one.reason),
        n_decoded=sum(not found[i].reason for i in todo),
    )


def _look_up(files: Sequence[Path], cache: FeatureCache) -> tuple[list[_Found], list[FileStamp | None]]:
    found: list[_Found] = []
    stamps: list[FileStamp | None] = []
    for file in files:
        try:
            stamps.append(stamp_file(file))
            found.append(_Found())
        except OSError as exc:
            stamps.append(None)
            found.append(_Found(reason=f"cannot be opened: {exc.strerror or exc}"))
    digests = cache.digests([stamp for stamp in stamps if stamp is not None])
    notes = cache.notes(_RECIPE, digests.values())
    for stamp, one in zip(stamps, found, strict=True):
        if stamp is not None and (sha256 := digests.get(stamp.path)) is not None:
            one.sha256, one.facts = sha256, _from_json(notes.get(sha256))
    return found, stamps


def _from_json(value: Any) -> PictureFacts | None:
    """The facts noted; None for what is not there, or not of this shape."""
    try:
        texts = {name: value[name] for name in ("format", "camera", "taken")}
        style = Style(**value["style"])
    except (KeyError, TypeError):
        return None
    if not all(isinstance(text, str) for text in texts.values()):
        return None
    if not all(isinstance(number, int | float) for number in style.as_json().values()):
        return None
    return PictureFacts(
        format=texts["format"], style=style, origin=Origin(camera=texts["camera"], taken=texts["taken"])
    )


def _look_at(file: Path, limits: DecodeLimits) -> _Found:
    """Raises UnreadablePicture."""
    name = str(file)
    data = read_picture_file(file, name=name, limits=limits)
    image = open_picture(data, name=name, limits=limits)
    size, kind = image.size, image.format or ""
    if kind == "JPEG":
        image.draft(image.mode, (STYLE_SIDE, STYLE_SIDE))
    load_pixels(image, name=name)
    exif = image.info.get("exif")
    turned = apply_exif_turn(rgb := to_rgb(image))
    if (turned.width > turned.height) != (rgb.width > rgb.height):
        size = (size[1], size[0])
    facts = PictureFacts(format=kind, style=measure_style(turned, size=size), origin=read_origin(exif))
    return _Found(sha256=hashlib.sha256(data).digest(), facts=facts)


def _keep(
    results: Generator[_Found, None, None],
    todo: Sequence[int],
    found: list[_Found],
    stamps: Sequence[FileStamp | None],
    *,
    cache: FeatureCache,
    advance: Callable[[int], None],
) -> None:
    """Take the results as they come; whatever ends this, they are in the cache."""
    pending = _Pending()
    with closing(results):
        try:
            for index, one in zip(todo, results, strict=True):
                found[index] = one
                stamp = stamps[index]
                if one.facts is not None and stamp is not None:
                    pending.notes.append((one.sha256, one.facts.as_json()))
                    pending.files.append((stamp, one.sha256))
                if len(pending.notes) >= _COMMIT_EVERY:
                    cache.add_notes(_RECIPE, pending.notes, pending.files)
                    pending = _Pending()
                advance(1)
        finally:
            cache.add_notes(_RECIPE, pending.notes, pending.files)
