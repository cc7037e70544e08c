"""``netadapt measure``."""

from __future__ import annotations

import json

import pytest

from netadapt.export import export_onnx
from netadapt.models import resolve_model

KEYS = {"median_ms", "iqr_ms", "p90_ms", "count", "verdict", "platform"}


def test_json_has_the_promised_keys(cli, source: str) -> None:
    told = json.loads(cli("measure", source, "-p", "simulated", "--json").out)
    assert told.keys() >= KEYS
    assert told["verdict"] == "stable"
    assert told["platform"].startswith("simulated")
    assert [row["target"] for row in told["networks"]] == [source]


def test_several_networks_are_ratios_to_the_first(cli, source: str) -> None:
    told = json.loads(cli("measure", source, f"{source}?width=8", source, "-p", "simulated", "--json").out)
    first, small, again = told["networks"]
    assert first["ratio"] == again["ratio"] == 1.0
    assert small["ratio"] == pytest.approx(small["median_ms"] / first["median_ms"])
    assert small["ratio"] < 1


def test_files_are_compared_in_words(cli, source: str) -> None:
    answer = cli("measure", source, f"{source}?width=8", "-p", "simulated?noise=0.01")
    assert f"{source}?width=8 is " in answer.out
    assert f"faster than {source}" in answer.out
    told = json.loads(cli("measure", source, f"{source}?width=8", source, "-p", "simulated?noise=0.01", "--json").out)
    first, small, again = told["networks"]
    assert "comparison" not in first
    assert small["comparison"]["differs"] and not again["comparison"]["differs"]
    assert small["comparison"]["low"] <= small["comparison"]["ratio"] <= small["comparison"]["high"] < 1
    assert len(small["rounds_ms"]) == len(first["rounds_ms"]) == 11


def test_text_is_a_table(cli, source: str) -> None:
    answer = cli("measure", source, "-p", "simulated")
    assert answer.code == 0
    assert "median ms" in answer.out
    assert "stable" in answer.out


def test_an_onnx_file_is_measured_as_it_is(cli, source: str, tmp_path) -> None:
    path = export_onnx(*resolve_model(source), tmp_path / "net.onnx")
    answer = cli("measure", path, "--sessions", 3, "--seconds", 0.02, "--json")
    assert answer.code in (0, 4)  # a busy machine may be too noisy, and says so
    told = json.loads(answer.out)
    assert told["median_ms"] > 0
    assert told["size_mb"] == path.stat().st_size / 1e6


def test_a_platform_that_is_too_noisy_is_exit_code_4(cli, source: str) -> None:
    answer = cli("measure", source, "-p", "simulated?noise=0.9")
    assert answer.code == 4
    assert "unusable" in answer.out
    assert "repeat" in answer.err


def test_a_file_of_another_kind_is_refused(cli, source: str, tmp_path) -> None:
    (tmp_path / "net.onnx").write_text("no")
    answer = cli("measure", tmp_path / "net.onnx", "-p", "simulated")
    assert answer.code == 2
