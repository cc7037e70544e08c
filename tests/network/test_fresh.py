from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.errors import ConfigError
from netadapt.models.mobilenet_v1 import MobileNetV1
from netadapt.network import trace
from netadapt.network.fresh import FreshWeights, check_trainable, draw_weights

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    ).eval()


def test_the_narrower_network_has_learned_nothing() -> None:
    original = model()
    with torch.no_grad():
        for parameter in original.parameters():
            parameter.fill_(7.0)
        original[1].running_mean.fill_(7.0)
    network = trace(original, IMAGE)
    (group,) = network.groups
    fresh = FreshWeights(network, seed=0)
    fresh.prepare(original)
    kept = {group.name: fresh.choose(group.name, 5)}
    state = torch.get_rng_state()
    narrow, again = fresh.apply(kept), FreshWeights(network, seed=0).apply(kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert narrow(IMAGE).shape == (1, 4)
    assert narrow[0].weight.shape == (5, 3, 3, 3)
    assert not any((value == 7).any() for value in narrow.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(narrow.parameters(), again.parameters(), strict=True))
    other = FreshWeights(network, seed=1).apply(kept)
    assert not torch.equal(narrow[0].weight, other[0].weight)
    assert (original[0].weight == 7).all()


def test_the_networks_own_way_to_draw_weights_has_the_last_word() -> None:
    network = trace(MobileNetV1(0.25, 12, 9).eval(), torch.zeros(1, 3, 12, 12))
    module = FreshWeights(network, seed=0).apply({network.groups[0].name: range(4)})
    spread = float(module.get_submodule("classifier").weight.detach().std())
    assert 0.008 < spread < 0.012  # a narrow normal; a linear layer's own would be 0.036


def test_a_width_beyond_the_network_is_refused() -> None:
    network = trace(model(), IMAGE)
    with pytest.raises(ConfigError, match=r"17 is not in 1\.\.16"):
        FreshWeights(network, seed=0).choose(network.groups[0].name, 17)


def test_weights_are_drawn_by_seed_and_touch_no_global_state() -> None:
    module, state = model(), torch.get_rng_state()
    before = module[0].weight.clone()
    draw_weights(module, 3)
    drawn = module[0].weight.clone()
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(drawn, before)
    draw_weights(module, 3)
    assert torch.equal(module[0].weight, drawn)


def test_what_is_frozen_cannot_be_learned_again() -> None:
    module = model()
    check_trainable(module)
    module[0].weight.requires_grad = False
    with pytest.raises(ConfigError, match=r'1 parameters are frozen \("0.weight"'):
        check_trainable(module)


def test_what_nothing_draws_anew_would_not_be_forgotten() -> None:
    class Scaled(nn.Sequential):
        def __init__(self, *layers: nn.Module) -> None:
            super().__init__(*layers)
            self.gamma = nn.Parameter(torch.full((4,), 7.0))

    class Drawn(Scaled):
        def reset_parameters(self) -> None:
            nn.init.ones_(self.gamma)

    check_trainable(nn.TransformerEncoderLayer(8, 2))
    scaled = Scaled(model())
    with pytest.raises(ConfigError, match=r'1 parameters anew \("gamma", .* give Scaled a method reset_parameters'):
        check_trainable(scaled)
    assert (scaled.gamma == 7).all()
    check_trainable(Drawn(model()))
