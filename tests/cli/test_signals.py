"""Signals of a run."""

from __future__ import annotations

import os
import signal

import pytest

from netadapt.cli.signals import stopping


def test_the_first_asks_and_the_second_stops(capsys: pytest.CaptureFixture[str]) -> None:
    asked = []
    with pytest.raises(KeyboardInterrupt), stopping() as stop:
        stop.by(lambda: asked.append(True))
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked == [True]
        os.kill(os.getpid(), signal.SIGINT)
    assert "SIGTERM: stopping at the next safe point" in capsys.readouterr().err


def test_before_anything_is_open_the_first_stops() -> None:
    with pytest.raises(KeyboardInterrupt), stopping():
        os.kill(os.getpid(), signal.SIGTERM)


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stopping():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
