"""Attention is exported operation by operation, and the switch is put back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.export.onnx import to_proto
from netadapt.network.fast_paths import without_fast_paths


@pytest.mark.parametrize("enabled", [True, False])
def test_the_switch_is_put_back(enabled):
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        with pytest.raises(KeyError), without_fast_paths():
            assert not torch.backends.mha.get_fastpath_enabled()
            raise KeyError
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def test_the_fast_exporter_takes_attention(capfd):
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    proto = to_proto(layer, torch.randn(1, 10, 32))
    assert "Softmax" in {node.op_type for node in proto.graph.node}
    assert proto.producer_name == "pytorch" and "native" not in capfd.readouterr().out
