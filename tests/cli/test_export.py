"""``netadapt export``: checked files, and never code that a folder names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from netadapt.family import Family
from netadapt.models import resolve_model


def test_onnx_computes_what_the_variant_does_and_is_measured(cli, finished: Path, source: str, tmp_path: Path) -> None:
    import onnxruntime

    answer = cli("export", finished, "--at", "best", "--out", tmp_path / "o", "--model", source, "--json")
    assert answer.code == 0, answer.err
    told = json.loads(answer.out)
    model, _ = resolve_model(source)
    network = Family.read(finished).best.load(model).eval()
    images = torch.randn(1, 3, 16, 16)
    session = onnxruntime.InferenceSession(told["path"], providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(got, network(images).detach().numpy(), atol=1e-4)
    assert told["max_abs_difference"] < 1e-4
    assert told["measurement"]["median_ms"] > 0
    assert json.loads((tmp_path / "o" / "measurement.json").read_text()) == told["measurement"]


def test_text_tells_the_difference(cli, finished: Path, source: str, tmp_path: Path) -> None:
    answer = cli("export", finished, "--at", "initial", "--out", tmp_path / "o", "--model", source, "--no-measure")
    assert answer.code == 0
    assert "largest difference from PyTorch" in answer.out
    assert not (tmp_path / "o" / "measurement.json").exists()


def test_safetensors_needs_no_code(cli, finished: Path, source: str, tmp_path: Path) -> None:
    from netadapt import load

    answer = cli("export", finished, "--at", "best", "--format", "safetensors", "--out", tmp_path / "s")
    assert answer.code == 0
    assert {"architecture.json", "weights.safetensors", "load.py"} <= {p.name for p in (tmp_path / "s").iterdir()}
    model, example = resolve_model(source)
    assert load(tmp_path / "s", model)(example).shape == (1, 10)


def test_code_that_a_folder_names_is_not_executed(cli, finished: Path, tmp_path: Path) -> None:
    run, trace = tmp_path / "run", tmp_path / "executed"
    shutil.copytree(finished, run)
    (tmp_path / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    config = run / "config.toml"
    lines = [
        f'source = "{tmp_path}/evil.py:build"' if "net.py:build" in line else line
        for line in config.read_text().splitlines()
    ]
    config.write_text("\n".join(lines))
    for command in (
        ["export", run, "--out", tmp_path / "o"],
        ["status", run],
        ["select", run, "-b", "100%"],
        ["report", run],
        ["tune", run, "--at", "000"],
    ):
        cli(*command)
    answer = cli("export", run, "--out", tmp_path / "o")
    assert answer.code == 2
    assert "--model" in answer.err
    assert not trace.exists()


@pytest.mark.parametrize("at", ["nonsense", "8"])
def test_what_no_network_answers_to_is_usage(cli, finished: Path, tmp_path: Path, at: str) -> None:
    answer = cli("export", finished, "--at", at, "--out", tmp_path / "o")
    assert answer.code == 2
    assert "best, initial" in answer.err


def test_a_budget_that_no_network_meets_is_unreachable(cli, finished: Path, tmp_path: Path) -> None:
    answer = cli("export", finished, "--at", "1%", "--out", tmp_path / "o")
    assert answer.code == 3
    assert "000:" in answer.err


def test_a_folder_in_use_is_left_alone(cli, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    answer = cli("export", finished, "--format", "safetensors", "--out", tmp_path)
    assert answer.code == 2
    assert "--out" in answer.err


def test_the_wrong_network_is_refused(cli, finished: Path, source: str, tmp_path: Path) -> None:
    answer = cli("export", finished, "--out", tmp_path / "o", "--model", f"{source}?width=24")
    assert answer.code == 2
    assert "shape" in answer.err
