"""``netadapt env``."""

from __future__ import annotations

import json

import torch


def test_the_block_names_versions_and_the_machine(cli) -> None:
    told = json.loads(cli("env", "--json").out)
    assert told["versions"]["torch"] == torch.__version__
    assert told["torch_threads"] == torch.get_num_threads()
    assert {"netadapt", "processor", "python", "usable_cores", "cuda"} <= told.keys()


def test_plain_text_has_one_line_per_fact(cli) -> None:
    lines = cli("env").out.splitlines()
    assert any(line.startswith("netadapt ") for line in lines)
    assert any(line.startswith("versions") and "onnxruntime" in line for line in lines)
