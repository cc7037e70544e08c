from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from netadapt.errors import ModelError, SurgeryError
from netadapt.models.registry import resolve_model
from netadapt.network import trace
from netadapt.network.prove import difference, outputs_of
from netadapt.network.surgery import mask_consumers

SEEDS = st.integers(0, 2**31)


def examples(count):
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(network, kept):
    error, scale = difference(network, kept, network.model)
    assert scale > 0
    assert error <= 1e-10 * scale, kept


@examples(3)
@given(seed=SEEDS)
def test_shrunk_equals_masked(family, random_kept, seed):
    check(family.network, random_kept(family.network, seed))


@pytest.mark.slow
@examples(150)
@given(seed=SEEDS)
def test_shrunk_equals_masked_many(family, random_kept, seed):
    check(family.network, random_kept(family.network, seed))


def test_every_group_alone_is_exact_and_matters(family):
    network = family.network
    double = copy.deepcopy(network.model).double()
    inputs = torch.utils._pytree.tree_map(lambda t: t.double(), network.example_inputs)
    whole = outputs_of(double, inputs)
    for group in network.groups:
        kept = {group.name: range(0, group.width, 2)}
        check(network, kept)
        masked = copy.deepcopy(double)
        mask_consumers(network, masked, kept)
        if group.width > 8:  # a few units may all be dead behind their ReLU, many must show
            assert any((a - b).abs().max() > 0 for a, b in zip(whole, outputs_of(masked, inputs), strict=True)), (
                group.name
            )


def test_attributes_follow(network_of):
    network = network_of("resnet_a")
    small = network.shrink({g.name: range(0, g.width, 2) for g in network.groups})
    for part in small.modules():
        if isinstance(part, nn.Conv2d):
            assert (part.out_channels, part.in_channels) == tuple(part.weight.shape[:2])
        if isinstance(part, nn.BatchNorm2d):
            assert part.num_features == len(part.running_mean)
    assert (small.body[2].shortcut.pad_before, small.body[2].shortcut.pad_after) == (2, 2)
    depthwise = network_of("multiplier").shrink({"body.0.0": [1, 4]}).body[1][0]
    assert (depthwise.groups, depthwise.in_channels, depthwise.out_channels) == (2, 2, 6)


def test_shrinking_in_steps_is_the_same_as_at_once(family, random_kept):
    network = family.network
    first = random_kept(network, 3)
    second = {name: kept[::2] for name, kept in first.items()}
    once, twice = network.shrink(second), network.shrink(second, network.shrink(first))
    assert all(torch.equal(a, b) for a, b in zip(once.state_dict().values(), twice.state_dict().values(), strict=True))
    assert network.kept_of(twice) == {g.name: tuple(second[g.name]) for g in network.groups}
    assert network.widths_of(copy.deepcopy(twice)) == {name: len(kept) for name, kept in second.items()}


def test_the_original_is_not_touched_and_modes_are_kept(network_of):
    network = network_of("mobilenet_v2")
    before = {k: v.clone() for k, v in network.model.state_dict().items()}
    first = next(network.model.parameters())
    first.requires_grad_(False)
    small = network.shrink({g.name: [0, 1] for g in network.groups})
    assert not next(small.parameters()).requires_grad
    first.requires_grad_(True)
    assert all(torch.equal(v, before[k]) for k, v in network.model.state_dict().items())
    assert not small.training and network.shrink({}, copy.deepcopy(small).train()).training
    for a, b in pairwise([network.model, network.shrink({})]):
        assert not {p.data_ptr() for p in a.parameters()} & {p.data_ptr() for p in b.parameters()}


def test_a_version_need_not_share_the_modules_that_the_original_shares():
    class Net(nn.Module):
        def __init__(self, first: nn.Module, second: nn.Module) -> None:
            super().__init__()
            self.a, self.b, self.first, self.second = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1), first, second

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.b(self.first(self.a(x))))

    shared = nn.ReLU()
    network = trace(Net(shared, shared), torch.randn(1, 3, 8, 8))
    assert network.shrink({"a": [0, 1]}, Net(nn.ReLU(), nn.ReLU())).a.out_channels == 2


def test_shared_weights_stay_shared(network_of):
    body = network_of("shared").shrink({"body.stem.0": [0, 3]}).body
    assert body.again.weight is body.out.weight


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"nothing": [0]}, "no channel group 'nothing'"),
        ({"body.0.0": []}, "at least one index"),
        ({"body.0.0": [1, 0]}, "ascending"),
        ({"body.0.0": [0, 0]}, "ascending"),
        ({"body.0.0": [8]}, "0..7"),
        ({"body.0.0": [-1]}, "0..7"),
        ({"body.0.0": [0.5]}, "integers"),
    ],
)
def test_impossible_kept_is_refused(network_of, kept, says):
    with pytest.raises(ModelError, match=says):
        network_of("mobilenet_v1").shrink(kept)


def test_lost_units_and_foreign_modules_are_refused(network_of):
    network = network_of("mobilenet_v1")
    small = network.shrink({"body.0.0": [0, 1]})
    with pytest.raises(ModelError, match="already lost"):
        network.shrink({"body.0.0": [1, 2]}, small)
    with pytest.raises(ModelError, match="no version of"):
        network.shrink({}, network_of("vgg").model)
    small.fc = nn.Linear(3, 5)
    with pytest.raises(ModelError, match=r"fc.weight has shape \[5, 3\]"):
        network.shrink({}, small)


def test_a_wrong_surgery_is_found(network_of):
    network = network_of("mobilenet_v1")
    kept = {"body.0.0": [0, 2, 3]}
    network.verify_shrink(network.model, kept)
    wrong = network.shrink({"body.0.0": [0, 1, 3]})
    with pytest.raises(SurgeryError, match="differs from the masked"):
        network.verify_shrink(network.model, kept, wrong)


def test_an_example_of_zeros_hides_nothing():
    class Plain(nn.Sequential):
        pass

    torch.manual_seed(0)
    model = Plain(nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False))
    network = trace(model, torch.zeros(1, 3, 4, 4))
    assert difference(network, {"0": [0, 1]}, model, network.shrink({"0": [0, 2]}))[0] > 1e-6


@pytest.mark.parametrize(
    "spec",
    ["resnet20?weights={}/weights/resnet20_cifar10.safetensors", "mobilenet_v1?width=0.25&resolution=128"],
)
def test_pretrained_networks_are_cut_exactly(netadapt_data, random_kept, spec):
    if "mobilenet" in spec:
        spec += "&weights={}/weights/mobilenet_v1_0.25_128.safetensors"
    model, inputs = resolve_model(spec.format(netadapt_data))
    network = trace(model, inputs)
    assert [p.layer for p in network.pinned] == [network.layers[-1].name]
    for seed in range(3):
        check(network, random_kept(network, seed))
    for group in network.groups:
        check(network, {group.name: range(0, group.width, 2)})


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["mobilenet_v2?resolution=64", "mobilenet_v1?resolution=64", "resnet56"])
def test_random_networks_of_full_size_are_cut_exactly(random_kept, alive, spec):
    model, inputs = resolve_model(spec)
    network = trace(alive(model), inputs)
    for group in network.groups:
        check(network, {group.name: range(0, group.width, 2)})
    for seed in range(5):
        check(network, random_kept(network, seed))
