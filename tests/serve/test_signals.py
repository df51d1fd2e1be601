"""A signal that comes before there is a server."""

from __future__ import annotations

import os
import signal

import pytest

from drivetrain.serve.process.signals import EarlySignals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_kept_for_what_can_end(number: signal.Signals) -> None:
    before, ends = signal.getsignal(number), []
    with EarlySignals() as early:
        os.kill(os.getpid(), number)
        assert not ends
        early.pass_to(lambda: ends.append("kept"))
        assert ends == ["kept"]
        os.kill(os.getpid(), number)
        assert ends == ["kept"] * 2
    assert signal.getsignal(number) is before


def test_ctrl_c_twice_does_not_wait() -> None:
    with EarlySignals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_without_a_signal_nothing_is_ended() -> None:
    ends: list[str] = []
    with EarlySignals() as early:
        early.pass_to(lambda: ends.append("for nothing"))
    assert not ends
