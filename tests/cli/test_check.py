"""``netadapt check`` as a command; what it finds is tested in tests/check."""

from __future__ import annotations

import json


def test_text_tells_all_that_the_issue_asks(cli, source: str) -> None:
    answer = cli("check", source, "-p", "simulated?noise=0.003", "--task", "digits", "--budget", "80%")
    assert answer.code == 0, answer.err
    for word in (
        "3 groups", "goes with", "kept whole", "latency", "±", "stable", "smallest honest step", "floor",
        "lower budgets are impossible", "out of reach", "uniform width", "0.75", "forecast", "iterations",
    ):  # fmt: skip
        assert word in answer.out, word
    assert answer.err == ""


def test_quick_leaves_out_the_forecast(cli, source: str) -> None:
    told = json.loads(cli("check", source, "-p", "simulated", "--quick", "--json").out)
    assert told["forecast"] is None
    assert told["source"] == source
    assert len(told["measurement"]["sessions_ms"]) == 3


def test_too_noisy_a_platform_is_exit_code_4_after_the_page(cli, source: str) -> None:
    answer = cli("check", source, "-p", "simulated?noise=0.9", "--quick")
    assert answer.code == 4
    assert "unusable" in answer.out


def test_a_budget_without_unit_is_refused_before_anything_is_measured(cli, source: str) -> None:
    answer = cli("check", source, "-p", "simulated", "--budget", "8")
    assert answer.code == 2
    assert "8 what?" in answer.err
    assert answer.out == ""


def test_a_task_that_does_not_fit_is_named(cli) -> None:
    answer = cli("check", "resnet20?classes=7", "-p", "simulated", "--task", "digits")
    assert answer.code == 2
    assert "7" in answer.err
