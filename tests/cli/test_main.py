from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from drivetrain.cli.main import VERBS

from .runner import run

OPTIONS = {
    "demo": ["--dir", "--serve", "--no-serve", "--host", "--port", "--json"],
    "gather": [
        "--class", "--urls", "--from", "--search", "--query", "--max", "--min-size", "--max-bytes", "--timeout",
        "--retries", "--connections", "--per-host", "--delay", "--contact", "--allow-private", "--retry-refused",
        "--json",
    ],
    "check": [
        "--html", "--no-html", "--quarantine", "--by", "--no-datasheet", "--strict", "--threads",
        "--cache-dir", "--json",
    ],
    "train": [
        "--out", "-o", "--name", "--method", "--backbone", "--size", "--resize", "--valid", "--seed", "--fixtures",
        "--max-error", "--max-defer", "--per-class", "--cost-error", "--cost-review", "--ood-alpha",
        "--views", "--epochs", "--batch", "--lr", "--class-weights", "--resume", "--learning-curve",
        "--threads", "--cache-dir", "--json",
    ],
    "evaluate": [
        "--against", "--by", "--corrupt", "--html", "--ood", "--prior", "--sample", "--seed", "--threads", "--json",
    ],
    "certify": [
        "--out", "-o", "--max-error", "--max-defer", "--per-class", "--cost-error", "--cost-review", "--ood-alpha",
        "--threads", "--json",
    ],
    "predict": ["--threads", "--json"],
    "serve": [
        "--host", "--port", "--threads", "--workers", "--models", "--db", "--device", "--tune", "--insecure",
        "--log-format",
    ],
    "package": ["--target", "--json"],
    "undo": ["--batch", "--path", "--all", "--list", "--by", "--json"],
    "versions": [],  # of several commands: test_version_verbs.py
    "rollout": [],  # of several commands: test_rollout.py
    "review": ["--rollout", "--url", "--open", "--threads", "--db", "--json"],
    "key": [],  # of several commands: test_store_verbs.py
    "user": [],
    "db": [],
    "forget": ["--image", "--before", "--yes", "--db", "--json"],
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, "--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for option in OPTIONS[verb]:
        assert re.search(rf"(^|[\s,/]){option}\b", out), option
    shown = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", out, re.MULTILINE))
    assert shown <= {*OPTIONS[verb], "--help"}
    assert max(map(len, out.splitlines())) <= 80


def test_help_lists_the_verbs_each_on_one_line_that_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(VERBS) == list(OPTIONS)
    assert run("--help") == 0
    lines = capsys.readouterr().out.split("Commands:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == list(VERBS)
    assert all(line.endswith(".") and not line.endswith("..") for line in lines)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert re.fullmatch(r"drivetrain \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_no_arguments_show_the_help_and_are_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 2
    out, err = capsys.readouterr()
    assert "Start with `drivetrain demo`" in out + err


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (["trian", "x"], 2, "No such command 'trian'"),
        (["train"], 2, "Missing"),
        (["train", "x"], 2, "Missing option '--out'"),
        (["train", "x", "-o", "m.dt", "--epoch", "3"], 2, "No such option"),
        (["train", "x", "-o", "m.dt", "--seed", "many"], 2, "Invalid value for '--seed'"),
        (["train", "x", "-o", "m.dt", "--seed", "-1"], 2, "error: --seed: got -1; want a whole number, at least 0."),
        (["train", "x", "-o", "m.zip"], 2, "error: -o: got m.zip; want a file NAME.dt."),
        (["train", "x", "-o", "m.dt", "--valid", "1.5"], 2, "error: --valid: got 1.5; want a share between 0 and 1"),
        (["train", "x", "-o", "m.dt", "--method", "magic"], 2, "error: --method: got magic; want one of auto, head,"),
        (["train", "x", "-o", "m.dt", "--threads", "-1"], 2, "sets threads to -1: want a whole number"),
        (["train", "no/such", "-o", "m.dt"], 1, "error: DATA: got no/such; want a folder with a folder of pictures"),
        (["check", "no/such"], 1, "error: DATA: got no/such; want a folder with a folder of pictures"),
        (["check", "x", "--threads", "-1"], 2, "sets threads to -1: want a whole number"),
        (["check", "x", "--by", " "], 2, "error: --by: got  ; want a name."),
        (["undo", "no/such"], 1, "error: DATA: got no/such; want a folder of pictures."),
        (["undo", "no/such", "--all", "--path", "x"], 2, "error: undo: got several of --batch, --path and --all; want"),
        (["undo", "no/such", "--list", "--all"], 2, "error: --list: got one of --batch, --path and --all beside it"),
        (["evaluate", "no.dt", "x"], 1, "error: model: got no.dt; want a .dt file. `drivetrain train DATA -o NAME.dt`"),
        (["predict", "no.dt", "x.jpg"], 1, "error: model: got no.dt; want a .dt file."),
        (["predict", "no.dt"], 2, "Missing argument"),
        (["predict", "no.dt", "x.jpg", "--threads", "-1"], 2, "sets threads to -1: want a whole number"),
        (["evaluate", "no.dt", "x", "--threads", "-1"], 2, "sets threads to -1: want a whole number"),
        (["serve", "no.dt", "--threads", "-1"], 2, "sets threads to -1: want a whole number"),
        (["serve", "no.dt", "--host", ""], 2, "sets host to '': want text, the address"),
        (
            ["serve", "no.dt", "--port", "70000"],
            2,
            "sets port to 70000: want a whole number (port), at least 0, at most",
        ),
        (["serve", "no.dt"], 1, "error: model: got no.dt; want a .dt file."),
    ],
)
def test_exit_codes_and_messages(
    argv: Sequence[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*argv) == code
    out, err = capsys.readouterr()
    assert told in err
    assert out == ""
    assert "Traceback" not in err
    if argv[0] in ("check", "train", "evaluate", "predict", "undo"):
        assert run(*argv, "--json") == code
        out, err = capsys.readouterr()
        error = json.loads(out)["error"]
        assert set(error) == {"code", "message", "field"}
        assert error["code"] == ("invalid_config" if code == 2 else "not_found")
        assert error["message"] in err
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_folder_and_the_environment_are_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drivetrain.toml").write_text("thread = 2\n")
    assert run("predict", "m.dt", "x") == 2
    assert "has no setting 'thread' (did you mean 'threads'?)" in capsys.readouterr().err


@pytest.mark.parametrize("error", ["PermissionError(13, 'Permission denied', '/data/m.dt')", "OSError(28, 'No space')"])
def test_a_disk_that_refuses_is_told_in_one_line(error: str, tmp_path: Path) -> None:
    """It was a traceback."""
    done = fake_verb(tmp_path, f"raise {error}", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "unavailable"
    assert done.stderr in (
        "error: /data/m.dt: got Permission denied; want a disk and a folder that allow it.\n",
        "error: files: got No space; want a disk and a folder that allow it.\n",
    )


def test_a_missing_package_is_told_with_the_extra_that_brings_it(tmp_path: Path) -> None:
    done = fake_verb(tmp_path, "raise ModuleNotFoundError('none', name='torch.nn')")
    assert done.returncode == 1
    assert done.stderr == (
        "error: `drivetrain fake`: got no package 'torch' here; want the extra 'train'. "
        "Install it: pip install 'drivetrain[train]'\n"
    )
    assert "Traceback" in fake_verb(tmp_path, "raise ModuleNotFoundError('none', name='typo')").stderr


def test_faults_of_our_own_are_not_hidden(tmp_path: Path) -> None:
    done = fake_verb(tmp_path, "raise ZeroDivisionError")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_ctrl_c_is_told_and_exits_130(tmp_path: Path) -> None:
    done = fake_verb(tmp_path, "raise KeyboardInterrupt")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "\nStopped. Nothing is half-written, and what was read stays in the cache.\n"


@pytest.mark.parametrize("size", [10, 10_000_000], ids=["when it ends", "in the middle"])
def test_a_pipe_closed_early_is_no_traceback(size: int, tmp_path: Path) -> None:
    process = start_fake(tmp_path, f"import sys; sys.stdin.readline(); sys.stdout.write('x' * {size})")
    assert process.stdout
    assert process.stdin
    assert process.stderr
    process.stdout.close()
    process.stdin.write("go\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_text_that_the_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    done = fake_verb(tmp_path, r"print('b\udce4r \u718a')")
    assert (done.returncode, done.stdout) == (0, "b\\udce4r \u718a\n")


def start_fake(folder: Path, body: str, *argv: str) -> subprocess.Popen[str]:
    """`drivetrain fake`, a verb whose body is given."""
    lines = [
        "from typing import Annotated",
        "import typer",
        "def run(as_json: Annotated[bool, typer.Option('--json')] = False) -> None:",
        "    '''Fake.'''",
        textwrap.indent(body, "    "),
    ]
    (folder / "fake.py").write_text("\n".join(lines))
    code = "import sys; from drivetrain.cli import main; main.VERBS['fake'] = 'fake'; main.main(sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-X", "utf8", "-c", code, "fake", *argv],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def fake_verb(folder: Path, body: str, *argv: str) -> subprocess.CompletedProcess[str]:
    process = start_fake(folder, body, *argv)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
