"""How commands speak."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from netadapt.cli.output import counting, note, notes, result_json, seconds, working


def test_results_and_notes_go_to_their_streams(capsys: pytest.CaptureFixture[str]) -> None:
    result_json({"path": Path("a/b"), "numbers": (1, float("nan")), 3: float("inf")})
    note("told")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"path": "a/b", "numbers": [1, None], "3": None}
    assert captured.err == "netadapt: told\n"


def test_the_log_is_shown_without_repeating_itself(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("netadapt")
    with notes():
        log.info("too much")
        log.warning("noisy")
        log.warning("noisy")
        log.warning("slow")
    assert capsys.readouterr().err == "netadapt: warning: noisy\nnetadapt: warning: slow\n"


def test_nothing_is_drawn_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with counting("x") as count, working(quiet=True) as tell:
        count(1, 2)
        tell("y")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("amount", "text"), [(0.25, "0.2 s"), (48.4, "48 s"), (725, "12 min"), (3600, "1 h 00 min"), (11520, "3 h 12 min")]
)
def test_times_are_for_people(amount: float, text: str) -> None:
    assert seconds(amount) == text
