from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from drivetrain.errors import BundleRefused, InvalidInput, NotFound
from drivetrain.flows.versions import (
    compare_versions,
    describe_version,
    find_version,
    list_versions,
    register_version,
)
from drivetrain.store.deployments import Deployment
from drivetrain.store.store import Store, open_store
from drivetrain.store.versions import Version

LINEAGE = {"data_digest": "d1", "split_digest": "s1", "parent": None}
EVALUATION = {
    "n": 100,
    "accuracy": 0.9,
    "accuracy_low": 0.8,
    "accuracy_high": 0.95,
    "macro_f1": 0.88,
    "confusion": [[1, 2], [3, 4]],
    "per_class": [
        {"label": "circle", "recall": 0.5, "recall_low": 0.3, "recall_high": 0.7},
        {"label": "square", "recall": None, "recall_low": 0.0, "recall_high": 1.0},
    ],
    "deferral": {"coverage": 0.7, "coverage_low": 0.6, "coverage_high": 0.8, "n_wrong": 2},
}


def write(path: Path, *, name: str = "shapes", **sections: Any) -> Path:
    """An honest bundle of a few kilobytes."""
    key = "flows_forge_bundle"
    if key not in sys.modules:
        spec = importlib.util.spec_from_file_location(key, Path(__file__).parents[1] / "bundle" / "forge.py")
        assert spec
        assert spec.loader
        sys.modules[key] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[key])
    parts = (
        sys.modules[key].tiny_parts().changed(name=name, **{"evaluation": EVALUATION, "lineage": LINEAGE, **sections})
    )
    path.write_bytes(parts.archive())
    return path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/d.db") as opened:
        yield opened


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path / "shapes.dt")


def test_a_bundle_is_registered_with_what_it_says(store: Store, bundle: Path) -> None:
    made = register_version(store, bundle, at=5.0, by="ann")
    assert made == describe_version(bundle, at=5.0, by="ann") == store.versions.get(made.version)
    assert made.version == f"shapes@{made.digest[:12]}"
    assert (made.model, made.path, made.parent, made.registered_at, made.registered_by) == (
        "shapes", str(bundle), None, 5.0, "ann",
    )  # fmt: skip
    assert made.facts["task"] == "classification"
    assert made.facts["lineage"] == LINEAGE
    assert made.facts["evaluation"] == {k: v for k, v in EVALUATION.items() if k != "confusion"}


def test_the_parent_is_told(store: Store, tmp_path: Path) -> None:
    made = register_version(store, write(tmp_path / "b.dt", lineage={"parent": "f" * 64}), at=0.0, by="x")
    assert made.parent == "f" * 64


def test_a_bundle_that_moved_is_found_at_its_new_place(store: Store, bundle: Path, tmp_path: Path) -> None:
    first = register_version(store, bundle, at=5.0, by="ann")
    moved = bundle.rename(tmp_path / "moved.dt")
    assert register_version(store, moved, at=9.0, by="bob") == replace(first, path=str(moved))
    assert len(store.versions.list()) == 1


def test_what_is_no_bundle_is_not_registered(store: Store, tmp_path: Path) -> None:
    (tmp_path / "bad.dt").write_bytes(b"no zip")
    with pytest.raises(BundleRefused):
        register_version(store, tmp_path / "bad.dt", at=0.0, by="x")
    with pytest.raises(NotFound):
        register_version(store, tmp_path / "absent.dt", at=0.0, by="x")
    assert store.versions.list() == []


def test_a_version_is_found_by_what_a_person_types(store: Store, bundle: Path, tmp_path: Path) -> None:
    first = register_version(store, bundle, at=1.0, by="ann")
    second = register_version(store, write(tmp_path / "2.dt", lineage={"seed": 2}), at=2.0, by="ann")
    other = write(tmp_path / "other.dt", name="other")
    for given, found in (
        (first.version, first),
        (first.digest[:6], first),
        (f"shapes@{first.digest[:4]}", first),
        ("shapes", second),  # the newest
    ):
        assert find_version(store, given) == found
    assert find_version(store, str(other)).model == "other"
    assert len(store.versions.list()) == 2  # looked at, not registered
    with pytest.raises(NotFound, match=r"version: got nope; .*Registered are: shapes@"):
        find_version(store, "nope")
    twin = replace(first, digest=first.digest[:10] + "f" * 54, version=f"shapes@{first.digest[:10]}ff")
    store.versions.register(twin)
    with pytest.raises(InvalidInput, match="which 2 begin with; want more digits"):
        find_version(store, first.digest[:10])


def version(number: int, *, model: str = "bears") -> Version:
    digest = f"{number:064x}"[::-1]
    return Version(
        version=f"{model}@{digest[:12]}", model=model, digest=digest, path="/x.dt", registered_at=float(number),
        registered_by="ann",
    )  # fmt: skip


def roll_out(store: Store, candidate: Version, incumbent: Version | None, *, at: float, end: str | None = None) -> None:
    given = Deployment(
        id=f"d{at}", name="bears", model="bears", candidate=candidate.version,
        incumbent=None if incumbent is None else incumbent.version, salt="s", stage="manual", share=0.0, started_at=at,
        started_by="ann",
    )  # fmt: skip

    def seal(last: Any) -> dict[str, Any]:
        return {
            "deployment": given.id, "number": 1 if last is None else 2, "at": "", "by": "ann", "action": "x",
            "before": "", "after": "", "reason": "", "evidence": {}, "previous": "0", "digest": "0",
        }  # fmt: skip

    made = store.deployments.start(given, seal=seal)
    if end is not None:
        store.deployments.transition(
            made.id, revision=1, stage=end, share=1.0, is_held=False, ended_at=at + 5, seal=seal
        )


def test_where_a_version_is_live_and_since_when(store: Store) -> None:
    first, second, third = (store.versions.register(version(i)) for i in (1, 2, 3))

    def states() -> list[tuple[bool, float | None, str | None]]:
        return [(one.is_live, one.live_since, one.stage) for one in list_versions(store)]

    assert states() == [(False, None, None)] * 3
    roll_out(store, second, first, at=10.0, end="rolled_back")
    assert states() == [(True, None, None), (False, None, None), (False, None, None)]
    roll_out(store, second, first, at=20.0, end="live")
    assert states() == [(False, None, None), (True, 25.0, None), (False, None, None)]
    roll_out(store, third, second, at=30.0)
    assert states() == [(False, None, None), (True, 25.0, None), (False, None, "manual")]
    assert list_versions(store)[2].rollout == "bears"
    assert list_versions(store, model="cats") == []


def test_with_people_as_incumbent_none_is_live(store: Store) -> None:
    roll_out(store, store.versions.register(version(1)), None, at=10.0)
    assert [(one.is_live, one.stage) for one in list_versions(store)] == [(False, "manual")]


def compared(tmp_path: Path, **sections: Any) -> dict[str, Any]:
    first = describe_version(write(tmp_path / "1.dt"), at=0.0, by="")
    second = describe_version(write(tmp_path / "2.dt", **sections), at=0.0, by="")
    found = compare_versions(first, second)
    rows = {
        row.name: (row.first and row.first.value, row.second and row.second.value, row.difference) for row in found.rows
    }
    return {"rows": rows, "same": found.is_same_pictures, "notes": found.notes}


def test_two_evaluations_side_by_side(tmp_path: Path) -> None:
    better = {**EVALUATION, "accuracy": 0.95, "brier": 0.1, "brier_low": 0.05, "brier_high": 0.2}
    better |= {"ece": 0.1, "ece_low": None, "ece_high": None}  # of too few pictures for an interval
    better["per_class"] = [{"label": "circle", "recall": 0.75, "recall_low": 0.6, "recall_high": 0.9}]
    found = compared(tmp_path, evaluation=better)
    assert found["rows"] == {
        "accuracy": (0.9, 0.95, pytest.approx(0.05)),
        "recall: circle": (0.5, 0.75, 0.25),
        "recall: square": (None, None, None),
        "deferral.coverage": (0.7, 0.7, 0.0),
        "brier": (None, 0.1, None),
    }
    assert found["same"]
    assert found["notes"] == ()


def test_what_makes_a_comparison_weak_is_told(tmp_path: Path) -> None:
    other = compared(tmp_path, lineage={**LINEAGE, "split_digest": "s2"})
    assert not other["same"]
    assert [note[:42] for note in other["notes"]] == ["They were measured on different pictures, "]
    unknown = compared(tmp_path, lineage={})
    assert not unknown["same"]


def test_other_classes_are_told(tmp_path: Path) -> None:
    first = describe_version(write(tmp_path / "1.dt"), at=0.0, by="")
    for facts, note in (
        ({"classes": ["a", "b"]}, "They do not know the same classes."),
        ({"task": "regression"}, "They do different tasks: classification and regression."),
    ):
        second = Version(**asdict(first) | {"facts": {**first.facts, **facts}})
        assert compare_versions(first, second).notes == (note,)
