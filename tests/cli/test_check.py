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


STUBBORN = """
import torch
from torch import nn


class Stubborn(nn.Module):
    def __init__(self):
        super().__init__()
        self._dim = 16
        self.first, self.second, self.third = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 24, 1)
        self.fc = nn.Linear(24, 4)

    def forward(self, x):
        x = self.first(x).softmax(1)
        x = self.second(x)
        n = x.shape[0]
        x = x.view(n, self._dim, 8, 8)
        return self.fc(self.third(x).mean((2, 3)))


def build():
    return Stubborn(), torch.zeros(1, 3, 8, 8)
"""


def test_what_is_pinned_is_told_with_reason_line_and_share(cli, tmp_path) -> None:
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    source = f"{tmp_path}/stubborn.py:build"
    told = json.loads(cli("check", source, "-p", "simulated", "--quick", "--json").out)
    lines = [number for number, line in enumerate(STUBBORN.splitlines(), 1) if "softmax" in line or "view" in line]
    softmax, view = (f"stubborn.py:{number}" for number in lines)
    pinned = {pin["layer"]: pin for pin in told["pinned"]}
    assert pinned["first"] == {
        "layer": "first",
        "reason": "softmax runs over channels",
        "where": softmax,
        "statistic": False,
    }
    assert pinned["second"]["reason"].startswith("tied to the constant 16 (self._dim) in forward")
    assert pinned["second"]["where"] == view
    assert (pinned["fc"]["reason"], pinned["fc"]["where"]) == ("its channels are the network's output", "")
    free, fixed = 64 * 16 * 24 + 24 * 4, 64 * (3 * 16 + 16 * 16)
    assert abs(told["pinned_share"] - fixed / (free + fixed)) < 1e-12
    answer = cli("check", source, "-p", "simulated", "--quick", "--keep", "th*")
    assert "first: softmax runs over channels (" + softmax + ")" in answer.out
    assert "Nothing can be removed" in answer.out and "you asked to keep 'th*'" in answer.out
    assert "100.0 % of the MACs are in layers that no group makes cheaper" in answer.out


def test_keep_that_names_nothing_is_refused_with_a_suggestion(cli, source: str) -> None:
    answer = cli("check", source, "-p", "simulated", "--quick", "--keep", "33")
    assert answer.code == 2
    assert "keep names '33', which is no module" in answer.err and "did you mean" in answer.err


NORMED = """
import torch
from torch import nn


def build():
    layers = nn.Conv2d(3, 16, 1), nn.GroupNorm(1, 16), nn.ReLU(), nn.Conv2d(16, 24, 1), nn.ReLU(), nn.Conv2d(24, 4, 1)
    return nn.Sequential(*layers), torch.zeros(1, 3, 8, 8)
"""


def test_what_only_a_statistic_keeps_is_offered_on_request(cli, tmp_path) -> None:
    (tmp_path / "normed.py").write_text(NORMED)
    source = f"{tmp_path}/normed.py:build"
    answer = cli("check", source, "-p", "simulated", "--quick")
    assert "--inexact (exact = false under [model]) offers" in answer.out
    answer = cli("check", source, "-p", "simulated", "--quick", "--inexact")
    assert "2 groups" in answer.out and "0: group_norm mixes the statistics of all channels" in answer.out
    assert "only a fine-tune tells what it costs" in answer.out and "--inexact" not in answer.out
    told = json.loads(cli("check", source, "-p", "simulated", "--quick", "--inexact", "--json").out)
    assert [bool(group["inexact"]) for group in told["groups"]] == [True, False]
    told = json.loads(cli("estimator", "show", "simulated", "--model", source, "--inexact", "--json").out)
    assert told["platform"].startswith("simulated")


def test_whole_blocks_are_offered_on_request(cli):
    answer = cli("check", "resnet20", "-p", "simulated", "--quick", "--blocks")
    assert answer.code == 0
    assert "blocks: 7 may go as a whole, at width 0: layer1.0, layer1.1, " in answer.out
    told = json.loads(cli("check", "resnet20", "-p", "simulated", "--quick", "--blocks", "--json").out)
    by_name = {group["name"]: group for group in told["groups"]}
    assert (by_name["layer1.0.conv1"]["block"], by_name["layer1.0.conv1"]["minimum"]) == ("layer1.0", 0)
    assert (by_name["layer2.0.conv1"]["block"], by_name["layer2.0.conv1"]["minimum"]) == ("", 8)
    told = json.loads(cli("estimator", "show", "simulated", "--model", "resnet20", "--blocks", "--json").out)
    assert told["networks"] == 0
