"""The commands that measure: they run, on pictures made here, and print what they are for. Never how fast."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import promise


def test_promises_are_counted_over_re_splits(
    picture_folder: Callable[..., Path], shared_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = picture_folder(per_class=60, suffix=".jpg", root=tmp_path / "data")
    test = picture_folder(per_class=8, seed=3, suffix=".jpg", root=tmp_path / "test")
    given = ["--data", str(data), "--test", str(test), "--cache-dir", str(shared_cache)]
    promise.main([*given, "--methods", "head", "--shares", "0.3", "--resplits", "3"])
    told = capsys.readouterr().out
    assert re.search(r"108 pictures train, 72 are re-split 3 times; 24 are of the test", told)
    here, apart = told.split("the same promises on 24 pictures of the test")
    assert re.search(r"^head +30 % +100\.0 % +\d", here, re.MULTILINE)
    assert re.search(r"^head +30 % +100\.0 % +\d", apart, re.MULTILINE)
    assert len(re.findall(r"^head +(?:unknown|shifted|either) ", told, re.MULTILINE)) == 6
