"""The part of a network that is not trained, run over many pictures: in onnxruntime where its weights are known there.

onnxruntime takes a third of torch's time on a CPU, but needs the trunk as a file; a network whose lower pieces were
trained, or that nobody has a name for, runs in torch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
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

__all__ = ["FrozenPart", "choose_cut", "find_trunk", "measure_pieces"]

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
            return row

        return np.stack(list(map_in_order(work, range(len(pixels)), threads=self.threads)))

    @torch.inference_mode()
    def _run_torch(self, pixels: FloatArray) -> FloatArray:
        maps = self.backbone.run(torch.from_numpy(pixels), stop=self.cut)
        out: FloatArray = (self.backbone.embed(maps) if self.cut is None else maps).numpy()
        return out


def find_trunk(backbone: Backbone, *, side: int, cache_dir: Path, progress: Progress) -> Trunk | None:
    """The file of the pretrained backbone of this name for pictures of this size; None where there can be none."""
    try:
        return prepare_trunk(backbone.spec.name, size=side, cache_dir=cache_dir, progress=progress)
    except InvalidConfig:  # a backbone of the caller's own, or a size that no file is made for
        return None


@torch.inference_mode()
def measure_pieces(backbone: Backbone, *, side: int) -> dict[int, tuple[int, int]]:
    """piece -> (channels, places) of the map it is given, where the network may be cut; tokens make no map."""
    shapes, x = {}, torch.zeros(1, 3, side, side)
    start = 0
    for cut in backbone.cuts:
        x = backbone.run(x, start=start, stop=cut)
        start = cut
        if x.ndim == 4:
            shapes[cut] = x.shape[1], x.shape[2] * x.shape[3]
    return shapes


def choose_cut(maps: Mapping[int, tuple[int, int]]) -> int | None:
    """The first piece that is given maps of the last resolution: little to keep, much to train. None: nowhere.

    Where one resolution goes through to the end, the last quarter of the pieces.
    """
    if len(maps) < 2:
        return None
    pieces = sorted(maps)
    last = min(places for _, places in maps.values())
    late = next(piece for piece in pieces if maps[piece][1] == last)
    return late if late != pieces[0] else pieces[-max(1, len(pieces) // 4)]


def _is_alike(found: FloatArray, expected: FloatArray) -> bool:
    return bool(np.abs(found - expected).max() <= _MAX_GAP * max(1e-6, np.abs(expected).max()))
