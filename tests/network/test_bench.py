from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.network import bench as bench_module
from netadapt.network import trace
from netadapt.network.bench import distance, outputs_of, prepare


class Wide(nn.Module):
    """Expensive for its size: the proof wants smaller images."""

    def __init__(self, smallest: int = 1) -> None:
        super().__init__()
        self.smallest = smallest
        self.first, self.second, self.fc = nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 5), nn.Linear(64, 4)
        self.norm, self.drop = nn.BatchNorm2d(64), nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < self.smallest:
            raise ValueError("too small")
        return self.fc(self.drop(F.relu(self.norm(self.second(self.first(x))))).mean((2, 3)))


def bench_of(model: nn.Module, inputs: object):
    return prepare(trace(model, inputs, prove=False))


@pytest.mark.parametrize(("smallest", "sides"), [(1, [64, 64]), (65, [128, 160])])
def test_images_are_no_larger_than_needed_if_the_model_bears_it(smallest, sides):
    bench = bench_of(Wide(smallest), torch.zeros(1, 3, 128, 160))
    assert list(bench.inputs.shape) == [2, 3, *sides]
    assert bench.modes == bench.covered == ("eval", "train") and not bench.notes


def test_a_model_that_does_the_same_in_both_modes_is_compared_once():
    plain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Dropout(), nn.Conv2d(8, 2, 1))
    bench = bench_of(plain, torch.zeros(1, 3, 8, 8))
    assert bench.modes == ("eval",) and bench.covered == ("eval", "train")


def test_the_bench_has_other_weights_another_batch_and_no_hooks():
    model, calls = Wide(), []
    model.first.register_forward_hook(lambda *_: calls.append(1))
    bench = bench_of(model.requires_grad_(False), torch.zeros(2, 3, 32, 32))
    assert not calls and bench.inputs.shape[0] == 3 and bench.inputs.dtype == torch.float64
    for (name, a), b in zip(model.named_parameters(), bench.model.parameters(), strict=True):
        assert b.dtype == torch.float64 and not b.requires_grad and (a != b).any(), name
    assert bool((bench.model.norm.running_var > 0).all())


def test_outputs_leave_modes_buffers_and_random_state_alone():
    model = Wide().double().train()
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator())
    outputs = outputs_of(model, images, training=True)
    assert len(outputs) == 1 and torch.equal(torch.random.get_rng_state(), state)
    assert model.training and not model.norm.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_distance():
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 5.0])
    assert distance([one, two], [one, one]) == 3 and distance([], []) == 0
    assert distance([one], [one[:1]]) == float("inf")
    assert distance([one], [one * float("nan")]) != distance([one], [one])


class Deep(nn.Module):
    """Taken as expensive below; with all its channels it refuses fewer than ``smallest`` pixels."""

    def __init__(self, smallest: int = 1) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(3, 128, 3), nn.Conv2d(128, 128, 5), nn.Linear(128, 4)
        self.smallest = smallest

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if y.shape[1] == 128 and x.shape[-1] < self.smallest:
            raise ValueError("too small")
        return self.fc(F.relu(self.second(y)).mean((2, 3)))


def test_an_expensive_model_is_not_run_to_see_that_it_runs(monkeypatch):
    monkeypatch.setattr(bench_module, "_EXPENSIVE_MACS", 0)
    bench = bench_of(Deep(), torch.zeros(1, 3, 48, 48))
    assert bench.presumed and not bench.whole and bench.model.first.out_channels == 128
    assert bench.modes == ("eval",) and bench.covered == ("eval", "train") and not bench.notes


@pytest.mark.parametrize("smallest", [1, 40])
def test_what_a_narrow_version_told_is_checked_again_where_the_proof_fails(smallest, monkeypatch):
    monkeypatch.setattr(bench_module, "_EXPENSIVE_MACS", 0)
    network = trace(Deep(smallest), torch.zeros(1, 3, 48, 48))
    assert network.widths == {"first": 128, "second": 128} and not network.proof.notes
