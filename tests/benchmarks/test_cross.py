from __future__ import annotations

import numpy as np
import pytest
from cross import adapted, config, interval, measured, page, summary, verdict

PLATFORMS = ("simulated?staircase=8", "simulated?staircase=4")


def made(relative: dict[str, tuple[float, float]]) -> list[dict]:
    """Return results of three seeds: by platform adapted to, latency on the first and on the second platform."""
    return [
        {
            "adapted_to": name,
            "seed": seed,
            "accuracy": 0.9 + seed / 1000,
            "on": {p: {"relative": value + seed / 1000} for p, value in zip(PLATFORMS, values, strict=True)},
        }
        for name, values in relative.items()
        for seed in range(3)
    ]


def test_two_runs_are_measured_on_both_platforms(small, tmp_path):
    setup = small.setups / "small.toml"
    configs = {platform: config(platform, 0, setup, tmp_path / "cross") for platform in PLATFORMS}
    assert configs[PLATFORMS[0]].run.folder != config(PLATFORMS[0], 1, setup, tmp_path / "cross").run.folder
    results = [adapted(each) for each in configs.values()]
    assert [result["adapted_to"] for result in results] == list(PLATFORMS)
    assert adapted(configs[PLATFORMS[0]]) == results[0], "a finished run is read, not run again"
    found = measured(configs, results, 3)
    for result in found:
        own = result["on"][result["adapted_to"]]
        assert set(result["on"]) == set(PLATFORMS) and own["relative"] < 0.63
        assert own["relative"] == pytest.approx(result["ratio"], rel=0.05)


def test_a_network_that_is_faster_on_its_own_platform_wins():
    told = summary(made({PLATFORMS[0]: (0.6, 0.7), PLATFORMS[1]: (0.66, 0.6)}), PLATFORMS)
    assert told["own_faster"][PLATFORMS[0]]["low"] > 1.05 and told["own_faster"][PLATFORMS[1]]["low"] > 1.1
    assert told["relative"][PLATFORMS[0]][PLATFORMS[1]]["mean"] == pytest.approx(0.701)
    assert verdict(told).startswith("Each network is the faster one")
    assert "60.1 %" in page(told, PLATFORMS) and "90.1 %" in page(told, PLATFORMS)


def test_a_network_that_does_not_win_is_named():
    told = summary(made({PLATFORMS[0]: (0.6, 0.6), PLATFORMS[1]: (0.66, 0.6)}), PLATFORMS)
    assert verdict(told) == f"Not shown: on {PLATFORMS[1]} the interval of the ratio reaches down to 1 or below."


def test_the_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = [(i := interval(rng.normal(2, 1, 3).tolist()))["low"] <= 2 <= i["high"] for _ in range(2000)]
    assert 0.93 < np.mean(inside) < 0.97
