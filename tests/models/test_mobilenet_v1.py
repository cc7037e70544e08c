from __future__ import annotations

import pytest
import torch

from netadapt.models.mobilenet_v1 import MobileNetV1


@pytest.mark.parametrize(("width", "parameters"), [(1.0, 4_231_976), (0.5, 1_331_592), (0.25, 470_072)])
def test_parameter_counts_of_the_paper(width, parameters):
    # the paper's 4.2, 1.3, 0.5 million; counts as in tf.keras without the statistics
    assert sum(p.numel() for p in MobileNetV1(width).parameters()) == parameters


def test_layers_have_readable_names():
    names = [n for n, m in MobileNetV1(0.25).named_modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert names[:3] == ["stem", "blocks.0.depthwise", "blocks.0.pointwise"]
    assert names[-1] == "classifier"
    assert len(names) == 28


@pytest.mark.parametrize("same_padding", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_it_can_be_exported_and_the_export_computes_the_same(same_padding, batch_norm):
    model = MobileNetV1(0.25, 33, 5, same_padding, batch_norm).eval()
    x = torch.randn(2, 3, 33, 33)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x))
