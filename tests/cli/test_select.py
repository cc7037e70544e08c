"""``netadapt select``."""

from __future__ import annotations

import json
from pathlib import Path


def test_chooses_a_network_within_the_budget(cli, finished: Path) -> None:
    told = json.loads(cli("select", finished, "--budget", "95%", "--json").out)
    initial = json.loads(cli("status", finished, "--json").out)["initial"]["latency_ms"]
    assert told["resources"]["latency"] <= 0.95 * initial
    assert (Path(told["folder"]) / "architecture.json").is_file()


def test_several_budgets_must_all_be_met(cli, finished: Path) -> None:
    told = json.loads(cli("select", finished, "-b", "100%", "-b", "14 k parameters", "--json").out)
    assert told["resources"]["parameters"] <= 14_000


def test_text_says_where_it_lies(cli, finished: Path) -> None:
    answer = cli("select", finished, "--budget", "100%")
    assert answer.code == 0
    assert "netadapt.load(" in answer.out
    assert str(finished / "variants") in answer.out


def test_what_cannot_be_met_lists_what_there_is(cli, finished: Path) -> None:
    answer = cli("select", finished, "--budget", "1%")
    assert answer.code == 3
    assert "000:" in answer.err
    assert cli("select", finished, "--budget", "8").code == 2
