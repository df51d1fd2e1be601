"""Every module says what it is for and which names are public; that `__all__` is sorted, ruff checks (RUF022)."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "drivetrain"
FILES = {
    ".".join(["drivetrain", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def public_names(tree: ast.Module) -> set[str]:
    """The names that a module defines itself, without those it imports."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return {name for name in names if not name.startswith("_")}


def test_the_modules_were_found() -> None:
    assert {"drivetrain", "drivetrain.errors", "drivetrain.data"} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_module_has_a_docstring(name: str) -> None:
    assert ast.get_docstring(ast.parse(FILES[name].read_text("utf-8"))), f"{name} has no docstring"


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith("__main__")])
def test_all_is_there_and_true(name: str) -> None:
    module = importlib.import_module(name)
    defined = public_names(ast.parse(FILES[name].read_text("utf-8")))
    exported = getattr(module, "__all__", None)
    if exported is None:
        assert not defined, f"{name} defines {sorted(defined)} and has no __all__"
        return
    assert len(exported) == len(set(exported)), f"{name}.__all__ names something twice"
    gone = [entry for entry in exported if not hasattr(module, entry)]
    assert not gone, f"{name}.__all__ names {gone}, which the module does not have"
