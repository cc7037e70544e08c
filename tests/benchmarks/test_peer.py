from __future__ import annotations

import types

import peer
import pytest
import torch
from peer import prune_to
from torch import nn

from netadapt.errors import BudgetUnreachable
from netadapt.training.datasets import resolve_task

IMAGE = torch.zeros(1, 3, 16, 16)


def network():
    torch.manual_seed(0)
    layers = []
    for inputs in (3, 64):
        layers += [nn.Conv2d(inputs, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def channels(model):
    return sum(part.out_channels for part in model.modules() if isinstance(part, nn.Conv2d))


class Watch:
    """Says that latency is in proportion to the channels; counts its measurements."""

    def __init__(self, whole=128.0, least=0.0):
        self.whole, self.least, self.seen = whole, least, []

    def __call__(self, model):
        self.seen.append(channels(model))
        return types.SimpleNamespace(sentinel_ratio=max(self.least, channels(model) / self.whole))


def pruned_to(budget, tmp_path, *, watch, task=None, keep=()):
    return prune_to(
        budget,
        network(),
        IMAGE,
        task=task,
        measured=watch,
        multiple=8,
        keep=keep,
        seed=0,
        kept=tmp_path / "ratio.json",
        should_stop=lambda: False,
    )


@pytest.mark.parametrize("budget", [0.8, 0.5, 0.25])
def test_the_slowest_network_within_the_budget_is_taken(tmp_path, budget):
    watch = Watch()
    found = pruned_to(budget, tmp_path, watch=watch)
    assert channels(found.model) == max(seen for seen in watch.seen if seen <= budget * 128)
    assert budget * 128 - 16 <= channels(found.model) <= budget * 128
    assert found.images == 0


def test_a_second_call_makes_the_same_network_and_measures_nothing(tmp_path):
    first, watch = pruned_to(0.5, tmp_path, watch=Watch()), Watch()
    second = pruned_to(0.5, tmp_path, watch=watch)
    assert watch.seen == []
    assert second.seconds == first.seconds
    states = [found.model.state_dict() for found in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_taylor_term_ranks_by_the_loss_and_its_images_count(tmp_path, monkeypatch):
    monkeypatch.setattr(peer, "GRADIENT_IMAGES", 100)
    task = resolve_task("digits", resolution=16)
    found = pruned_to(0.5, tmp_path, watch=Watch(), task=task)
    by_norm = pruned_to(0.5, tmp_path, watch=Watch())
    assert found.images == 100
    # channels are kept whole: a first filter of the pruned network is one of the original, another one than by norm
    rows = [found.model[0].weight.flatten(1), by_norm.model[0].weight.flatten(1), network()[0].weight.flatten(1)]
    chosen = [[int((rows[2] == row).all(1).nonzero()) for row in rows[i]] for i in (0, 1)]
    assert chosen[0] != chosen[1]
    assert all(parameter.grad is None for parameter in found.model.parameters())


def test_layers_that_are_to_stay_whole_do(tmp_path):
    found = pruned_to(0.8, tmp_path, watch=Watch(), keep=("0",))
    assert found.model[0].out_channels == 64
    assert found.model[3].out_channels < 64


def test_a_budget_out_of_reach_is_told(tmp_path):
    with pytest.raises(BudgetUnreachable, match="slower than 50% of the original"):
        pruned_to(0.5, tmp_path, watch=Watch(least=0.6))
    assert not (tmp_path / "ratio.json").exists()
