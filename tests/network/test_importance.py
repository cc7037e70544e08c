"""Norms against an explicit loop; tied layers count together; the paper's choice of filters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from netadapt.errors import ConfigError
from netadapt.models.resnet_cifar import resnet20
from netadapt.network import Network, trace
from netadapt.network.importance import LargestNorm, Places, rank_by_norm, unit_norms


def test_norms_equal_an_explicit_loop(network_of: Callable[[str], Network]) -> None:
    network = network_of("vgg_norm")
    weights = {name: p.detach().double() for name, p in network.model.named_parameters()}
    for group in network.groups:
        expected = np.zeros(group.width)
        for use in group.axes:
            for unit in range(group.width):
                if use.role == "output":
                    for entry in use.indices[unit]:
                        expected[unit] += float(weights[use.tensor].select(use.axis, entry).square().sum())
        assert expected.all()
        assert np.allclose(unit_norms(network, network.model, group.name), np.sqrt(expected))


def test_tied_layers_count_together() -> None:
    network = trace(resnet20(), torch.zeros(1, 3, 32, 32))
    model = network.model
    group = network.group("conv1")  # tied by the residual adds of the first stage
    producers = [use for use in group.axes if use.role == "output"]
    assert len(producers) > 3
    before = unit_norms(network, model, "conv1")
    last = producers[-1]  # a later stage: behind the zeros that its shortcut puts before the channels
    with torch.no_grad():
        model.get_parameter(last.tensor)[last.indices[5]] *= 100
    after = unit_norms(network, model, "conv1")
    assert after.argmax() == 5
    assert np.allclose(np.delete(after, 5), np.delete(before, 5))


def test_biases_and_norms_do_not_count(network_of: Callable[[str], Network]) -> None:
    network = network_of("mobilenet_v1")
    group = network.groups[1].name
    before = unit_norms(network, network.model, group)
    module = network.shrink({})
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight *= 7
    assert np.array_equal(unit_norms(network, module, group), before)


def test_norms_of_a_shrunk_module_are_those_of_the_units_left(family, random_kept) -> None:
    network: Network = family.network
    kept = random_kept(network, 3)
    module = network.shrink(kept)
    places = Places(network, module)
    for group in network.groups:
        assert places.units(group.name).tolist() == list(kept[group.name])
        assert len(unit_norms(network, module, group.name)) == len(kept[group.name])
        for use in group.axes:
            entries = places.entries(group.name, use.tensor, use.role, use.axis)
            present = places.present(use.tensor, use.axis)
            assert set(use.indices[kept[group.name]].ravel()) <= set(present[entries.ravel()])


def test_the_largest_stay_and_later_choices_are_subsets(network_of: Callable[[str], Network]) -> None:
    network = network_of("mobilenet_v2")
    group = max(network.groups, key=lambda g: g.width)
    choice = LargestNorm(network)
    choice.prepare(network.model)
    norms = unit_norms(network, network.model, group.name)
    first = choice.choose(group.name, group.width // 2)
    assert list(first) == sorted(first)
    assert norms[list(first)].min() >= np.delete(norms, list(first)).max()
    assert rank_by_norm(network, network.model, group.name)[0] == norms.argmax()

    module = choice.apply({group.name: first})
    assert network.kept_of(module)[group.name] == first
    choice.prepare(module)
    second = choice.choose(group.name, group.width // 4)
    assert set(second) < set(first)
    smaller = choice.apply({group.name: second})
    assert network.equals_masked({group.name: second}) < 1e-9
    assert network.widths_of(smaller)[group.name] == group.width // 4


@pytest.mark.parametrize("width", [0, 10_000])
def test_a_width_out_of_range_is_refused(network_of: Callable[[str], Network], width: int) -> None:
    network = network_of("vgg")
    with pytest.raises(ConfigError, match=rf"width of {network.groups[0].name}: {width} is not in 1\.\.8"):
        LargestNorm(network).choose(network.groups[0].name, width)
