"""`drivetrain evaluate` with its options, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivetrain.cli.main import main
from drivetrain.flows.train import TrainResult


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(arg) for arg in argv])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_all_options_in_json(
    trained: TrainResult, other: Path, data: Path, foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    argv = ["evaluate", trained.bundle, data, "--json", "--by", "site", "--ood", foreign, "--html", page]
    argv += ["--corrupt", "--sample", "3", "--seed", "7", "--against", other, "--prior", "8,4", "--threads", "1"]
    assert run(*argv) == 0
    plain: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert plain["groups"]["by"] == "site"
    assert plain["foreign"]["n_foreign"] == 20
    assert (plain["corruptions"]["n"], plain["corruptions"]["seed"]) == (3, 7)
    assert (plain["against"]["belief"]["prior_wins"], plain["against"]["belief"]["prior_losses"]) == (8, 4)
    assert plain["page"] == str(page)
    assert page.is_file()
    assert {"ece_low", "shifted", "predictions"} <= plain.keys()
    assert run("evaluate", trained.bundle, data, "--json") == 0
    bare = json.loads(capsys.readouterr().out)
    assert {"groups", "foreign", "corruptions", "against", "page"} & bare.keys() == set()


def test_all_options_in_text(
    trained: TrainResult, other: Path, data: Path, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["evaluate", trained.bundle, data, "--by", "site", "--ood", foreign, "--corrupt", "--sample", "2"]
    assert run(*argv, "--against", other, "--prior", "50-80") == 0
    out, err = capsys.readouterr()
    text = " ".join(out.split())
    for words in (
        "calibration (ECE)", "Brier score", "log-loss", "in a strange style: ", "to a person", "hut <b> (6)",
        "called unknown 100", "AUROC", "FPR95", "AUPR", "(too few pictures for an interval): of finding the foreign",
        "looked least strange:", "could not be read: 1",
        "2 pictures made worse", "wrong, and decided by itself 0 1 2 3 4 5", "small subject",
        "The gain over other is +", "It is not the chance that they are equally good", "With the prior that was given",
        "site south is served worse",
    ):  # fmt: skip
        assert words in text, words
    assert all(len(line) <= 80 for line in out.splitlines() if str(foreign) not in line)
    assert "92 predictions" in " ".join(err.split())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--by", "sitee"], "--by: got sitee; want `style`, or a column of labels.csv: `site`, `hour`."),
        (["--sample", "5"], "--sample: got no --corrupt; want --corrupt beside it"),
        (["--seed", "5"], "--seed: got no --corrupt; want --corrupt beside it"),
        (["--corrupt", "--sample", "0"], "--sample: got 0; want an integer of at least 1."),
        (["--prior", "8,4"], "--prior: got no other model; want one to compare with: --against OTHER.dt."),
    ],
)
def test_misuse_is_told_and_exits_2(
    options: list[str], told: str, trained: TrainResult, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", trained.bundle, data, *options, "--json") == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["error"]["message"].startswith(told)
    assert err.startswith(f"error: {told}")


@pytest.mark.parametrize("name", ["model.dt", "hat.jpg", "labels.csv", "page"])
def test_a_page_replaces_no_other_file(
    name: str, trained: TrainResult, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It used to write over the model itself, or a picture, and exit 0."""
    file = tmp_path / name
    file.write_bytes(trained.bundle.read_bytes())
    model = file if name == "model.dt" else trained.bundle
    assert run("evaluate", model, data, "--html", file) == 2
    err = capsys.readouterr().err
    assert f"--html: got {file}; want a file whose name ends in .html or .htm. Such as {file.stem}.html." in err
    assert "Predicting" not in err
    assert file.read_bytes() == trained.bundle.read_bytes()


def test_a_page_that_cannot_be_written_is_told_before_the_work(
    trained: TrainResult, other: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "ours.html").write_bytes(trained.bundle.read_bytes())
    (tmp_path / "theirs.html").write_bytes(other.read_bytes())
    models = [tmp_path / "ours.html", data, "--against", tmp_path / "theirs.html"]
    for page, told in (
        (tmp_path, f"--html: got {tmp_path}, a folder; want a file. Such as {tmp_path / 'evaluation.html'}."),
        (tmp_path / "file" / "page.html", "(File exists); want a file in a folder that can be written."),
        (tmp_path / "ours.html", "ours.html, a model that is evaluated; want another file."),
        (tmp_path / "theirs.html", "theirs.html, a model that is evaluated; want another file."),
    ):
        assert run("evaluate", *models, "--html", page) == 2
        err = capsys.readouterr().err
        assert told in err
        assert "Predicting" not in err
    assert (tmp_path / "theirs.html").read_bytes() == other.read_bytes()


def test_a_wrong_other_model_names_its_option(
    trained: TrainResult, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", trained.bundle, data, "--against", tmp_path / "nope.dt", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["message"].startswith(f"--against: got {tmp_path / 'nope.dt'}")
    (tmp_path / "odd.dt").write_bytes(b"odd")
    assert run("evaluate", trained.bundle, data, "--against", tmp_path / "odd.dt", "--json") == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"].startswith("--against, ")
    assert error["code"] == "bundle_zip"


def test_a_prior_is_asked_for_at_a_terminal_only(
    trained: TrainResult, other: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", trained.bundle, data, "--against", other, "--prior", "ask", "--json") == 2
    assert "--prior: got ask, with nobody to ask" in capsys.readouterr().err
    assert run("evaluate", trained.bundle, data, "--against", other, "--prior", "often") == 2
    assert "--prior: got often; want two numbers such as 8,4; or a range in percent" in capsys.readouterr().err


def test_two_questions_make_a_prior(
    trained: TrainResult, other: Path, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal:
        def __init__(self) -> None:
            self.answers = iter(["50\n", "80\n"])

        def isatty(self) -> bool:
            return True

        def readline(self, *_: object) -> str:
            return next(self.answers)

    monkeypatch.setattr("sys.stdin", Terminal())
    assert run("evaluate", trained.bundle, data, "--against", other, "--prior", "ask") == 0
    out, err = capsys.readouterr()
    assert "Beta(17.2, 8.96)" in " ".join(out.split())
    assert "only one of the two models is right" in err


def test_failures_exit_1(trained: TrainResult, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", trained.bundle, data, "--ood", tmp_path / "gone", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not_found"
    assert run("evaluate", trained.bundle, data, "--against", trained.bundle, "--json") == 1
    assert "the same model" in json.loads(capsys.readouterr().out)["error"]["message"]
