from __future__ import annotations

import html
import re

import pytest

from drivetrain.data.datasheet import QUESTIONS, write_datasheet
from drivetrain.data.items import Item
from drivetrain.data.lineage import digest_items


def sheet(
    train: dict[str, int] | None = None, valid: dict[str, int] | None = None, *, unreadable: int = 0, path: str = "x"
) -> str:
    counts = {"train": train or {"cat": 30, "dog": 8}, "valid": valid or {"cat": 10, "dog": 2}}
    return write_datasheet("pets", counts=counts, unreadable=[(path, "cut short")] * unreadable)


def test_counts_and_questions() -> None:
    text = sheet({"cat": 3000, "dog": 8}, {"cat": 1000, "dog": 2})
    assert text.startswith("# Datasheet of the pictures behind pets\n")
    assert "| cat | 3,000 | 1,000 |\n| dog | 8 | 2 |\n" in text
    assert "4,010 pictures in 2 classes; the largest, cat, has 400.0 times the pictures of the smallest, dog." in text
    assert [line.removeprefix("- ") for line in text.splitlines() if line.startswith("- ")] == list(QUESTIONS)


@pytest.mark.parametrize(("n", "listed"), [(0, 0), (1, 1), (100, 100), (103, 100)])
def test_unreadable_files_are_named(n: int, listed: int) -> None:
    text = sheet(unreadable=n)
    assert f"Files that could not be read and were left out: {n or 'none'}\n" in text
    assert text.count("- x: cut short\n") == listed
    assert ("- and 3 more\n" in text) is (n == 103)


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "**a**",
        "<script>alert(1)</script>",
        "[a](javascript:b)",
        "`a`",
        "a_b_",
        "# a",
        "~~a~~",
        "&lt;",
        "a\n\n# b",
    ],
)
def test_names_cannot_mark_up(name: str) -> None:
    text = sheet({name: 8, "dog": 8}, {name: 2, "dog": 2}, unreadable=1, path=name)
    rows = [line for line in text.splitlines() if line.endswith("| 8 | 2 |")]
    assert len(rows) == 2
    cell = rows[0].removeprefix("| ").removesuffix(" | 8 | 2 |")
    assert "<" not in text
    assert not re.search(r"(?<!\\)[`*_\[\]|#~]", cell)
    assert html.unescape(re.sub(r"\\(.)", r"\1", cell)) == " ".join(name.split())
    assert f"- {cell}: cut short" in text


def test_the_digest_knows_pictures_and_labels_but_not_their_order() -> None:
    items = [(Item(path=f"{i}.jpg", label="cat"), bytes([i]) * 32) for i in range(3)]
    digest = digest_items(items)
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert digest_items(items[::-1]) == digest
    assert digest_items([*items[:2], (items[2][0], bytes(32))]) != digest
    assert digest_items([*items[:2], (Item(path="2.jpg", label="dog"), items[2][1])]) != digest
    assert digest_items(items[:2]) != digest
