"""Exported files against their networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from netadapt.cli.numerics import largest_difference
from netadapt.errors import PlatformError
from netadapt.export import export_onnx


def test_a_sound_file_differs_by_rounding_only(tmp_path: Path) -> None:
    model, example = nn.Linear(8, 3), torch.zeros(2, 8)
    path = export_onnx(model, example, tmp_path / "x.onnx")
    difference, scale = largest_difference(path, model, example)
    assert difference < 1e-5 < scale


def test_a_file_that_is_right_on_zeros_alone_is_refused(tmp_path: Path) -> None:
    model, example = nn.Linear(8, 3), torch.zeros(2, 8)
    path = export_onnx(model, example, tmp_path / "x.onnx")
    with torch.no_grad():
        model.weight += 1
    with pytest.raises(PlatformError, match="do not use"):
        largest_difference(path, model, example)
