"""What the pages need of a bundle and its predictor does not keep: card, examples, and what says why."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from drivetrain.bundle.archive import Bundle, read_bundle
from drivetrain.bundle.fixtures import make_synthetic_pictures
from drivetrain.errors import Conflict, DrivetrainError
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn
from drivetrain.serve.registry import Served

if TYPE_CHECKING:
    from drivetrain.inspect.saliency import Explainer

__all__ = ["Leaf", "PageShelf"]

_EXAMPLE_SIDE = 640  # pixels; fixtures are no larger
_SYNTHETIC_TRIED = 24  # as flows/fixtures.py makes them, to choose from
_MARGIN = 1.5
_KEPT = 16  # versions; a server with more opens a file again


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """The readable parts of one bundle."""

    card: str = ""  # MODEL_CARD.md
    lineage: Mapping[str, Any] | None = None
    created_at: str = ""
    examples: tuple[bytes, ...] = ()  # PNG, upright


class PageShelf:
    """Opens the file behind a served model when a page first asks; safe from every thread. All calls may block."""

    def __init__(self, limits: DecodeLimits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._leaves: dict[str, Leaf] = {}
        self._explainers: dict[str, Explainer] = {}

    def known(self, served: Served) -> Leaf | None:
        """What was read before, without waiting."""
        return self._leaves.get(served.version)

    def read(self, served: Served) -> Leaf:
        """Its card and examples; an empty leaf where its file has gone or is another by now."""
        found = self._leaves.get(served.version)
        if found is not None:
            return found
        with self._lock:
            if served.version not in self._leaves:
                try:
                    leaf = _read_leaf(_open(served))
                except DrivetrainError:
                    leaf = Leaf()
                _keep(self._leaves, served.version, leaf)
            return self._leaves[served.version]

    def explainer(self, served: Served) -> Explainer:
        """Raises Conflict where the model's file is not there as it was; Unavailable where it says no why."""
        found = self._explainers.get(served.version)
        if found is not None:
            return found
        from drivetrain.inspect.saliency import Explainer

        with self._lock:
            if served.version not in self._explainers:
                _keep(self._explainers, served.version, Explainer(_open(served), limits=self._limits))
            return self._explainers[served.version]

    def forget(self, live: Iterable[str]) -> None:
        """Let go of all versions but those that are still served."""
        with self._lock:
            for version in {*self._leaves, *self._explainers} - set(live):
                self._leaves.pop(version, None)
                self._explainers.pop(version, None)


def _open(served: Served) -> Bundle:
    path: Path | None = served.path
    if path is None:
        hint = "Load it from its .dt file: `drivetrain serve M.dt`, or POST /v2/repository/models/NAME/load."
        raise Conflict("why", got="a model that came from no file", want="one loaded from a bundle", hint=hint)
    try:
        bundle = read_bundle(path)
    except DrivetrainError:  # its message has the file's whole path, which is nobody's business
        want, hint = "the file that the model came from", "Put it back, or load the model again."
        raise Conflict("why", got=f"no readable {path.name}", want=want, hint=hint) from None
    if bundle.version != served.version:
        want = f"{served.version}, which answers here"
        raise Conflict("why", got=bundle.version, want=want, hint="Its file was replaced: load it again.")
    return bundle


def _keep(shelf: dict[str, Any], version: str, thing: object) -> None:
    while len(shelf) >= _KEPT:
        shelf.pop(next(iter(shelf)))
    shelf[version] = thing


def _read_leaf(bundle: Bundle) -> Leaf:
    return Leaf(
        card=bundle.members.get("MODEL_CARD.md", b"").decode("utf-8", "replace"),
        lineage=bundle.manifest.lineage,
        created_at=bundle.manifest.created_at,
        examples=_find_examples(bundle),
    )


def _find_examples(bundle: Bundle) -> tuple[bytes, ...]:
    """The fixtures that are photographs. The others were made from noise and the seed: make them again, and compare."""
    fixtures = sorted(name for name in bundle.members if name.startswith("fixtures/") and name.endswith(".png"))
    seed = bundle.manifest.lineage.get("seed")
    sizes = [op["size"] for op in bundle.manifest.preprocess if "size" in op]
    if type(seed) is not int or seed < 0 or not sizes:
        return ()
    made = make_synthetic_pictures(_SYNTHETIC_TRIED, side=round(sizes[-1] * _MARGIN), seed=seed)
    known = {(image.size, image.tobytes()) for image in made}
    found = []
    for name in fixtures:
        with Image.open(io.BytesIO(bundle.members[name]), formats=["PNG"]) as opened:
            upright = apply_exif_turn(opened).convert("RGB")
        if (upright.size, upright.tobytes()) not in known:
            upright.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE))
            out = io.BytesIO()
            upright.save(out, "PNG")
            found.append(out.getvalue())
    return tuple(found)
