"""What an import costs: torch loads only in those modules of `learn` that name it, and the fast paths stay light."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "drivetrain"
CLI = PACKAGE / "cli" / "main.py"

# Imports the names given, in order, and prints which of the watched packages each one was first to load.
PROBE = """
import importlib, json, sys
names, watched = json.loads(sys.argv[1])
seen, loaded = set(), {}
for name in names:
    importlib.import_module(name)
    new = sorted(w for w in watched if w in sys.modules and w not in seen)
    seen.update(new)
    if new:
        loaded[name] = new
print(json.dumps(loaded))
"""


def first_loads(names: Sequence[str], watched: Sequence[str]) -> dict[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps([names, watched])],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    loaded: dict[str, list[str]] = json.loads(done.stdout)
    return loaded


def module_name(path: Path) -> str:
    parts = ["drivetrain", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts).removesuffix(".__init__")


# of `learn`: what `train --method head` needs where the trunk is exported, and what looks before it trains
TORCH_FREE = (
    "activations", "device", "edited_items", "export", "folds", "head", "head_fit", "head_targets", "lbfgs",
    "onnx_export", "ridge", "trunk",
)  # fmt: skip


def test_torch_loads_only_in_learn_and_only_where_it_may() -> None:
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path.stem != "__main__"]
    may_load = {path for path in files if path.parent == PACKAGE / "learn" and path.stem not in TORCH_FREE}
    names = [module_name(path) for path in files if path not in may_load]
    assert {f"drivetrain.learn.{name}" for name in TORCH_FREE} <= set(names)
    loaded = first_loads(names, ["torch"])
    assert not loaded, f"{', '.join(loaded)} loads torch through another module: import that one inside the function"


@pytest.mark.parametrize(
    ("name", "heavy"),
    [
        ("drivetrain", ["torch", "scipy", "fastapi", "sqlalchemy", "rich", "sklearn"]),
        ("drivetrain.cli.main", ["torch", "scipy", "fastapi", "sqlalchemy", "rich", "sklearn"]),
        ("drivetrain.runtime.predictor", ["torch", "scipy", "fastapi", "sqlalchemy", "rich", "sklearn"]),
    ],
)
def test_light_imports_stay_light(name: str, heavy: list[str]) -> None:
    loaded = first_loads([name], heavy)
    assert not loaded, f"importing {name} loads {', '.join(loaded[name])}: import it inside the function that needs it"


def test_the_probe_sees_what_is_loaded() -> None:
    assert first_loads(["drivetrain.errors", "sqlite3"], ["sqlite3", "torch"]) == {"sqlite3": ["sqlite3"]}
