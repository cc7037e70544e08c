"""``netadapt explain``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from netadapt.export import export_onnx
from netadapt.models import resolve_model


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The finished run in a folder that the test may write."""
    return shutil.copytree(finished, tmp_path / "run")


def test_the_estimator_tells_where_there_is_no_profiler(cli, copied: Path, source: str) -> None:
    answer = cli("explain", copied, "--model", source, "--profiles", "1")
    assert answer.code == 0, answer.err
    assert "simulated?noise=0.002 has no profiler" in answer.out
    assert "of the time with" in answer.out
    assert "sum of the layers" in answer.out
    stored = json.loads((copied / "explanation.json").read_text())
    assert stored["rows"][0]["layer"] == "0"


def test_a_profiler_tells_on_another_platform(cli, copied: Path, source: str) -> None:
    options = ("--platform", "onnxruntime", "--profiles", "1", "--seconds", "0.02", "--json")
    told = json.loads(cli("explain", copied, "--model", source, *options).out)
    assert told["platform"] == "local/onnxruntime?threads=1"
    assert {"0", "3", "6", "11"} <= {row["layer"] for row in told["rows"]}
    for side in ("before", "after"):
        total = told[side]
        assert total["layers_ms"] == pytest.approx(sum(row[side]["latency_ms"] for row in told["rows"]))
        assert total["missing_ms"] == pytest.approx(total["measured_ms"] - total["layers_ms"] - total["other_ms"])
    assert set(told["lost_ms"]) <= {"plateau", "layout change", "overhead-bound", "memory-bound", "unexplained"}


def test_the_report_shows_it_from_then_on(cli, copied: Path, source: str) -> None:
    cli("report", copied)
    assert "Why it is not faster" not in (copied / "report.html").read_text()
    cli("explain", copied, "--model", source, "--profiles", "1")
    cli("report", copied)
    assert "Why it is not faster" in (copied / "report.html").read_text()


@pytest.mark.needs("openvino")
def test_two_files_are_explained(cli, tmp_path: Path) -> None:
    for width in (16, 8):
        model = f"mobilenet_v1?width={width / 32}&resolution=32&classes=10"
        export_onnx(*resolve_model(model), tmp_path / f"{width}.onnx")
    files = (tmp_path / "16.onnx", tmp_path / "8.onnx")
    options = ("--profiles", "1", "--seconds", "0.02")
    answer = cli("explain", *files, *options, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    assert told["variant"] == "8.onnx" and told["platform"] == "local/onnxruntime?threads=1"
    rows = {row["layer"]: row for row in told["rows"]}
    assert rows["/network/classifier/Gemm"]["before"]["macs"] == 2 * rows["/network/classifier/Gemm"]["after"]["macs"]
    assert "8.onnx on local/openvino" in cli("explain", *files, *options, "-p", "openvino").out


def test_what_is_neither_a_run_nor_two_files_is_refused(cli, copied: Path, source: str, tmp_path: Path) -> None:
    text = tmp_path / "a.onnx"
    text.write_text("no network")
    refusals = {
        (copied, copied): "give one run folder, or two ONNX files",
        (copied, text): "give one run folder, or two ONNX files",
        (text, text, text): "give one run folder, or two ONNX files",
        (text,): "give two ONNX files, or a run folder",
        (tmp_path / "missing.onnx",): "give two ONNX files, or a run folder",
        (text, text, "--model", source): f"--model {source} is for a run folder; leave it out",
        (text, text, "--at", "50%"): "--at 50% is for a run folder; leave it out",
        (text, text, "--at", "best"): "--at best is for a run folder; leave it out",
        (text, text): "is no ONNX file",
    }
    for arguments, message in refusals.items():
        answer = cli("explain", *arguments)
        assert answer.code == 2 and message in " ".join(answer.err.split()), arguments


def test_an_onnx_file_that_is_too_large_is_told_as_such(cli, tmp_path: Path) -> None:
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate(1 << 31)
    answer = cli("explain", large, large)
    assert answer.code == 2 and "has 2.00 GiB" in answer.err and "no ONNX file" not in answer.err


def test_code_that_a_run_names_is_not_executed(cli, copied: Path) -> None:
    answer = cli("explain", copied)
    assert answer.code == 2
    assert "--model" in answer.err


def test_wrong_input_is_refused(cli, copied: Path, source: str) -> None:
    assert cli("explain", copied, "--model", "mobilenet_v1?width=0.25").code == 2
    assert cli("explain", copied, "--model", source, "--seconds", "0").code == 2
    assert cli("explain", copied, "--model", source, "--at", "1%").code == 3
    assert cli("explain", copied / "nothing", "--model", source).code == 5
