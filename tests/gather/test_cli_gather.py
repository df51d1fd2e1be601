"""`drivetrain gather` as a person runs it: the table, the exit code, Ctrl-C, kill -9, and once more."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from drivetrain.cli.main import main

from .web import DEADLINE_S, Handler, Web, gives, hangs, picture, redirects, until

HTML = b"<!doctype html><html></html>"


def run(*argv: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["gather", *map(str, argv)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def write_list(folder: Path, *rows: tuple[str, str]) -> Path:
    file = folder / "list.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("url", "class"), *rows])
    return file


def start(*argv: str | Path, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "drivetrain", "gather", *map(str, argv)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def count_rows(table: Path) -> int:
    return max(0, table.read_bytes().count(b"\n") - 1) if table.exists() else 0


@pytest.fixture
def bears(web: Web, tmp_path: Path) -> Path:
    web.pages = {f"/{n}": gives(picture(n)) for n in range(4)} | {
        "/html": gives(HTML),
        "/inside": redirects("http://169.254.169.254/"),
        "/small": gives(picture(9, size=(70, 70))),
    }
    rows = [(web.url(f"/{n}"), "grizzly" if n % 2 else "[red]teddy") for n in range(4)]
    rows += [(web.url(path), "grizzly") for path in ("/html", "/inside", "/gone\x1b[31m", "/small")]
    rows.append(("ftp://a.test/\x1b[31m", "grizzly"))
    return write_list(tmp_path, *rows)


def test_a_person_is_told_everything(bears: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dest = tmp_path / "my bears"
    argv = [dest, "--urls", bears, "--allow-private", "--delay", "0", "--min-size", "72"]
    assert run(*argv) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["class", "asked", "gathered", "already", "there", "refused"]
    assert lines[1].split() == ["[red]teddy", "2", "2", "0", "0"]
    assert lines[2].split()[:6] == ["grizzly", "7", "2", "0", "5", "(1"]
    assert "http 404" in " ".join(" ".join(lines[2:5]).split())
    assert "Refused, and the rest gathered: 5" in lines
    told = {line.split(": ")[0].rpartition("/")[2]: line.partition(": ")[2] for line in lines if line.startswith("  ")}
    assert told["html"] == "unreadable: a web page, not a picture"
    assert told["inside"].startswith(
        "private address: redirected to http://169.254.169.254/: 169.254.169.254, link-local"
    )
    assert told["small"] == "too small: 70 x 70 pixels, and the shorter side must have 72"
    assert "\x1b" not in out
    assert lines[-2:] == [f"sources  {dest / 'sources.csv'}", f"next     drivetrain check '{dest}'"]
    assert "grizzly" in err  # the bars
    assert run(*argv) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["[red]teddy", "2", "0", "2", "0"]


def test_many_refusals_are_cut_and_the_notes_told(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    web.pages = {f"/{n}": gives(picture(0)) for n in range(4)}
    rows = [(web.url(f"/{n}"), "bear") for n in range(34)]
    argv = [tmp_path / "dest", "--urls", write_list(tmp_path, *rows), "--allow-private", "--delay", "0"]
    assert run(*argv, "--class", "bear", "--class", "wolf") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "asked", "gathered", "already", "there", "copies", "refused"]
    assert lines[1].split() == ["bear", "34", "1", "0", "3", "30", "(30", "http", "404)"]
    assert "  and 10 more, all in refused.csv" in lines
    assert "note  Nothing was asked for in class 'wolf'." in lines


def test_a_machine_is_told_in_json(bears: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "dest", "--urls", bears, "--allow-private", "--delay", "0", "--json") == 0
    out, err = capsys.readouterr()
    plain = json.loads(out)
    assert err == ""
    assert [row["gathered"] for row in plain["classes"]] == [2, 3]
    assert [row["reason"] for row in plain["refused"]] == ["unreadable", "private_address", "http_404", "bad_url"]


def test_where_nothing_comes_it_fails(bears: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "dest", "--urls", bears) == 1
    out, _ = capsys.readouterr()
    assert out.splitlines()[-1] == "No picture could be gathered."
    assert "sources.csv" not in out  # there is none
    assert "rest gathered" not in out
    assert "127.0.0.1, this machine" in out
    assert run(tmp_path / "dest", "--urls", bears, "--json") == 1
    assert json.loads(capsys.readouterr().out)["classes"][0]["refused"] == {"private_address": 2}


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        ([], 2, "error: source: got none; want one of --urls FILE.csv, --from FOLDER, --search."),
        (["--urls", "gone.csv"], 1, "error: --urls: got gone.csv; want a CSV file"),
        (["--from", "gone"], 1, "error: --from: got gone; want a folder of pictures"),
        (["--search"], 2, "error: --class: got none"),
        (["--urls", "x.csv", "--max", "0"], 2, "error: --max: got 0"),
        (["--urls", "x.csv", "--class", "CON"], 1, "error: --class: got 'CON'"),
    ],
)
def test_misuse_is_told(
    argv: list[str],
    code: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("dest", *argv) == code
    out, err = capsys.readouterr()
    assert told in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_options_reach_the_work(web: Web, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each of these would show if it were dropped on the way."""
    web.pages = {f"/{n}": gives(picture(n)) for n in range(9)} | {"/sick": gives(b"", status=500), "/hang": hangs}
    rows = [(web.url(f"/{n}"), "bear") for n in range(9)]
    urls = write_list(tmp_path, *rows, (web.url("/sick"), "sick"), (web.url("/hang"), "hang"))
    quick: list[str | Path] = ["--urls", urls, "--allow-private", "--delay", "0"]

    def answer(*argv: str | Path) -> dict[str, dict[str, int]]:
        run(*argv, "--json")
        rows = json.loads(capsys.readouterr().out)["classes"]
        return {row["class"]: row for row in rows}

    assert answer(tmp_path / "1", *quick, "--class", "bear", "--max", "3").keys() == {"bear"}
    assert len(list((tmp_path / "1" / "bear").iterdir())) == 3
    assert web.asked["/sick"] == 0
    answer(tmp_path / "2", *quick, "--class", "sick", "--retries", "1")
    assert web.asked["/sick"] == 2
    size = len(picture())
    assert answer(tmp_path / "4", *quick, "--class", "bear", "--max-bytes", str(size // 2))["bear"]["refused"] == {
        "too_large": 9
    }
    answer(tmp_path / "5", *quick, "--class", "bear", "--contact", "me@a.test")
    assert web.headers_seen[-1]["User-Agent"].endswith("; me@a.test)")
    web.most_active = 0
    answer(tmp_path / "6", *quick, "--class", "bear", "--per-host", "1")
    assert web.most_active == 1
    answer(tmp_path / "7", *quick, "--class", "bear", "--connections", "1")
    assert web.most_active == 1
    web.times.clear()
    answer(tmp_path / "8", "--urls", urls, "--allow-private", "--class", "bear", "--max", "4", "--delay", "0.15")
    assert max(at for at, _ in web.times) - min(at for at, _ in web.times) > 0.3
    assert answer(tmp_path / "4", *quick, "--class", "bear", "--max-bytes", str(size // 2), "--retry-refused")
    assert answer(tmp_path / "9", "--from", tmp_path / "5" / "bear", "--class", "fox")["fox"]["gathered"] == 9
    assert answer(tmp_path / "3", *quick, "--class", "hang", "--timeout", "0.2", "--retries", "0")["hang"]["refused"]
    with pytest.raises(SystemExit) as ended:
        main(["gather", str(tmp_path / "x"), "--query", "{class} bear", *map(str, quick)])
    assert ended.value.code == 2  # --query needs --search


class HalfOpen:
    """Gives the first pictures at once, and keeps the others waiting until the gate is opened."""

    def __init__(self, web: Web, n_at_once: int) -> None:
        self.gate = threading.Event()
        web.pages = {f"/{n}": self._page(n, waits=n >= n_at_once) for n in range(40)}

    def _page(self, number: int, *, waits: bool) -> object:
        def page(handler: Handler) -> None:
            while waits and not self.gate.is_set() and not handler.server.closing.wait(0.01):
                pass
            handler.answer(200, picture(number))

        return page


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=lambda how: how.name)
def test_a_stopped_run_goes_on_without_a_second_download(how: signal.Signals, web: Web, tmp_path: Path) -> None:
    half = HalfOpen(web, 17)
    urls = write_list(tmp_path, *((web.url(f"/{n}"), "bear") for n in range(40)))
    argv: list[str | Path] = ["dest", "--urls", urls, "--allow-private", "--delay", "0", "--json"]
    dest = tmp_path / "dest"
    first = start(*argv, cwd=tmp_path)
    until(lambda: count_rows(dest / "sources.csv") == 17 and web.active > 0)
    first.send_signal(how)
    out, err = first.communicate(timeout=DEADLINE_S)
    assert out == ""
    if how == signal.SIGINT:
        assert first.returncode == 130
        assert err == "\nStopped. What was gathered is kept; run the same command again to go on.\n"
        assert not (dest / ".gather").exists()
    else:
        assert first.returncode == -how
    done_once = {f"/{n}" for n in range(17)}
    assert {path: web.asked[path] for path in done_once} == dict.fromkeys(done_once, 1)
    with (dest / "sources.csv").open("ab") as table:
        table.write(b'bear/half,"a row that was k')  # and a power cut besides
    half.gate.set()
    second = start(*argv, cwd=tmp_path)
    out, err = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 0, err
    (row,) = json.loads(out)["classes"]
    assert (row["gathered"], row["already_there"], row["refused"]) == (23, 17, {})
    assert {path: web.asked[path] for path in done_once} == dict.fromkeys(done_once, 1)
    assert count_rows(dest / "sources.csv") == len(list((dest / "bear").iterdir())) == 40
    assert sorted(entry.name for entry in dest.iterdir()) == ["bear", "sources.csv"]
    assert {file.suffix for file in (dest / "bear").iterdir()} == {".jpg"}
