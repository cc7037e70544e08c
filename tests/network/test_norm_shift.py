"""Statistics move by what a cut changes: nothing if it changes nothing, all of it on the same images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from netadapt.network import Network, trace
from netadapt.network.batch_norm import refresh_batch_norm
from netadapt.network.norm_shift import NormShift


def test_a_cut_that_changes_nothing_leaves_good_statistics(network_of: Callable[[str], Network]) -> None:
    network = network_of("resnet_a")
    module = network.shrink({})
    NormShift(network, network.model, [torch.randn(20, 3, 16, 16)]).apply(module)
    for name, value in network.model.state_dict().items():
        assert torch.allclose(value.float(), module.state_dict()[name].float(), rtol=1e-5) or "tracked" in name


def test_means_move_by_the_difference_and_variances_by_the_ratio() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).eval()
    x = torch.randn(50, 3, 6, 6)
    model[2].running_mean.fill_(0.7)
    model[2].running_var.fill_(3.0)
    network = trace(model, x[:1])
    kept = {"0": (0, 2, 5), "1": (1, 3)}
    module, fresh, before = network.shrink(kept), network.shrink(kept), network.shrink({})
    for each in (fresh, before):
        refresh_batch_norm(each, [x])
    NormShift(network, model, [x]).apply(module)
    mean, var = (getattr(before[2], name)[[1, 3]] for name in ("running_mean", "running_var"))
    assert torch.allclose(module[2].running_mean, 0.7 + fresh[2].running_mean - mean, atol=1e-5)
    assert torch.allclose(module[2].running_var, 3.0 * fresh[2].running_var / var, rtol=1e-4)


def test_a_variance_that_says_nothing_is_taken_afresh() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).eval()
    x = torch.randn(50, 3, 6, 6)
    with torch.no_grad():
        model[0].weight[1] = 0  # a dead channel
    network = trace(model, x[:1])
    alive, fresh = network.shrink({}), network.shrink({})
    for module in (alive, fresh):
        with torch.no_grad():
            module[0].weight[1] = 1
    shift = NormShift(network, model, [x])
    shift.apply(alive)
    assert shift.images == 50
    refresh_batch_norm(fresh, [x])
    assert torch.allclose(alive[1].running_var[1], fresh[1].running_var[1])


def test_networks_without_norms_are_left_alone(network_of: Callable[[str], Network]) -> None:
    network = network_of("vgg")
    module = network.shrink({})
    shift = NormShift(network, network.model, [])
    shift.apply(module)  # not even a batch is asked for
    assert shift.images == 0
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in network.model.state_dict().items())
