"""`--by`: groups by a column of labels.csv, and by how pictures look."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.flows.evaluate import EvaluateConfig, EvaluateResult, evaluate
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import Predictor
from drivetrain.settings import Settings
from drivetrain.trust.evaluation import Evaluation

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


@pytest.fixture(scope="module")
def bursts(picture_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 pictures of nine bursts; each burst of the second place is called by a wrong name, or by its own."""
    root = picture_folder(per_class=12, seed=9, root=tmp_path_factory.mktemp("bursts") / "data")
    rows = ["path,label,group,place"]
    for at, file in enumerate(sorted(root.rglob("*.png"))):
        label = "stripes" if at // 4 == 1 else file.parent.name  # one burst of circles
        rows.append(f"{file.parent.name}/{file.name},{label},burst {at // 4},{'ab'[at // 4 % 2]}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def test_bursts_count_for_less_everywhere(model: Predictor, bursts: Path, foreign: Path, tmp_path: Path) -> None:
    plain_rows = (bursts / "labels.csv").read_text().replace("group,place", "night,place")
    alone = tmp_path / "alone"
    shutil.copytree(bursts, alone)
    (alone / "labels.csv").write_text(plain_rows)
    asked = EvaluateConfig(by="place", ood=foreign, corrupt=True, sample=36)
    told, narrow = (
        evaluate(model, data, progress=SilentProgress(), config=asked)
        for data in (bursts, alone)
    )  # fmt: skip
    assert (told.n_groups, narrow.n_groups) == (9, None)
    [note] = [note for note in told.notes if "come in" in note]
    assert note.startswith("The 36 pictures come in 9 groups, by the column `group` or as copies of one file.")
    assert note.endswith("Of fewer than 30 groups some intervals cannot be had at all.")
    assert not any("come in" in note for note in narrow.notes)
    assert isinstance(told.evaluation, Evaluation)
    assert isinstance(narrow.evaluation, Evaluation)
    assert told.evaluation.accuracy == narrow.evaluation.accuracy < 1
    assert told.evaluation.accuracy_low < narrow.evaluation.accuracy_low
    assert (told.evaluation.brier_low, narrow.evaluation.brier_low is None) == (None, False)
    assert told.evaluation.deferral.n_counted < narrow.evaluation.deferral.n_counted
    for wide, tight in (
        (told.foreign.detection.auroc_low, narrow.foreign.detection.auroc_low),  # type: ignore[union-attr]
        (told.corruptions.clean.accuracy.low, narrow.corruptions.clean.accuracy.low),  # type: ignore[union-attr]
        (told.groups.groups[0].measures[0].low, narrow.groups.groups[0].measures[0].low),  # type: ignore[union-attr]
    ):
        assert wide < tight
    shown = plain(told.as_json())
    assert (shown["n_groups"], shown["deferral"]["n_counted"]) == (9, told.evaluation.deferral.n_counted)


def test_copies_of_one_file_are_one_group(model: Predictor, data: Path, tmp_path: Path) -> None:
    root = tmp_path / "copied"
    for file in sorted(data.rglob("circle/*.png"))[:3] + sorted(data.rglob("square/*.png"))[:3]:
        (root / file.parent.name).mkdir(parents=True, exist_ok=True)
        for name in ("a", "b"):
            shutil.copy(file, root / file.parent.name / f"{name}-{file.name}")
    told = evaluate(model, root, progress=SilentProgress())
    assert (told.evaluation.n, told.n_groups) == (12, 6)
    assert isinstance(told.evaluation, Evaluation)
    assert told.evaluation.deferral.n_counted <= told.evaluation.deferral.n_accepted / 2
