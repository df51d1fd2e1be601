"""What is written agrees with what is built: settings, verbs, error codes, version, pins."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from http import HTTPStatus
from pathlib import Path

from drivetrain.errors import BundleRefused
from drivetrain.settings import ENV_PREFIX, SETTINGS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "drivetrain"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def table_rows(path: Path) -> list[list[str]]:
    """The cells of every table row whose first cell is `code`."""
    lines = path.read_text("utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]


def defined_codes() -> set[str]:
    """Class attributes `code = "..."`, the rules that BundleRefused tells of, and those it is raised with."""
    codes = set(re.findall(r"\bbundle_[a-z]+", BundleRefused.__doc__ or ""))
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                codes.update(
                    line.value.value
                    for line in node.body
                    if isinstance(line, ast.Assign)
                    and ast.unparse(line.targets[0]) == "code"
                    and isinstance(line.value, ast.Constant)
                )
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "BundleRefused" and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    codes.add(first.value)
    return codes


def test_settings_are_documented_as_they_are() -> None:
    want = [
        [f"`{row.name}`", f"`{row.default}`", row.unit, f"`{ENV_PREFIX}{row.name.upper()}`", row.help]
        for row in SETTINGS
    ]
    assert table_rows(ROOT / "docs" / "settings.md") == want


def test_error_codes_are_documented() -> None:
    codes = defined_codes()
    assert {"error", "not_found", "bundle_digest"} <= codes
    rows = table_rows(ROOT / "docs" / "errors.md")
    documented = {row[0].strip("`") for row in rows}
    assert len(rows) == len(documented)
    assert codes - documented == set()
    of_http = {"internal"} | {status.name.lower() for status in HTTPStatus}
    assert documented - codes - of_http == set()


def test_verbs_are_documented() -> None:
    verbs = importlib.import_module("drivetrain.cli.main").VERBS
    assert verbs
    text = (ROOT / "docs" / "cli.md").read_text("utf-8")
    assert [verb for verb in verbs if not re.search(rf"\bdrivetrain {re.escape(verb)}\b", text)] == []


def test_the_changelog_starts_with_this_version() -> None:
    versions = re.findall(r"^## \[?(\d+\.\d+\.\d+)\b", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert versions[0] == PROJECT["project"]["version"]


def test_everything_installed_here_has_an_exact_pin() -> None:
    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []  # "+cpu" would pin one platform
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [
        *PROJECT["build-system"]["requires"],
        *PROJECT["project"]["dependencies"],
        *extras["train"],  # the only extra that `make` installs
        *PROJECT["dependency-groups"]["dev"],
    ]
    names = {plain(re.split(r"[^\w.-]", line, maxsplit=1)[0]) for line in wanted}
    assert names - {plain(pin.split("==")[0]) for pin in pins} == set()
