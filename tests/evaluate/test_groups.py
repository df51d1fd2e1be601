"""`--by`: groups by a column of labels.csv, and by how pictures look."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.flows.evaluate import EvaluateConfig, EvaluateResult, evaluate
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import Predictor
from drivetrain.settings import Settings

from .conftest import SITES, plain


def ask(model: Predictor, data: Path, by: str, settings: Settings | None = None) -> EvaluateResult:
    return evaluate(model, data, progress=SilentProgress(), config=EvaluateConfig(by=by), settings=settings)


def test_by_a_column(model: Predictor, data: Path) -> None:
    result = ask(model, data, " SITE ")
    told = result.groups
    assert told is not None
    assert (told.by, told.n_comparisons) == ("site", 6)
    by_name = {group.name: group for group in told.groups}
    assert {name: group.n for name, group in by_name.items()} == {"north": 24, "south": 24, SITES[2]: 6}
    pairs = [(item, answer) for item, answer in result.predictions if item.more["site"] == "south"]
    measures = {row.name: row.value for row in by_name["south"].measures}
    assert measures == {
        "accuracy": sum(answer.label == item.label for item, answer in pairs) / 24,
        "deferred": sum(answer.decision == "defer" for _, answer in pairs) / 24,
        "flagged": sum(bool({"unknown", "shifted"} & {*answer.reasons}) for _, answer in pairs) / 24,
    }
    assert ("south", "accuracy") in [(group.name, row.name) for group, row in told.worse]
    [note] = [note for note in result.notes if note.startswith("site south is served worse: right -")]
    assert "95 % for all 6 comparisons together" in note
    assert f"Too few pictures to say anything (below 10): {SITES[2]} (6)." in result.notes
    assert plain(result.as_json())["groups"]["by"] == "site"


def test_by_looks(model: Predictor, data: Path, settings: Settings) -> None:
    result = ask(model, data, "style", settings)
    told = result.groups
    assert told is not None
    sizes = {group.name: group.n for group in told.groups}
    assert (sizes["dark"], sizes["day"], sizes["small"]) == (6, 48, 54)
    assert told.n_comparisons == 0 or "day" in sizes
    assert any("dark (6)" in note for note in result.notes)
    assert (settings.cache_dir / "features.sqlite").is_file()


def test_without_by_there_are_no_groups(model: Predictor, data: Path) -> None:
    result = evaluate(model, data, progress=SilentProgress())
    assert result.groups is None
    assert "groups" not in result.as_json()


@pytest.mark.parametrize(
    ("by", "told"),
    [
        ("sites", "--by: got sites; want `style`, or a column of labels.csv: `site`, `hour`. Did you mean `site`?"),
        ("ranger", "--by: got ranger; want `style`, or a column of labels.csv: `site`, `hour`."),
        ("label", "--by: got label; want `style`, or a column of labels.csv: `site`, `hour`."),
        ("group", "--by: got group; want `style`, or a column of labels.csv: `site`, `hour`."),
        ("", "--by: got ; want `style`, or a column of labels.csv: `site`, `hour`."),
    ],
)
def test_a_column_that_is_not_there_is_one_clear_error(model: Predictor, data: Path, by: str, told: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        ask(model, data, by)
    assert caught.value.message == told


def test_a_column_that_tells_nothing_apart_is_refused(model: Predictor, data: Path) -> None:
    with pytest.raises(InvalidInput, match=r"--by hour: got '\(empty\)' for every picture; want two values at least"):
        ask(model, data, "hour")


def test_folders_have_no_columns(model: Predictor, picture_folder: Callable[..., Path]) -> None:
    with pytest.raises(InvalidConfig) as caught:
        ask(model, picture_folder(per_class=2), "site")
    assert caught.value.message == (
        "--by: got site; want `style`, or a column of labels.csv. DATA has no labels.csv with further columns."
    )


def test_the_column_group_is_one_too(model: Predictor, picture_folder: Callable[..., Path], tmp_path: Path) -> None:
    root = picture_folder(per_class=8, root=tmp_path / "data")
    files = sorted(root.rglob("*.png"))
    rows = [f"{file.parent.name}/{file.name},{file.parent.name},g{at % 2}" for at, file in enumerate(files)]
    (root / "labels.csv").write_text("\n".join(["path,label,group", *rows]))
    told = ask(model, root, "group").groups
    assert told is not None
    assert [(group.name, group.n) for group in told.groups] == [("g0", 12), ("g1", 12)]
    assert told.n_comparisons == 3
