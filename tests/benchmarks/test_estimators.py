from __future__ import annotations

import estimators
from estimators import case

from netadapt.platforms.simulated import SimulatedPlatform


def test_all_estimators_are_judged_by_one_truth_and_more_networks_help(tmp_path, monkeypatch):
    monkeypatch.setattr(estimators, "SIZES", (10, 40))
    found = case("resnet20", SimulatedPlatform(noise=0.005, staircase=8), 0, tmp_path)
    few, many = found["network"]
    assert (few["networks_measured"], many["networks_measured"]) == (11, 41)  # the original is one of them
    assert many["mean_error"] < few["mean_error"]
    assert found["table"]["networks_measured"] == 17 and found["layers"]["networks_measured"] == 0
    assert found["table"]["mean_error"] < found["layers"]["mean_error"]
    assert len({told["repeatability"] for told in (few, many, found["table"], found["layers"])}) == 1
    assert len(found["pairs"]) == many["networks_verified"] == 40 and "pairs" not in many


def test_tables_of_single_layers_can_be_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(estimators, "SIZES", (10,))
    found = case("resnet20", SimulatedPlatform(noise=0.005, staircase=8), 0, tmp_path, with_tables=False)
    assert len(found["network"]) == 1 and len(found["pairs"]) == 40 and not {"table", "layers"} & set(found)
