"""What an import costs: torch loads only in those modules of `learn` that name it, and the fast paths stay light."""

from __future__ import annotations

import ast
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


def names_torch(path: Path) -> bool:
    """Whether the file imports torch when it is imported: by name, outside of functions and `if TYPE_CHECKING`."""
    for node in ast.parse(path.read_text("utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = [node.module]
        if any(name.split(".")[0] == "torch" for name in names):
            return True
    return False


def test_torch_loads_only_where_it_is_named() -> None:
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if path.stem != "__main__"]
    needs_torch = {path for path in files if path.is_relative_to(PACKAGE / "learn") and names_torch(path)}
    names = [module_name(path) for path in files if path not in needs_torch]
    assert len(names) == len(files) - len(needs_torch) > 10
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


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import torch", True),
        ("import torch.nn.functional as F", True),
        ("from torch import nn", True),
        ("def f():\n    import torch", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", False),
        ("from .torch import x", False),
        ("import torchlike", False),
    ],
)
def test_torch_named_at_import(text: str, found: bool, tmp_path: Path) -> None:
    file = tmp_path / "m.py"
    file.write_text(text)
    assert names_torch(file) is found
