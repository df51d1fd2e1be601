"""The part of a network that is not trained, run over many pictures: in onnxruntime where its weights are known there.

onnxruntime takes a third of torch's time on a CPU, but needs the trunk as a file; a network whose lower pieces were
trained, or that nobody has a name for, runs in torch.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidConfig
from drivetrain.progress import Progress
from drivetrain.runtime.parallel import map_in_order
from drivetrain.runtime.session import Session

from .activations import cut_trunk
from .backbones import Backbone
from .trunk import Trunk, prepare_trunk

__all__ = ["FrozenPart", "find_trunk"]

_MAX_GAP = 1e-3  # of an activation between the file and the network, as a share of the largest
_TRIED = 4  # pictures of noise


class FrozenPart:
    """Pixels (n, 3, h, w) float32 to what piece `cut` is given (n, c, h, w), or with cut None to the features (n, f).

    `backbone` is on the CPU. seconds is about what a picture takes, all `threads` at work.
    """

    def __init__(self, backbone: Backbone, *, cut: int | None, trunk: Trunk | None, side: int, threads: int) -> None:
        self.backbone, self.cut, self.threads = backbone, cut, threads
        self._session: Session | None = None
        noise = torch.randn(_TRIED, 3, side, side, generator=torch.Generator().manual_seed(0)).numpy()
        if trunk is not None:
            expected = self.run(noise)
            self._session = Session(trunk.model if cut is None else cut_trunk(trunk, cut))
            if not _is_alike(self.run(noise), expected):  # pieces below the cut were trained meanwhile
                self._session = None
        began = time.perf_counter()
        self.run(noise)
        self.seconds = (time.perf_counter() - began) / _TRIED

    @property
    def runs_in_onnx(self) -> bool:
        """Whether onnxruntime does the work."""
        return self._session is not None

    def run(self, pixels: FloatArray) -> FloatArray:
        """See the class."""
        session = self._session
        if session is None:
            return self._run_torch(pixels)
        output = "frozen" if self.cut is None else "activation"

        def work(at: int) -> FloatArray:
            row: FloatArray = session.run([output], pixels[at : at + 1])[0][0]
            return row if self.cut is not None else row[: self.backbone.layout.head_count]

        return np.stack(list(map_in_order(work, range(len(pixels)), threads=self.threads)))

    @torch.inference_mode()
    def _run_torch(self, pixels: FloatArray) -> FloatArray:
        x = torch.from_numpy(pixels)
        out = self.backbone.run_features(x)[0] if self.cut is None else self.backbone.run(x, stop=self.cut)
        found: FloatArray = out.numpy()
        return found


def find_trunk(backbone: Backbone, *, side: int, cache_dir: Path, progress: Progress) -> Trunk | None:
    """The file of the pretrained backbone of this name for pictures of this size; None where there can be none."""
    try:
        return prepare_trunk(backbone.spec.name, size=side, cache_dir=cache_dir, progress=progress)
    except InvalidConfig:  # a backbone of the caller's own, or a size that no file is made for
        return None


def _is_alike(found: FloatArray, expected: FloatArray) -> bool:
    return bool(np.abs(found - expected).max() <= _MAX_GAP * max(1e-6, np.abs(expected).max()))
