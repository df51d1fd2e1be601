"""Open a bundle for a server: on which device, with which sessions, run in which way; and tune it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from drivetrain.bundle.archive import Bundle, read_bundle
from drivetrain.errors import BundleRefused, DrivetrainError, Unavailable
from drivetrain.imaging.decode import DecodeLimits

from .batch_types import Tuning
from .device import Device, find_device
from .memory import settle_memory
from .predictor import Predictor
from .tuning import (
    Found,
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
        source = "as tuned for this machine" if self.is_tuned else "by default (`--tune` measures this machine)"
        told = f"{_in_words(self.tuning)}; {source}"
        return self.predictor.device.statement, f"{self.predictor.version}: {told}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What tuning found, and where it is kept; nowhere if the machine was too busy to tell."""

    version: str
    found: Found
    file: Path | None

    @property
    def statement(self) -> str:
        """One line for a person."""
        found = self.found
        if self.file is None:
            return (
                f"{self.version}: not tuned: other programs took {100 * found.others_share:.0f} % of the cores "
                "meanwhile, so nothing can be told. Try again when they are done; until then the default is used"
            )
        gain = f"{found.gain:.2f} times the default's pictures a second" if found.gain > 1 else "which is the default"
        return f"{self.version}: tuned in {len(found.trials)} trials: {_in_words(found.tuning)}; {gain}"


def open_ready(
    path: Path,
    *,
    limits: DecodeLimits,
    threads: int,
    device: str = "auto",
    cache_dir: Path | None = None,
    available: list[str] | None = None,
) -> Ready:
    """Read, check and prove NAME.dt, with the sessions that its tuning wants; what was tuned is found in `cache_dir`.

    `threads` cores are ours; `available` are onnxruntime's providers, by default those of the package installed. "auto"
    takes cuda only if the fixtures come out there as they must. Raises NotFound and BundleRefused; InvalidConfig,
    MissingExtra or Unavailable for a device that was asked for and is not there.
    """
    bundle = read_bundle(path)
    asked = find_device(device, available=available)
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
    result = find_tuning(predictor, threads=threads, device=found, seconds=seconds)
    file = None
    if result.is_quiet:
        key = machine_key(device=found, threads=threads)
        file = write_tuning(cache_dir, result, digest=bundle.manifest.digest, key=key)
    return Tuned(version=bundle.version, found=result, file=file)


def _open(bundle: Bundle, device: Device, *, limits: DecodeLimits, threads: int, cache_dir: Path | None) -> Ready:
    key = machine_key(device=device, threads=threads)
    kept = None if cache_dir is None else read_tuning(cache_dir, digest=bundle.manifest.digest, key=key)
    tuning = kept or default_tuning(threads, device=device)
    wanted = tuning.threads_of_sessions
    predictor = Predictor(bundle, limits=limits, threads=threads, session_threads=wanted, device=device)
    settle_memory()
    return Ready(predictor=predictor, tuning=tuning, is_tuned=kept is not None)


def _in_short(exc: DrivetrainError) -> str:
    if isinstance(exc, BundleRefused):
        return "there its fixtures do not come out as they must"
    return f"does not run here ({exc.got})"


def _in_words(way: Tuning) -> str:
    wait = f", waiting up to {1000 * way.max_wait_s:g} ms for company" if way.max_wait_s else ""
    return (
        f"{way.workers} threads, {way.sessions} at a time in the network on {way.session_threads} cores each, "
        f"{way.alone_threads} for a picture alone; up to {way.max_size} pictures taken at once{wait}, "
        f"{way.run_size} a run"
    )
