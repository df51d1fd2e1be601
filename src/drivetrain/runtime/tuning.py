"""How a model is run on this machine: sane defaults, or what two seconds of trying found, kept in the cache folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from drivetrain.errors import InvalidConfig

from .batch_types import BatchModel, PictureJob, Tuning
from .batcher import Batcher
from .device import Device
from .parallel import callers_for

__all__ = [
    "Found",
    "Others",
    "Trial",
    "default_tuning",
    "find_tuning",
    "machine_key",
    "read_tuning",
    "session_threads_tried",
    "write_tuning",
]

_FORMAT = 1
_FOLDER = "tuning"
_ALONE_MOST = 8  # cores for one picture by default: a small network gains nothing from more
_CUDA_SIZE, _CUDA_SESSIONS = 16, 2  # one run computes while the pixels of the next are copied
_SIZE = 8  # pictures that a thread takes at once, on CPUs: their answers leave together, which costs less Python
_SIZES = ((1, 1), (4, 1), (16, 1), (4, 4), (16, 16))  # (max_size, run_size) that are tried
_SANE_MOST = 1024  # of any number read back
_GAIN = 1.08  # what another way must bring before the default is left: below, it may be chance
_BUSY = 0.15  # of the cores' time, taken by others: with more, what is measured is chance
_IN_FLIGHT = 16  # pictures that wait while throughput is measured, as of so many clients
_ROUNDS = 3  # each way is tried so often, in turn, and its best counts: other work on the machine only slows
_PICTURE = (533, 400)  # pixels


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One way that was tried, and how it did."""

    tuning: Tuning
    in_flight: int  # pictures that waited at once
    pictures_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What trying brought."""

    tuning: Tuning  # the best, or where others kept the cores busy the default
    trials: list[Trial]  # the default first
    others_share: float  # of the time of the cores, what other programs took meanwhile

    @property
    def is_quiet(self) -> bool:
        """Whether the cores were free enough for the numbers to mean something."""
        return self.others_share <= _BUSY

    @property
    def gain(self) -> float:
        """Pictures a second under load, over those of the default."""
        way = replace(self.tuning, alone_threads=1)
        same = [one for one in self.trials if replace(one.tuning, alone_threads=1) == way and one.in_flight > 1]
        return max(one.pictures_per_s for one in same) / self.trials[0].pictures_per_s


def default_tuning(threads: int, *, device: Device) -> Tuning:
    """On CPUs a picture a run and a run a core; all cores for a picture that is alone. On a GPU, batches."""
    if device.name == "cuda":
        return Tuning(workers=threads + 1, sessions=_CUDA_SESSIONS, max_size=_CUDA_SIZE, run_size=_CUDA_SIZE)
    alone = min(threads, _ALONE_MOST)
    return Tuning(workers=callers_for(threads), sessions=threads, alone_threads=alone, max_size=_SIZE)


def session_threads_tried(threads: int, *, device: Device) -> list[int]:
    """The sizes of session that `find_tuning` compares: 1, 2, 4, ... and all."""
    if device.name == "cuda":
        return [1]
    return sorted({2**power for power in range(threads.bit_length()) if 2**power <= threads} | {threads})


def find_tuning(
    model: BatchModel,
    *,
    threads: int,
    device: Device,
    seconds: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
    others: Callable[[], Others] | None = None,
) -> Found:
    """The best way found within about `seconds`, on a generated photograph.

    `model` has a session for each of `session_threads_tried`. First how many sessions of how many threads, then how
    many pictures at once, then the cores for a picture alone.
    """
    usual = default_tuning(threads, device=device)
    picture = _make_picture()
    counts = session_threads_tried(threads, device=device)
    watched = (others or Others)()
    ways = [usual] + [
        replace(usual, sessions=max(1, threads // count), session_threads=count) for count in counts if count > 1
    ]
    trials = _compare(model, ways, picture, seconds=seconds / 4, clock=clock)
    best = _choose(trials)
    sized = [replace(best, max_size=most, run_size=size) for most, size in _SIZES]
    second = _compare(model, [best, *(way for way in sized if way != best)], picture, seconds=seconds / 2, clock=clock)
    trials, best = trials + second, _choose(second)
    if len(counts) > 1:
        alone = [replace(best, alone_threads=count) for count in counts]
        alone.sort(key=lambda way: way.alone_threads != usual.alone_threads)  # the default first
        third = _compare(model, alone, picture, seconds=seconds / 4, clock=clock, in_flight=1)
        trials, best = trials + third, _choose(third)
    found = Found(tuning=best, trials=trials, others_share=watched.share())
    return found if found.is_quiet else replace(found, tuning=usual)


def machine_key(*, device: Device, threads: int) -> str:
    """A digest of what tuning depends on beside the model: processor, cores, onnxruntime, device, threads."""
    import onnxruntime as ort

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = [_FORMAT, platform.machine(), _processor(), cores, ort.__version__, device.name, threads]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def read_tuning(cache_dir: Path, *, digest: str, key: str) -> Tuning | None:
    """What was found for this bundle on this machine; None where nothing was, or the file is damaged."""
    try:
        told: Any = json.loads(_file(cache_dir, digest, key).read_text("utf-8"))
        if told["format"] != _FORMAT:
            return None
        tuning = Tuning(**told["tuning"])
    except (OSError, ValueError, KeyError, TypeError, InvalidConfig):
        return None
    numbers = (
        tuning.workers,
        tuning.sessions,
        tuning.session_threads,
        tuning.alone_threads,
        tuning.max_size,
    )  # run_size is no larger
    return tuning if max(numbers) <= _SANE_MOST else None


def write_tuning(cache_dir: Path, found: Found, *, digest: str, key: str) -> Path:
    """Keep it for the next start; gives the file."""
    from drivetrain.files import write_whole

    told = {"format": _FORMAT, **asdict(found)}
    file = _file(cache_dir, digest, key)
    write_whole(file, json.dumps(told, indent=1).encode())
    return file


def _file(cache_dir: Path, digest: str, key: str) -> Path:
    return cache_dir / _FOLDER / f"{digest[:32]}-{key}.json"


def _choose(trials: Sequence[Trial]) -> Tuning:
    """The fastest; the first of them, the usual way, unless another is clearly faster."""
    best = max(trials, key=lambda trial: trial.pictures_per_s)
    return best.tuning if best.pictures_per_s > _GAIN * trials[0].pictures_per_s else trials[0].tuning


def _compare(
    model: BatchModel,
    ways: Sequence[Tuning],
    picture: bytes,
    *,
    seconds: float,
    clock: Callable[[], float],
    in_flight: int = _IN_FLIGHT,
) -> list[Trial]:
    slice_s = seconds / (_ROUNDS * len(ways))
    rates: list[list[float]] = [[] for _ in ways]
    ends = clock() + 2 * seconds  # a large network may need longer than its slice for one batch
    for number in range(_ROUNDS):
        for at, way in enumerate(ways):
            if number == 0 or clock() < ends:
                rates[at].append(_measure(model, way, picture, seconds=slice_s, in_flight=in_flight, clock=clock))
    return [
        Trial(tuning=way, in_flight=in_flight, pictures_per_s=max(found))
        for way, found in zip(ways, rates, strict=True)
    ]


def _measure(
    model: BatchModel, way: Tuning, picture: bytes, *, seconds: float, in_flight: int, clock: Callable[[], float]
) -> float:
    """Pictures a second through a batcher that always has `in_flight` of them."""
    batcher = Batcher(model, tuning=way, queue_max=in_flight, clock=clock, is_warm=True)
    try:
        waiting: set[Future[Any]] = set(batcher.submit([PictureJob(picture)] * in_flight))
        wait(waiting)  # the first ones pay for new shapes
        begun, count = clock(), 0
        waiting = set(batcher.submit([PictureJob(picture)] * in_flight))
        while clock() - begun < seconds or not count:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()  # a model that fails says so here
            count += len(done)
            waiting |= set(batcher.submit([PictureJob(picture)] * len(done)))
        return count / (clock() - begun)
    finally:
        batcher.close(drain_s=0)


class Others:
    """What other programs take of the cores that this process may use, from here on."""

    def __init__(self) -> None:
        self._begun, self._ours_s = _busy_s(), time.process_time()

    def share(self) -> float:
        """In [0, 1]; 0 where the system does not tell."""
        begun, now = self._begun, _busy_s()
        if begun is None or now is None or now[1] <= begun[1]:
            return 0.0
        others_s = now[0] - begun[0] - (time.process_time() - self._ours_s)
        return min(1.0, max(0.0, others_s / (now[1] - begun[1])))


def _busy_s() -> tuple[float, float] | None:
    """(seconds that our cores worked since the system began, seconds in all); None where it is not told."""
    try:
        rows = [line.split() for line in Path("/proc/stat").read_text("utf-8").splitlines() if line.startswith("cpu")]
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = [[int(number) for number in row[1:9]] for row in rows if row[0] in cores]
        tick_s = 1 / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
    everything = sum(map(sum, ticks))
    return (everything - sum(row[3] + row[4] for row in ticks)) * tick_s, everything * tick_s  # but idle and iowait


def _make_picture() -> bytes:
    """A JPEG as large as a small photograph, smooth with some grain, so that it decodes like one."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)).resize(
        _PICTURE, Image.Resampling.BICUBIC
    )
    grain = np.asarray(coarse, dtype=np.int16) + rng.integers(-12, 13, (_PICTURE[1], _PICTURE[0], 3), dtype=np.int16)
    out = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=85)
    return out.getvalue()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
