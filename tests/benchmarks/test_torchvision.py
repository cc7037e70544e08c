from __future__ import annotations

import torch
from _torchvision import import_torchvision


def test_networks_run_without_compiled_operators():
    torchvision = import_torchvision()
    assert import_torchvision() is torchvision
    model = torchvision.models.get_model("squeezenet1_1", weights=None).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_timm_is_importable_behind_it():
    import_torchvision()
    import timm

    assert timm.create_model("test_resnet").eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
