"""The house: imports point down, never up or sideways between the rooms of floors 1 to 3; torch stays in `learn`.

The floors stand in docs/architecture.md. A new room is put on its floor there and in FLOORS here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "drivetrain"
FACE = "(face)"  # drivetrain/__init__.py and __main__.py, above all floors
FLOORS = {
    "arrays": 0, "errors": 0, "files": 0, "imaging": 0, "progress": 0, "settings": 0, "task": 0, "trust": 0, "wal": 0,
    "bundle": 1, "data": 1, "store": 1,
    "runtime": 2,
    "inspect": 3, "learn": 3, "plan": 3, "rollout": 3, "watch": 3,
    "flows": 4,
    "cli": 5, "notebook": 5, "serve": 5,
    FACE: 6,
}  # fmt: skip
CLOSED_FLOORS = {1, 2, 3}  # rooms here do not know one another
TORCH_ROOM = "learn"


class Import(NamedTuple):
    module: str  # who imports, as "data.items"; "" is the package itself
    line: int
    target: str  # the full name imported, as "drivetrain.errors.NotFound" or "torch.nn"


def modules(package: Path) -> dict[str, Path]:
    """Every module by dotted name below the package, found as Python finds them: through __init__.py."""
    found = {"": package / "__init__.py"}
    for path in sorted(package.iterdir()):
        if path.is_dir() and (path / "__init__.py").is_file():
            found |= {f"{path.name}.{name}".rstrip("."): file for name, file in modules(path).items()}
        elif path.suffix == ".py" and path.stem != "__init__":
            found[path.stem] = path
    return found


def imports(module: str, path: Path, *, package: str) -> Iterator[Import]:
    """All imports of a file, also those inside functions and `if TYPE_CHECKING`, relative ones made absolute."""
    here = [package, *(module.split(".") if module else [])]
    if path.name != "__init__.py":
        here.pop()
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (Import(module, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            yield from (Import(module, node.lineno, ".".join([*base, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "import_module",
            "importlib.import_module",
            "__import__",
        }:
            name = node.args[0] if node.args else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield Import(module, node.lineno, name.value)


def room(module: str) -> str:
    first = module.partition(".")[0]
    return FACE if first in {"", "__main__"} else first


def wrong_edges(package: Path) -> list[str]:
    """What breaks the rules, a line each; [] when the house stands."""
    found = modules(package)
    problems = [
        f"{name}: no floor for room {room(name)!r}; give it one in docs/architecture.md and tests/test_layers.py"
        for name in found
        if room(name) not in FLOORS
    ]
    for name, path in found.items():
        own = room(name)
        for edge in imports(name, path, package=package.name):
            where = f"{path.relative_to(package.parent)}:{edge.line}"
            top, _, rest = edge.target.partition(".")
            if top == "torch" and own != TORCH_ROOM:
                problems.append(f"{where}: only {TORCH_ROOM}/ imports torch")
            if top != package.name:
                continue
            other = room(rest) if room(rest) in FLOORS or room(rest) in {room(m) for m in found} else FACE
            if other == own or own not in FLOORS or other not in FLOORS:
                continue
            if FLOORS[other] > FLOORS[own]:
                problems.append(f"{where}: upward import, {own} (floor {FLOORS[own]}) -> {other} ({FLOORS[other]})")
            elif FLOORS[other] == FLOORS[own] and FLOORS[own] in CLOSED_FLOORS:
                problems.append(f"{where}: sideways import, {own} -> {other} (both on floor {FLOORS[own]})")
    return problems


def test_imports_point_down() -> None:
    wrong = wrong_edges(PACKAGE)
    assert not wrong, "\n".join(wrong)


def test_every_file_was_looked_at() -> None:
    found = modules(PACKAGE)
    on_disk = sorted(PACKAGE.rglob("*.py"))
    assert sorted(found.values()) == on_disk  # a folder without __init__.py would hide its files
    assert {"", "errors", "settings", "progress"} <= set(found)


def write_tree(root: Path, files: dict[str, str]) -> Path:
    package = root / "drivetrain"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in [path.parent, *path.parent.parents]:
            if folder == root:
                break
            (folder / "__init__.py").touch()
        path.write_text(text)
    return package


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("data/items.py", "import drivetrain.runtime.predictor", "1: upward import, data (floor 1) -> runtime (2)"),
        ("data/items.py", "from drivetrain.flows import train", "1: upward import, data (floor 1) -> flows (4)"),
        ("data/items.py", "from drivetrain import flows", "1: upward import, data (floor 1) -> flows (4)"),
        ("data/items.py", "from drivetrain import load", "1: upward import, data (floor 1) -> (face) (6)"),
        ("data/items.py", "import drivetrain", "1: upward import, data (floor 1) -> (face) (6)"),
        ("data/items.py", "from .. import flows", "1: upward import, data (floor 1) -> flows (4)"),
        ("data/items.py", "from ..bundle import manifest", "1: sideways import, data -> bundle (both on floor 1)"),
        ("data/sub/deep.py", "from ...bundle import x", "1: sideways import, data -> bundle (both on floor 1)"),
        ("data/__init__.py", "from ..bundle import x", "1: sideways import, data -> bundle (both on floor 1)"),
        ("learn/head.py", "def f():\n    from ..inspect import x", "2: sideways import, learn -> inspect"),
        ("errors.py", "from .data import items", "1: upward import, errors (floor 0) -> data (1)"),
        (
            "watch/drift.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..plan import x",
            "3: sideways import, watch -> plan (both on floor 3)",
        ),
        ("data/items.py", 'import importlib\nimportlib.import_module("drivetrain.cli")', "2: upward import, data"),
        ("flows/train.py", "def f():\n    import torch.nn as nn", "2: only learn/ imports torch"),
        ("runtime/x.py", "from torch import nn", "1: only learn/ imports torch"),
        ("garage/x.py", "", "garage.x: no floor for room 'garage'"),
    ],
)
def test_a_wrong_edge_is_found(file: str, text: str, problem: str, tmp_path: Path) -> None:
    found = wrong_edges(write_tree(tmp_path, {file: text}))
    assert [line for line in found if problem in line], found


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "flows/train.py",
            "from ..learn import head\nfrom ..data import items\nfrom drivetrain.errors import X",
        ),
        ("cli/train.py", "from ..flows import train\nfrom ..serve import app"),  # faces may know one another
        ("imaging/decode.py", "from ..errors import InvalidInput"),  # the ground is one floor
        ("data/items.py", "from . import labels\nfrom .labels import x\nimport numpy"),
        ("learn/backbones.py", "import torch"),
        ("__init__.py", "from .cli import main"),
        ("__main__.py", "from .cli.main import main"),
        ("data/items.py", "from torchlike import x"),
    ],
)
def test_a_right_edge_passes(file: str, text: str, tmp_path: Path) -> None:
    assert wrong_edges(write_tree(tmp_path, {"__init__.py": "", file: text})) == []
