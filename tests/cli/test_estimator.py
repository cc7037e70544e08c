"""``netadapt estimator``."""

from __future__ import annotations

import json


def test_build_then_show_then_verify(cli, source: str) -> None:
    model = f"{source}?width=24"
    before = json.loads(cli("estimator", "show", "simulated", "-m", model, "--json").out)
    assert (before["file"], before["networks"]) == (None, 0)
    built = json.loads(cli("estimator", "build", "simulated", "-m", model, "--networks", 12, "--json").out)
    assert built["networks_measured"] >= 12
    shown = json.loads(cli("estimator", "show", "simulated", "-m", model, "--json").out)
    assert shown["networks"] == 12
    assert shown["file"].startswith(shown["cache"])
    answer = cli("estimator", "verify", "simulated", "-m", model, "--networks", 12, "--unseen", 6, "--json")
    told = json.loads(answer.out)
    assert told["networks_verified"] == len(told["pairs"]) == 6
    assert told["mean_error"] < 0.05


def test_other_parameters_are_another_platform(cli, source: str) -> None:
    model = f"{source}?width=12"
    assert cli("estimator", "build", "simulated?noise=0.01", "-m", model, "--networks", 8).code == 0
    assert json.loads(cli("estimator", "show", "simulated", "-m", model, "--json").out)["networks"] == 0


def test_text(cli, source: str) -> None:
    answer = cli("estimator", "verify", "simulated", "-m", source, "--networks", 12, "--unseen", 4)
    assert answer.code == 0
    assert "mean error" in answer.out
    assert "pairs" not in answer.out
