from __future__ import annotations

import json

import pytest
from estimators import CASES
from estimators_page import plot_of, read, section, verdict


def told(mean_error, networks, build_seconds=12.0):
    errors = {"mean_error": mean_error, "worst_error": 0.05, "bias": -0.001, "spearman": 0.99912, "repeatability": 0.01}
    return errors | {"networks_measured": networks, "build_seconds": build_seconds}


@pytest.fixture
def results(tmp_path):
    for name in ("resnet20__onnxruntime", "mobilenet_v1__openvino", "mobilenet_v1__onnxruntime"):
        found = {
            "case": name,
            "date": "2026-12-01T00:00:00+00:00",
            "network": [told(0.04, 11), told(0.013, 81)],
            "table": told(0.074, 17),
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(found | {"layers": told(0.34, 0, None)}))
    return read(tmp_path)


def test_results_are_in_the_order_of_the_cases(results):
    assert [found["case"] for found in results] == [name for name in CASES if name in {r["case"] for r in results}]
    assert len(results) == 3


def test_the_table_has_all_estimators_and_what_cannot_be_beaten(results):
    text = section("some-cpu", results)
    assert "| mobilenet_v1 | openvino | network | 80 | 1.30 % | 5.00 % | -0.10 % | 0.9991 | 12 s | within 1.5" in text
    assert "| mobilenet_v1 | openvino | sum | 0 | 34.00 % | 5.00 % | -0.10 % | 0.9991 |  |  |" in text
    assert "| resnet20 | onnxruntime | *repeatability* |  | 1.00 % |  |  |  |  |  |" in text
    assert text.count("![") == 2


def test_aims_are_met_or_missed():
    good = told(0.009, 81) | {"worst_error": 0.03}
    assert verdict("mobilenet_v1", "onnxruntime", good) == "met"
    assert (
        verdict("mobilenet_v1", "onnxruntime", good | {"bias": -0.006}) == "within 1.5 times repeatability; bias missed"
    )
    assert verdict("mobilenet_v1", "openvino", told(0.02, 81) | {"spearman": 0.99}) == "**missed**: mean, worst, rank"
    assert verdict("mobilenet_v2", "ncnn", told(0.024, 81)) == "met"
    assert verdict("resnet20", "onnxruntime", told(0.021, 81)) == "**missed**: mean"
    assert verdict("resnet20", "onnxruntime", told(0.02, 81)) == "met"


def test_what_was_measured_without_tables_has_a_section_and_a_plot_too(results):
    few = [{key: found[key] for key in ("case", "date", "network")} for found in results]
    assert "| mobilenet_v1 | openvino | sum |" not in section("some-cpu", few)
    assert "layer table" not in plot_of("mobilenet_v1", "some-cpu", few[:2])


def test_a_plot_has_a_line_for_each_runtime(results):
    svg = plot_of("mobilenet_v1", "some-cpu", [found for found in results if found["case"].startswith("mobilenet")])
    assert svg.count("<polyline") == 4  # two runtimes and their repeatability
    assert "openvino, layer table: 16 networks, 7.4 %" in svg and "whole networks measured" in svg
