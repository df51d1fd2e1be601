"""Progress: a bar with its rate on stderr for people; stdout is for answers alone."""

from __future__ import annotations

import re

import pytest

from drivetrain.progress import Progress, SilentProgress, TerminalProgress


@pytest.mark.parametrize("kind", [SilentProgress, TerminalProgress])
def test_every_progress_keeps_the_same_promise(
    kind: type[SilentProgress | TerminalProgress], capsys: pytest.CaptureFixture[str]
) -> None:
    progress: Progress = kind()
    with progress.task("Reading", total=4) as advance:
        advance(1)
        advance(3)
    with progress.task("Nothing to do", total=0):
        pass
    progress.say("2 files left out")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", [SilentProgress, TerminalProgress])
def test_an_error_in_the_work_passes_through(kind: type[SilentProgress | TerminalProgress]) -> None:
    progress = kind()
    with pytest.raises(KeyError, match="broken"), progress.task("Reading", total=4):
        raise KeyError("broken")
    with progress.task("Again", total=1) as advance:  # the first bar was put away
        advance(1)


def test_silence_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with SilentProgress().task("Reading", total=2) as advance:
        advance(2)
    SilentProgress().say("done")
    assert capsys.readouterr() == ("", "")


def test_the_bar_shows_name_count_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress().task("Reading pictures", total=300) as advance:
        for _ in range(3):
            advance(100)
    shown = capsys.readouterr().err
    assert "Reading pictures" in shown
    assert "300/300" in shown
    assert re.search(r"[\d,]+/s", shown)


def test_a_bar_that_has_not_moved_shows_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress().task("Reading", total=300):
        pass
    shown = capsys.readouterr().err
    assert "0/300" in shown
    assert "/s" not in shown


def test_a_task_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress().task("be\u202ear", total=1) as advance:
        advance(1)
    shown = capsys.readouterr().err
    assert "be\\u202ear" in shown
    assert "\u202e" not in shown


def test_words_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalProgress().say("[red]a[/red] folder named [1]")
    assert capsys.readouterr().err == "[red]a[/red] folder named [1]\n"


@pytest.mark.parametrize("kind", [SilentProgress, TerminalProgress])
def test_a_task_may_be_opened_inside_another(
    kind: type[SilentProgress | TerminalProgress], capsys: pytest.CaptureFixture[str]
) -> None:
    progress: Progress = kind()
    for _ in range(2):
        with progress.task("grizzly", total=2) as outer, progress.task("[red]", total=3) as inner:
            inner(3)
            outer(2)
    shown = capsys.readouterr().err
    if kind is TerminalProgress:
        assert "grizzly" in shown
        assert "[red]" in shown
        assert "2/2" in shown
        assert "3/3" in shown
