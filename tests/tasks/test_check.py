"""`check` on data of labels and of values: faults planted and found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.cli.main import main
from drivetrain.data.items import read_items
from drivetrain.errors import InvalidInput
from drivetrain.flows.check import CheckConfig, CheckResult, check
from drivetrain.progress import SilentProgress
from drivetrain.settings import load_settings

from .forge import write_data

Check = Callable[..., CheckResult]


@pytest.fixture
def run(shared_cache: Path, tmp_path: Path) -> Check:
    def run(data: Path, **options: object) -> CheckResult:
        config = CheckConfig(data=data, size=96, **{"page": None, **options})  # type: ignore[arg-type]
        settings = load_settings(environ={}, folder=tmp_path, flags={"cache_dir": shared_cache, "threads": 2})
        return check(config, settings=settings, progress=SilentProgress())

    return run


def rewrite(root: Path, *, column: str, rows: list[str]) -> Path:
    (root / "labels.csv").write_text("\n".join([f"path,{column}", *rows]))
    return root


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Sixty pictures: "a" on every second, "b" on every third."""
    root = write_data(tmp_path / "labels", "multilabel")
    rows = [f"{at:03}.png,{';'.join(['a'] * (at % 2 == 0) + ['b'] * (at % 3 == 0))}" for at in range(60)]
    return rewrite(root, column="labels", rows=rows)


@pytest.fixture
def values(tmp_path: Path) -> Path:
    root = write_data(tmp_path / "values", "regression")
    return rewrite(root, column="value", rows=[f"{at:03}.png,{at}" for at in range(60)])


def codes(result: CheckResult) -> set[str]:
    return {one.code for one in result.findings if one.severity != "note"}


def found(result: CheckResult, code: str):  # type: ignore[no-untyped-def]
    [one] = [finding for finding in result.findings if finding.code == code]
    return one


def test_labels_are_counted_one_by_one(run: Check, labels: Path, tmp_path: Path) -> None:
    result = run(labels, page=tmp_path / "check.html")
    assert (result.task, result.n_pictures) == ("multilabel", 60)
    assert result.counts == {"all": {"a": 30, "b": 20}}
    assert not codes(result) - {"style_mix"}
    assert found(result, "few_pictures").details == ("b: 20", "a: 30")
    assert found(result, "no_label").what == "20 pictures bear no label, 33 % of 60."
    assert result.as_json()["task"] == "multilabel"
    assert any("only where each picture has one class" in line for line in result.skipped)
    page = (tmp_path / "check.html").read_text()
    assert "60 readable pictures · 2 labels" in page
    assert "Label by label" in page
    sheet = (labels / "datasheet.md").read_text()
    assert "60 readable pictures with 2 labels, none to many a picture.\n\n| label | pictures |" in sheet
    json.dumps(result.as_json())


def test_faults_of_labels(run: Check, labels: Path) -> None:
    shutil.copyfile(labels / "000.png", labels / "copy.png")
    table = (labels / "labels.csv").read_text().splitlines()
    table += ["copy.png,b"]
    (labels / "labels.csv").write_text("\n".join([*(f"{row};c" if "path" not in row else row for row in table)]))
    result = run(labels)
    assert codes(result) >= {"two_labels", "label_on_all"}
    assert found(result, "two_labels").groups == (("000.png", "copy.png"),)
    assert found(result, "two_labels").quarantine[0][0] == "000.png"
    assert found(result, "label_on_all").what == "1 label is on all pictures, or all but a few: 'c'."
    assert not [one for one in result.findings if one.code == "copies"]


def test_labels_missing_in_a_part(run: Check, labels: Path) -> None:
    rows = (labels / "labels.csv").read_text().splitlines()[1:]
    parts = ["train" if at < 40 else "valid" if at < 50 else "test" for at in range(60)]
    marked = [f"{row}{';x' if at >= 55 else ''},{part}" for at, (row, part) in enumerate(zip(rows, parts, strict=True))]
    rewrite(labels, column="labels,split", rows=[row.replace(",;", ",") for row in marked])
    result = run(labels)
    assert found(result, "class_not_trained").what == "1 label on no picture to train on: 'x'."
    assert result.counts["test"]["x"] == 5
    few = rewrite(
        labels,
        column="labels,split",
        rows=[
            f"{at:03}.png,{'r' if at == 3 else 'a' * (at % 2)},{'valid' if at > 50 else 'train'}" for at in range(60)
        ],
    )
    result = run(few)
    assert found(result, "few_pictures").severity == "error"
    assert found(result, "class_not_in_valid").count == 1
    assert found(result, "imbalance").severity == "note"


def test_no_label_at_all(run: Check, labels: Path) -> None:
    rewrite(labels, column="labels", rows=[f"{at:03}.png," for at in range(60)])
    result = run(labels)
    assert found(result, "one_class").what == "No readable picture bears a label."
    assert (result.counts, result.n_pictures) == ({"all": {}}, 60)


def test_values_and_their_faults(run: Check, values: Path, tmp_path: Path) -> None:
    result = run(values, page=tmp_path / "check.html")
    assert (result.task, result.n_pictures, result.counts) == ("regression", 60, {"all": {"value": 60}})
    assert not codes(result)
    assert found(result, "few_pictures").severity == "note"
    assert "60 readable pictures · 1 value" in (tmp_path / "check.html").read_text()
    assert "60 readable pictures with 1 value each." in (values / "datasheet.md").read_text()
    shutil.copyfile(values / "000.png", values / "copy.png")
    shutil.copyfile(values / "001.png", values / "near.png")
    rows = (values / "labels.csv").read_text().splitlines()[1:]
    rewrite(values, column="value", rows=[*rows[:-1], "059.png,4000", "copy.png,30", "near.png,1.1"])
    result = run(values)
    assert codes(result) >= {"odd_value"}
    assert found(result, "odd_value").paths == ("059.png",)
    rewrite(values, column="value", rows=[*rows, "copy.png,30", "near.png,1.1"])
    result = run(values)
    assert found(result, "two_values").groups == (("000.png", "copy.png"),)  # 1 and 1.1 are the same, measured twice
    quarantined = run(values, quarantine=True)
    assert {edit.change.path for edit in quarantined.edits} >= {"000.png", "copy.png"}
    assert len(read_items(values)) == 60


def test_values_beyond_train_and_one_value(run: Check, values: Path) -> None:
    rewrite(values, column="value,split", rows=[f"{at:03}.png,{at},{'test' if at > 50 else ''}" for at in range(60)])
    beyond = found(run(values), "value_beyond")
    assert (beyond.count, beyond.severity) == (9, "warning")
    assert "value 0 to 50" in beyond.what
    rewrite(values, column="value", rows=[f"{at:03}.png,7" for at in range(8)])
    result = run(values)
    assert codes(result) == {"one_value", "few_pictures"}
    assert found(result, "few_pictures").severity == "error"


def test_a_value_that_is_no_number_names_its_row(run: Check, values: Path) -> None:
    rows = (values / "labels.csv").read_text().splitlines()
    (values / "labels.csv").write_text("\n".join([*rows[:5], "004.png,inf", *rows[6:]]))
    with pytest.raises(InvalidInput, match=r"labels\.csv line 6, value: got inf; want a finite number"):
        run(values)


def test_the_command_line(labels: Path, shared_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["check", str(labels), "--no-html", "--cache-dir", str(shared_cache), "--threads", "2"]
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["label", "pictures"]
    assert [line.split()[:2] for line in lines[1:3]] == [["a", "30"], ["b", "20"]]
    assert any(line.startswith("60 readable pictures: ") for line in lines)
