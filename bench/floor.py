"""The floor: the least that must be done, written as plainly as it can be, without the package under test.

Decode (scaled DCT where the JPEG allows it), resize, crop, normalise, one run of the network. The faster of one session
on all cores with decoding in threads beside it, and one session a core.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnxruntime as ort
from PIL import Image

CORES = len(os.sched_getaffinity(0))
_MEAN, _STD = np.float32(127.0), np.float32(128.0)


def open_session(model: Path | bytes, *, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(
        model if isinstance(model, bytes) else str(model), options, providers=["CPUExecutionProvider"]
    )


def decode(file: Path | BinaryIO, size: int) -> np.ndarray:
    opened = Image.open(file)
    opened.draft("RGB", (size, size))
    image = opened.convert("RGB")
    ratio = size / min(image.size)
    image = image.resize((round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BILINEAR)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32)
    return np.ascontiguousarray(((pixels - _MEAN) / _STD).transpose(2, 0, 1))[np.newaxis]


def _decode_all(files: Sequence[Path], size: int) -> np.ndarray:
    return np.concatenate([decode(file, size) for file in files])


def pass_session_a_core(session: ort.InferenceSession, files: Sequence[Path], size: int, output: str) -> float:
    """Seconds; `session` has one thread, and as many callers as there are cores."""

    def work(file: Path) -> None:
        session.run([output], {"pixels": decode(file, size)})

    begun = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(work, files))
    return time.perf_counter() - begun


def pass_one_session(session: ort.InferenceSession, files: Sequence[Path], size: int, output: str) -> float:
    """Seconds; `session` works on all cores, eight pictures a batch, while threads decode the next ones."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(CORES) as pool:
        batches = [files[i : i + 8] for i in range(0, len(files), 8)]
        ahead = [pool.submit(_decode_all, batch, size) for batch in batches]
        for decoded in ahead:
            session.run([output], {"pixels": decoded.result()})
    return time.perf_counter() - begun


def measure(model: Path, files: Sequence[Path], size: int, *, output: str = "frozen") -> tuple[float, str]:
    """(seconds, which way was faster) for one pass over `files`, after a warm-up."""
    narrow, wide = open_session(model, threads=1), open_session(model, threads=CORES)
    for session in (narrow, wide):
        pass_session_a_core(session, files[:16], size, output)
    ways = {
        "one session a core": pass_session_a_core(narrow, files, size, output),
        "one session on all cores": pass_one_session(wide, files, size, output),
    }
    best = min(ways, key=lambda way: ways[way])
    return ways[best], best
