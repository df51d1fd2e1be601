"""Bundles as versions: register one, say where each is live, lay the evaluations of two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetrain.bundle.archive import read_bundle
from drivetrain.bundle.manifest import Manifest
from drivetrain.errors import InvalidInput, NotFound
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store
from drivetrain.store.versions import Version

__all__ = [
    "Comparison",
    "Measure",
    "MeasurePair",
    "VersionState",
    "compare_versions",
    "describe_version",
    "find_version",
    "list_versions",
    "register_version",
]

_LARGE = ("confusion", "reliability")  # grow with the square of the classes, and are in the bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionState:
    """A version, and where it is in use."""

    version: Version
    is_live: bool
    live_since: float | None  # None: since before its first roll-out here, or not live
    rollout: str | None  # the name of the one in which it is the candidate now
    stage: str | None  # of that


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number of an evaluation, with its 95 % interval."""

    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurePair:
    """One number of two evaluations; None where one has none of that name."""

    name: str  # as "accuracy", "deferral.coverage", "recall: bear"
    first: Measure | None
    second: Measure | None

    @property
    def difference(self) -> float | None:
        """Second less first."""
        if self.first is None or self.second is None or self.first.value is None or self.second.value is None:
            return None
        return self.second.value - self.first.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two versions by what their bundles say of them."""

    first: Version
    second: Version
    rows: tuple[MeasurePair, ...]
    is_same_pictures: bool  # both were measured on the same held-out ones
    notes: tuple[str, ...]


def describe_version(path: Path, *, at: float, by: str) -> Version:
    """What would be registered of a bundle. Raises NotFound and BundleRefused."""
    manifest = read_bundle(path).manifest
    return Version(
        version=f"{manifest.name}@{manifest.digest[:12]}",
        model=manifest.name,
        digest=manifest.digest,
        path=str(path.expanduser().absolute()),
        parent=manifest.lineage.get("parent"),
        facts=_facts(manifest),
        registered_at=at,
        registered_by=by,
    )


def register_version(store: Store, path: Path, *, at: float, by: str) -> Version:
    """Read a bundle and keep what it says; one that is registered already stays, found at its new place."""
    given = describe_version(path, at=at, by=by)
    kept = store.versions.register(given)
    return kept if kept.path == given.path else store.versions.move(kept.version, given.path)


def find_version(store: Store, given: str) -> Version:
    """By its whole name, its digest's first digits, a file, or a model's name (then the newest). Raises NotFound."""
    exact = store.versions.get(given)
    if exact is not None:
        return exact
    if given.endswith(".dt") and Path(given).is_file():
        return describe_version(Path(given), at=0.0, by="")
    every = store.versions.list()
    by_digest = [one for one in every if len(given) >= 4 and one.digest.startswith(given.rpartition("@")[2])]
    if len(by_digest) > 1:
        raise InvalidInput("version", got=f"{given}, which {len(by_digest)} begin with", want="more digits")
    found = by_digest or [one for one in every if one.model == given]
    if not found:
        hint = f"Registered are: {', '.join(one.version for one in every[-5:]) or 'none yet'}."
        raise NotFound("version", got=given, want="a version, a model's name or a .dt file", hint=hint)
    return found[-1]


def list_versions(store: Store, *, model: str | None = None) -> list[VersionState]:
    """The registered ones, the oldest first, and where each is live."""
    deployments = store.deployments.list()
    live = _live(deployments)
    candidates = {one.candidate: one for one in deployments if one.ended_at is None}
    states = []
    for version in store.versions.list(model):
        rollout = candidates.get(version.version)
        states.append(
            VersionState(
                version=version,
                is_live=version.version in live,
                live_since=live.get(version.version),
                rollout=None if rollout is None else rollout.name,
                stage=None if rollout is None else rollout.stage,
            )
        )
    return states


def compare_versions(first: Version, second: Version) -> Comparison:
    """Every number of the two evaluations that has an interval, by name."""
    one, other = (dict(_measures(version.facts.get("evaluation", {}))) for version in (first, second))
    names = [*one, *(name for name in other if name not in one)]
    lineages = [version.facts.get("lineage", {}) for version in (first, second)]
    is_same = all(
        lineages[0].get(name) is not None and lineages[0].get(name) == lineages[1].get(name)
        for name in ("data_digest", "split_digest")
    )
    notes = []
    if first.facts.get("task") != second.facts.get("task"):
        notes.append(f"They do different tasks: {first.facts.get('task')} and {second.facts.get('task')}.")
    elif list(first.facts.get("classes", ())) != list(second.facts.get("classes", ())):
        notes.append("They do not know the same classes.")
    if not is_same:
        notes.append(
            "They were measured on different pictures, so a difference may be that of the pictures. On the same ones: "
            "`drivetrain evaluate SECOND.dt DATA --against FIRST.dt`."
        )
    rows = tuple(MeasurePair(name=name, first=one.get(name), second=other.get(name)) for name in names)
    return Comparison(first=first, second=second, rows=rows, is_same_pictures=is_same, notes=tuple(notes))


def _facts(manifest: Manifest) -> dict[str, Any]:
    evaluation = {name: value for name, value in manifest.evaluation.items() if name not in _LARGE}
    return {
        "task": manifest.task,
        "classes": list(manifest.classes),
        "created_at": manifest.created_at,
        "method": manifest.training.get("method"),
        "n_train": manifest.training.get("n_train"),
        "n_valid": manifest.training.get("n_valid"),
        "lineage": dict(manifest.lineage),
        "promise": manifest.decision.get("statement"),
        "evaluation": evaluation,
    }


def _measures(evaluation: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Measure]]:
    """(name, number) of all that have an interval; of a list of classes, with the class behind the name."""
    for name, value in evaluation.items():
        if isinstance(value, Mapping):
            yield from _measures(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            for row in value:
                if isinstance(row, Mapping) and (label := row.get("label", row.get("name"))) is not None:
                    yield from ((f"{inner}: {label}", measure) for inner, measure in _measures(row, prefix))
        elif (low := evaluation.get(f"{name}_low")) is not None and (
            high := evaluation.get(f"{name}_high")
        ) is not None:
            yield prefix + name, Measure(value=value, low=low, high=high)


def _live(deployments: list[Deployment]) -> dict[str, float | None]:
    """Version -> since when, of the one of each model that was live last; None: since before its roll-out here."""
    live: dict[str, tuple[str | None, float | None]] = {}
    for one in deployments:  # the oldest first
        if live.get(one.model, (None, None))[0] != one.incumbent:
            live[one.model] = (one.incumbent, None)
        if one.stage == "live":
            live[one.model] = (one.candidate, one.ended_at)
    return {version: since for version, since in live.values() if version is not None}
