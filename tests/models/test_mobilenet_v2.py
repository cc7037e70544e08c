from __future__ import annotations

import pytest
import torch

from netadapt.models.mobilenet_v2 import MobileNetV2


@pytest.mark.parametrize(("width", "parameters"), [(1.0, 3_504_872), (0.5, 1_968_680)])
def test_parameter_counts_equal_torchvisions(width, parameters):
    assert sum(p.numel() for p in MobileNetV2(width).parameters()) == parameters


def test_residuals_where_the_shapes_agree():
    assert [block.residual for block in MobileNetV2().blocks].count(True) == 10


@pytest.mark.parametrize("same_padding", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_it_can_be_exported_and_the_export_computes_the_same(same_padding, batch_norm):
    model = MobileNetV2(0.25, 40, 5, same_padding, batch_norm).eval()
    x = torch.randn(2, 3, 40, 40)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))
