"""A bundle of labels, or of values, against pictures: the flow, the command line, and what both refuse."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from drivetrain.cli.main import main
from drivetrain.errors import InvalidInput
from drivetrain.flows.evaluate import evaluate, evaluate_answers
from drivetrain.progress import SilentProgress
from drivetrain.runtime.predictor import Predictor, load
from drivetrain.task import Task

from .forge import CLASSES, tiny_parts, write_data

BOTH: tuple[Task, ...] = ("multilabel", "regression")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    root = tmp_path_factory.mktemp("models")
    return {task: tiny_parts(task).write(root / f"{task}.dt") for task in BOTH}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    """Read only."""
    root = tmp_path_factory.mktemp("data")
    return {task: write_data(root / task, task) for task in BOTH}


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in argv])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_labels_are_counted(models: dict[Task, Path], data: dict[Task, Path]) -> None:
    result = evaluate(load(models["multilabel"]), data["multilabel"], progress=SilentProgress())
    told = result.as_json()
    assert (told["task"], told["n"], told["classes"]) == ("multilabel", 60, ["bright", "red"])
    truth = np.array([[name in row["truth"] for name in told["classes"]] for row in told["predictions"]])
    guess = np.array([[name in row["labels"] for name in told["classes"]] for row in told["predictions"]])
    assert told["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert told["macro_f1"] > 0.8
    assert [row["n"] for row in told["per_label"]] == truth.sum(axis=0).tolist()
    assert all(isinstance(row["truth"], list) for row in told["predictions"])
    json.dumps(told, allow_nan=False)


def test_values_are_compared(models: dict[Task, Path], data: dict[Task, Path]) -> None:
    result = evaluate(load(models["regression"]), data["regression"], progress=SilentProgress())
    told = result.as_json()
    assert (told["task"], told["n"], told["classes"]) == ("regression", 60, ["value"])
    gaps = [abs(row["truth"] - row["value"]) for row in told["predictions"]]
    [value] = told["per_value"]
    assert value["mae"] == pytest.approx(np.mean(gaps))
    assert value["mae"] < 0.3
    inside = [low <= row["truth"] <= high for row in told["predictions"] for low, high in [row["interval"]]]
    assert value["covered"] == pytest.approx(np.mean(inside))
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize("task", BOTH)
def test_data_of_another_task_is_refused(task: Task, models: dict[Task, Path], data: dict[Task, Path]) -> None:
    other: Task = "regression" if task == "multilabel" else "multilabel"
    column = {"multilabel": "labels", "regression": "value"}[task]
    with pytest.raises(InvalidInput, match=f"as tiny was made for. That is a column `{column}` in labels.csv."):
        evaluate(load(models[task]), data[other], progress=SilentProgress())


def test_an_unknown_label_is_named(models: dict[Task, Path], data: dict[Task, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(data["multilabel"], tmp_path / "data"))
    table = root / "labels.csv"
    table.write_text(table.read_text().replace("bright", "glaring"))
    with pytest.raises(InvalidInput, match="labels the model does not know: 'glaring'; want labels among 'bright'"):
        evaluate(load(models["multilabel"]), root, progress=SilentProgress())
    table.write_text("path,labels\n000.png,bright\n001.png,")
    result = evaluate(load(models["multilabel"]), root, progress=SilentProgress())
    assert "No readable picture of red: nothing is known about these." in result.notes


def test_another_count_of_values_is_refused(models: dict[Task, Path], data: dict[Task, Path], tmp_path: Path) -> None:
    root = Path(shutil.copytree(data["regression"], tmp_path / "data"))
    (root / "labels.csv").write_text("path,value\n000.png,1;2\n001.png,2;3")
    with pytest.raises(InvalidInput, match="got 2 for each picture; want 1 for each picture"):
        evaluate(load(models["regression"]), root, progress=SilentProgress())


def test_no_answers_are_no_evaluation() -> None:
    with pytest.raises(InvalidInput, match="answers: got none; want one at least"):
        evaluate_answers([], np.zeros((0, 2)), ("a", "b"))


@pytest.mark.parametrize("task", BOTH)
def test_one_by_one_and_many_are_the_same(task: Task, models: dict[Task, Path], data: dict[Task, Path]) -> None:
    predictor = load(models[task], threads=3)
    assert isinstance(predictor, Predictor)
    assert predictor.classes == CLASSES[task]
    files = sorted(data[task].glob("*.png"))[:10]
    assert list(predictor.predict_many(files)) == [predictor.predict(file) for file in files]


def test_predict_prints_labels(
    models: dict[Task, Path], data: dict[Task, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("predict", models["multilabel"], data["multilabel"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 60
    answers = dict(zip(sorted(data["multilabel"].glob("*.png")), lines, strict=True))
    predictor = load(models["multilabel"])
    seen = set()
    for file, line in answers.items():
        answer = predictor.predict(file)
        told = line.removeprefix(f"{file}: ").split("  ")[0]
        assert [part.split(" ")[0] for part in told.split(", ")] == list(answer.labels or ["no"])
        if answer.decision == "accept":
            assert "a person" not in line
        elif "unknown" in answer.reasons:
            assert "a person should look (unknown" in line
        else:
            assert f"a person should look at {', '.join(answer.open_labels)} (low_confidence, not sure" in line
        seen.add((answer.decision, bool(answer.labels), answer.reasons))
    assert {("accept", True, ()), ("accept", False, ())} < seen
    assert run("predict", models["multilabel"], data["multilabel"] / "000.png", "--json") == 0
    plain = json.loads(capsys.readouterr().out)
    assert plain["decisions"].keys() == plain["probabilities"].keys() == {"bright", "red"}


def test_predict_prints_values(
    models: dict[Task, Path], data: dict[Task, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = load(models["regression"])
    files = sorted(data["regression"].glob("*.png"))
    file, answer = next((f, a) for f in files if (a := predictor.predict(f)).decision == "accept")
    assert run("predict", models["regression"], file) == 0
    low, high = answer.interval
    assert capsys.readouterr().out == f"{file}: {answer.value:.4g} ({low:.4g} to {high:.4g})\n"


def test_evaluate_prints_labels(
    models: dict[Task, Path], data: dict[Task, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", models["multilabel"], data["multilabel"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["label", "pictures", "recall", "precision", "F1", "95", "%", "interval", "AP"]
    assert [line.split()[0] for line in lines[1:3]] == ["bright", "red"]
    text = "\n".join(lines)
    for words in ("every label right on ", "mean F1 0.9", "decided wholly alone", "a label left to a person", "(ECE)"):
        assert words in text, words
    assert "log-loss" not in text
    assert all(len(line) <= 80 for line in lines)


@pytest.mark.parametrize("task", BOTH)
def test_few_pictures_give_no_drawn_interval(
    task: Task, models: dict[Task, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few, page = write_data(tmp_path / "few", task, 8), tmp_path / "page.html"
    assert run("evaluate", models[task], few, "--html", page) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "(too few pictures for an interval)" in text
    assert ("mean F1" if task == "multilabel" else "off by") in text
    html = page.read_text("utf-8")
    assert "too few pictures for an interval" in html
    assert not re.search(r"None|– to –", html.replace("None: every picture could be read", ""))
    assert run("evaluate", models[task], few, "--json") == 0
    rows = json.loads(capsys.readouterr().out)["per_label" if task == "multilabel" else "per_value"]
    assert {row["f1_low" if task == "multilabel" else "mae_high"] for row in rows} == {None}


def test_evaluate_prints_values(
    models: dict[Task, Path], data: dict[Task, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", models["regression"], data["regression"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["value", "MAE", "RMSE", "R2", "95", "%", "interval", "bias"]
    text = " ".join("\n".join(lines).split())
    for words in (
        "off by 0.",
        "on average, on 60 pictures",
        "interval holds the truth for 9",
        "wide",
        "left to a person",
    ):
        assert words in text, words
    assert all(len(line) <= 80 for line in lines)
