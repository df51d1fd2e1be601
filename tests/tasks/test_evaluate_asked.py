"""What else can be asked of a bundle of labels, or of values; and what of them is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from drivetrain.bundle.archive import read_bundle
from drivetrain.cli.main import main
from drivetrain.errors import InvalidConfig, InvalidInput
from drivetrain.flows.evaluate import EvaluateConfig, evaluate
from drivetrain.flows.evaluate_page import write_page
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import load
from drivetrain.task import Task
from drivetrain.trust.belief import Prior
from drivetrain.trust.compare import compare_scores

from .forge import tiny_parts, write_data

BOTH: tuple[Task, ...] = ("multilabel", "regression")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    root = tmp_path_factory.mktemp("models")
    return {task: tiny_parts(task).write(root / f"{task}.dt") for task in BOTH}


@pytest.fixture(scope="module")
def others(models: dict[Task, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    """Of labels: with higher thresholds. Of values: under another name, or it would be the same model."""
    root = tmp_path_factory.mktemp("others")
    made = {}
    for task in BOTH:
        decision = dict(read_bundle(models[task]).manifest.decision)
        if task == "multilabel":
            decision["labels"] = [{**rule, "threshold": 0.95} for rule in decision["labels"]]
        made[task] = tiny_parts(task).changed(name="strict", decision=decision).write(root / f"{task}.dt")
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    """60 pictures; every third is of the site b, with a label that is wrong or a value that is 5 too high."""
    made = {}
    for task in BOTH:
        root = write_data(tmp_path_factory.mktemp("data") / task, task)
        head, *rows = (root / "labels.csv").read_text().splitlines()
        for at, row in enumerate(rows):
            path, label = row.split(",")
            if at % 3 == 0:
                label = (
                    "" if task == "multilabel" and label else "red" if task == "multilabel" else f"{float(label) + 5}"
                )
            rows[at] = f"{path},{label},{'b' if at % 3 == 0 else 'a'}"
        (root / "labels.csv").write_text("\n".join([f"{head},site", *rows]))
        made[task] = root
    return made


@pytest.mark.parametrize("task", BOTH)
def test_groups_of_labels_and_of_values(task: Task, models: dict[Task, Path], data: dict[Task, Path]) -> None:
    result = evaluate(load(models[task]), data[task], progress=SilentProgress(), config=EvaluateConfig(by="site"))
    assert result.groups is not None
    first = "accuracy" if task == "multilabel" else "error"
    by_name = {group.name: {row.name: row for row in group.measures} for group in result.groups.groups}
    assert by_name.keys() == {"a", "b"}
    assert [*by_name["b"]] == [first, "deferred", "flagged"]
    assert by_name["b"][first].verdict == "worse"
    if task == "regression":
        gaps = [
            abs(answer.value - float(item.label)) for item, answer in result.predictions if item.more["site"] == "b"
        ]
        assert by_name["b"]["error"].value == pytest.approx(np.mean(gaps))
        assert any(note.startswith("site b is served worse: off by +") for note in result.notes)


@pytest.mark.parametrize("task", BOTH)
def test_foreign_pictures(task: Task, models: dict[Task, Path], data: dict[Task, Path], tmp_path: Path) -> None:
    other = write_data(tmp_path / "foreign", task, 12, seed=9)
    (other / "labels.csv").unlink()
    result = evaluate(load(models[task]), data[task], progress=SilentProgress(), config=EvaluateConfig(ood=other))
    assert result.foreign is not None
    assert result.foreign.detection.n_foreign == 12
    assert 0.2 < result.foreign.detection.auroc < 0.8  # they are of the same kind


def test_labels_are_compared_by_the_share_that_is_right(
    models: dict[Task, Path], others: dict[Task, Path], data: dict[Task, Path]
) -> None:
    model, other, root = load(models["multilabel"]), load(others["multilabel"]), data["multilabel"]
    result = evaluate(model, root, progress=SilentProgress(), against=other)
    assert result.against is not None
    told = result.against.comparison

    def share(answer: object, label: str) -> float:
        truth = set(label.split(";")) - {""}
        return sum((name in answer.labels) == (name in truth) for name in model.classes) / 2  # type: ignore[attr-defined]

    ours = np.array([share(answer, item.label) for item, answer in result.predictions])
    theirs = np.array([share(other.predict(root / item.path), item.label) for item, _ in result.predictions])
    assert told == compare_scores(ours, theirs, reference="strict", score="label accuracy", is_share=True)
    assert told.n_better != told.n_worse


def test_values_are_compared_by_their_error(
    models: dict[Task, Path], others: dict[Task, Path], data: dict[Task, Path]
) -> None:
    model, root = load(models["regression"]), data["regression"]
    result = evaluate(model, root, progress=SilentProgress(), against=load(others["regression"]))
    assert result.against is not None
    told = result.against.comparison
    assert (told.score, told.gain, told.n_better, told.is_share) == ("mean absolute error", 0.0, 0, False)
    mae = np.mean([abs(answer.value - float(item.label)) for item, answer in result.predictions])
    assert told.value == pytest.approx(mae)


def test_worse_pictures_of_labels(models: dict[Task, Path], data: dict[Task, Path]) -> None:
    config = EvaluateConfig(corrupt=True, sample=5)
    told = evaluate(
        load(models["multilabel"]), data["multilabel"], progress=SilentProgress(), config=config
    ).corruptions
    assert told is not None
    assert told.n == 5
    assert told.of_kind("night")[5].accuracy.hits <= 5
    assert len({row.deferred.hits for row in told.conditions}) > 1


def test_what_makes_no_sense_is_refused(
    models: dict[Task, Path], others: dict[Task, Path], data: dict[Task, Path]
) -> None:
    values, labels = load(models["regression"]), load(models["multilabel"])
    with pytest.raises(
        InvalidConfig, match="--corrupt: got tiny, which measures; want a model of classes or of labels"
    ):
        evaluate(values, data["regression"], progress=SilentProgress(), config=EvaluateConfig(corrupt=True))
    config = EvaluateConfig(prior=Prior(wins=1, losses=1))
    for task in BOTH:
        with pytest.raises(InvalidConfig, match=f"--prior: got a model of the task {task}"):
            evaluate(
                load(models[task]), data[task], progress=SilentProgress(), config=config, against=load(others[task])
            )
    with pytest.raises(InvalidInput, match="--against: got tiny, regression; want a model of the same task as tiny"):
        evaluate(labels, data["multilabel"], progress=SilentProgress(), against=values)


@pytest.mark.parametrize("task", BOTH)
def test_page_and_text(
    task: Task,
    models: dict[Task, Path],
    others: dict[Task, Path],
    data: dict[Task, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    predictor = load(models[task])
    foreign = Path(shutil.copytree(data[task], tmp_path / "foreign"))
    config = EvaluateConfig(by="site", ood=foreign)
    result = evaluate(predictor, data[task], progress=SilentProgress(), config=config, against=load(others[task]))
    write_page(tmp_path / "page.html", result, predictor, data[task], progress=SilentProgress())
    html = (tmp_path / "page.html").read_text("utf-8")
    assert all(f'<section id="{name}">' in html for name in ("groups", "foreign", "against", "losses"))
    assert '<section id="worse">' not in html
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(models[task]), str(data[task]), "--by", "site", "--against", str(others[task])])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    text = " ".join(out.split())
    assert "site b is served worse" in text
    assert " against strict@" in text
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize("task", BOTH)
def test_what_is_promised_part_by_part_is_held_to_the_pictures(
    task: Task, models: dict[Task, Path], data: dict[Task, Path], tmp_path: Path
) -> None:
    model = load(models[task])
    honest = evaluate(model, write_data(tmp_path / "honest", task, 120, seed=8), progress=SilentProgress())
    [kept] = honest.part_promises
    assert kept.kind == ("labels" if task == "multilabel" else "intervals")
    assert not kept.is_broken
    [told] = evaluate(model, data[task], progress=SilentProgress()).part_promises  # every third label is wrong
    assert told.is_broken
    [broken, *_] = [one for one in told.checks if one.verdict == "broken"]
    result = evaluate(model, data[task], progress=SilentProgress())
    if task == "multilabel":
        decision = model.manifest.decision
        certified = [
            f"{name}, {words}"
            for name, rule in zip(model.classes, decision["labels"], strict=True)
            for answer, words in (("present", "said to be there"), ("absent", "said not to be there"))
            if rule[answer]["is_certified"]
        ]
        assert [one.of for one in told.checks] == certified
        name, _, words = broken.of.partition(", ")
        said = "absent" if "not" in words else "present"
        decided = [(item, one) for item, one in result.predictions if one.decisions[name] == said]  # type: ignore[union-attr]
        wrong = sum((name in item.label.split(";")) == (said == "absent") for item, _ in decided)
    else:
        assert [one.of for one in told.checks] == ([""] if len(model.classes) == 1 else list(model.classes))
        decided = list(result.predictions)
        ends = [(float(item.label), one.intervals[broken.of or model.classes[0]]) for item, one in decided]  # type: ignore[union-attr]
        wrong = sum(not low <= value <= high for value, (low, high) in ends)
    assert (broken.n_decided, broken.n_wrong) == (len(decided), wrong)
    assert result.as_json()["part_promises"][0]["checks"][0]["of"] == told.checks[0].of
    write_page(tmp_path / "page.html", result, model, data[task], progress=SilentProgress())
    assert f'<p class="verdict broken">{told.sentence}</p>' in (tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize("task", BOTH)
def test_a_bundle_that_promises_nothing_is_held_to_nothing(task: Task, data: dict[Task, Path], tmp_path: Path) -> None:
    decision = dict(tiny_parts(task).manifest["decision"])
    if task == "multilabel":
        decision["labels"] = [
            {**rule, "present": {**rule["present"], "is_certified": False}, "absent": {}} for rule in decision["labels"]
        ]
    else:
        decision["interval"] = {"half_widths": [None] * len(decision["interval"]["half_widths"])}
    model = load(tiny_parts(task).changed(decision=decision).write(tmp_path / "silent.dt"))
    assert evaluate(model, data[task], progress=SilentProgress()).part_promises == ()


def test_values_of_one_group_alone_are_refused_before_the_other_is_asked(tmp_path: Path) -> None:
    model = load(tiny_parts("regression").write(tmp_path / "tiny.dt"))
    against = load(tiny_parts("regression").changed(name="other").write(tmp_path / "other.dt"))
    root = write_data(tmp_path / "data", "regression", 12)
    head, *rows = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join([f"{head},group", *(f"{row},one night" for row in rows)]))
    assert evaluate(model, root, progress=SilentProgress()).n_groups == 1
    with pytest.raises(InvalidInput, match="--against: got pictures that are all of one group; want two groups"):
        evaluate(model, root, progress=SilentProgress(), against=against)
