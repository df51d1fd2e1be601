"""Open a bundle for a server: on which device, with which sessions, run in which way; and tune it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from drivetrain.bundle.archive import Bundle, read_bundle
from drivetrain.errors import BundleRefused, DrivetrainError, Unavailable
from drivetrain.imaging.decode import DecodeLimits

from .batch_types import Tuning
from .device import Device, find_device
from .predictor import Predictor
from .tuning import (
    Trial,
    default_tuning,
    find_tuning,
    machine_key,
    read_tuning,
    session_threads_tried,
    write_tuning,
)

__all__ = ["Ready", "Tuned", "open_ready", "tune_bundle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A model that is proved, and how it is run."""

    predictor: Predictor
    tuning: Tuning
    is_tuned: bool

    @property
    def statements(self) -> tuple[str, ...]:
        """What a start should say: the device and why, and how the model is run."""
        way = self.tuning
        source = "as tuned for this machine" if self.is_tuned else "by default (`--tune` measures this machine)"
        wait = f", waiting up to {1000 * way.max_wait_s:g} ms for company" if way.max_wait_s else ""
        told = (
            f"{way.workers} threads, {way.sessions} runs at once on {way.session_threads} each, "
            f"{way.alone_threads} for a picture alone, up to {way.max_size} pictures a run{wait}, {source}"
        )
        return self.predictor.device.statement, f"{self.predictor.version}: {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What tuning found, and where it is kept."""

    tuning: Tuning
    trials: list[Trial]
    file: Path


def open_ready(
    path: Path, *, limits: DecodeLimits, threads: int, device: str = "auto", cache_dir: Path | None = None
) -> Ready:
    """Read, check and prove NAME.dt, with the sessions that its tuning wants; what was tuned is found in `cache_dir`.

    `threads` cores are ours. Raises NotFound, BundleRefused; InvalidConfig, MissingExtra or Unavailable for a device
    that was asked for and is not there. "auto" takes cuda only if the fixtures come out there as they must.
    """
    bundle = read_bundle(path)
    asked = find_device(device)
    try:
        return _open(bundle, asked, limits=limits, threads=threads, cache_dir=cache_dir)
    except (Unavailable, BundleRefused) as exc:
        if asked.asked != "auto" or asked.name == "cpu":
            raise
        cpu = replace(asked, name="cpu", why=f"cuda was tried, and {_in_short(exc)}")
        return _open(bundle, cpu, limits=limits, threads=threads, cache_dir=cache_dir)


def tune_bundle(
    path: Path, *, limits: DecodeLimits, threads: int, device: str = "auto", cache_dir: Path, seconds: float = 2.0
) -> Tuned:
    """Try ways to run NAME.dt on this machine for about `seconds`, and keep the best for `open_ready`."""
    found = open_ready(path, limits=limits, threads=threads, device=device).predictor.device
    bundle = read_bundle(path)
    tried = session_threads_tried(threads, device=found)
    predictor = Predictor(bundle, limits=limits, threads=threads, session_threads=tried, device=found)
    tuning, trials = find_tuning(predictor, threads=threads, device=found, seconds=seconds)
    key = machine_key(device=found, threads=threads)
    file = write_tuning(cache_dir, tuning, trials, digest=bundle.manifest.digest, key=key)
    return Tuned(tuning=tuning, trials=trials, file=file)


def _open(bundle: Bundle, device: Device, *, limits: DecodeLimits, threads: int, cache_dir: Path | None) -> Ready:
    key = machine_key(device=device, threads=threads)
    kept = None if cache_dir is None else read_tuning(cache_dir, digest=bundle.manifest.digest, key=key)
    tuning = kept or default_tuning(threads, device=device)
    wanted = tuning.threads_of_sessions
    predictor = Predictor(bundle, limits=limits, threads=threads, session_threads=wanted, device=device)
    return Ready(predictor=predictor, tuning=tuning, is_tuned=kept is not None)


def _in_short(exc: DrivetrainError) -> str:
    if isinstance(exc, BundleRefused):
        return "there its fixtures do not come out as they must"
    return f"does not run here ({exc.got})"
