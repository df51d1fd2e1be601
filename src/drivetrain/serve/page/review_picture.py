"""The picture under review, made anew so that it carries nothing but what is seen; and where a model looked in it."""

from __future__ import annotations

import base64
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from drivetrain.bundle.archive import read_bundle
from drivetrain.errors import Conflict, DrivetrainError, NotFound
from drivetrain.imaging.decode import DecodeLimits, apply_exif_turn, decode_picture
from drivetrain.imaging.thumbnail import make_thumbnail
from drivetrain.store.reviews import Task
from drivetrain.store.store import Store

if TYPE_CHECKING:
    from drivetrain.inspect.saliency import Explainer

__all__ = ["WhyDesk", "read_picture"]

_SIDE = 2048  # pixels of the longer side: enough to zoom into on any screen
_KEPT = 3  # explainers


def read_picture(store: Store, sha256: str, *, limits: DecodeLimits) -> bytes:
    """A JPEG, upright, without EXIF. Raises NotFound where it is gone, UnreadablePicture."""
    data = store.images.get(sha256)
    if data is None:
        raise NotFound("picture", got="one that is gone", want="one that is kept")
    image = decode_picture(data, name="picture", limits=limits, min_side=_SIDE)
    return make_thumbnail(apply_exif_turn(image), side=_SIDE)


class WhyDesk:
    """Says where the model of a roll-out looked. Safe from every thread; all calls may block."""

    def __init__(self, store: Store, limits: DecodeLimits) -> None:
        self._store = store
        self._limits = limits
        self._lock = threading.Lock()
        self._explainers: dict[str, Explainer] = {}

    def find_version(self, task: Task) -> str | None:
        """The version that is asked: the candidate of the roll-out. None where none is registered."""
        deployment = None if task.deployment_id is None else self._store.deployments.get(task.deployment_id)
        if deployment is not None:
            return deployment.candidate
        stored = self._store.predictions.get(task.prediction_id)
        return None if stored is None or self._store.versions.get(stored.version) is None else stored.version

    def explain(self, version: str, sha256: str) -> tuple[str, str]:
        """(a data: address of what lies over the whole picture, where most of it lies in words).

        Of its best guess, whose name is not told. Raises Conflict where the bundle is not there, Unavailable where the
        model says no why.
        """
        from drivetrain.inspect.saliency import tell_where
        from drivetrain.inspect.saliency_picture import paint_saliency

        data = self._store.images.get(sha256)
        if data is None:
            raise NotFound("picture", got="one that is gone", want="one that is kept")
        told = self._open(version).explain(data, label=None, name="picture")
        heat = base64.b64encode(paint_saliency(told)).decode()
        return f"data:image/png;base64,{heat}", tell_where(told)

    def _open(self, version: str) -> Explainer:
        from drivetrain.inspect.saliency import Explainer

        with self._lock:
            if version not in self._explainers:
                known = self._store.versions.get(version)
                try:
                    bundle = None if known is None else read_bundle(Path(known.path))
                except DrivetrainError:  # its message has the file's whole path, which is nobody's business
                    bundle = None
                if bundle is None or bundle.version != version:
                    raise Conflict("why", got=f"no readable bundle of {version}", want="it where it was registered")
                while len(self._explainers) >= _KEPT:
                    self._explainers.pop(next(iter(self._explainers)))
                self._explainers[version] = Explainer(bundle, limits=self._limits)
            return self._explainers[version]
