from __future__ import annotations

import pytest
import torch
from architectures import TIMM, build, names


def test_the_list_is_long_and_has_no_network_twice():
    known = names()
    assert len(set(known)) == len(known)
    assert len(TIMM) >= 150
    assert {"torchvision:resnet18", "torchvision-segmentation:fcn_resnet50"} <= set(known)
    assert "torchvision-backbone:ssdlite320_mobilenet_v3_large" in known


def test_every_network_of_timm_is_there():
    import timm

    assert set(timm.list_models()) >= set(TIMM)
    assert len({timm.models._registry._model_to_module[name] for name in TIMM}) >= 90


@pytest.mark.parametrize("name", ["timm:test_resnet", "timm:test_vit", "torchvision:squeezenet1_1"])
def test_networks_are_the_same_for_the_same_seed_and_run(name):
    state = torch.get_rng_state()
    model, example = build(name, 3)
    assert torch.equal(state, torch.get_rng_state())
    assert not model.training
    again = build(name, 3)[0]
    other = build(name, 4)[0]
    with torch.no_grad():
        assert torch.equal(model(example), again(example))
        assert not torch.equal(model(example), other(example))


def test_no_parameter_is_all_one_number():
    model, _ = build("timm:test_resnet", 0)
    for name, parameter in model.named_parameters():
        assert parameter.numel() == 1 or float(parameter.detach().std()) > 0, name


def test_an_input_is_as_small_as_the_network_takes_it():
    assert build("timm:test_resnet", 0)[1].shape == (1, 3, 64, 64)
    assert build("timm:test_vit", 0)[1].shape == (1, 3, 64, 64)
