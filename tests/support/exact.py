"""The check of every rule: whatever units are kept, the shrunk network equals the masked one; the counts are right."""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from netadapt.network import Network, trace
from netadapt.network.batch_norm import call
from netadapt.network.prove import difference


def check_exact(model: nn.Module, inputs: Any, sets: int = 4) -> Network:
    """Trace, cut all groups at once ``sets`` times at random, compare values and counts; return the network."""
    network = trace(enliven(model), inputs)
    rng = random.Random(sets)
    for _ in range(sets):
        counts = {g.name: rng.choice([1, g.width, rng.randint(1, g.width)]) for g in network.groups}
        kept = {g.name: sorted(rng.sample(range(g.width), counts[g.name])) for g in network.groups}
        error, scale = difference(network, kept, network.model)
        assert scale > 0 and error <= 1e-10 * scale, (kept, error, scale)
        small = network.shrink(kept)
        assert network.parameters(counts) == sum(p.numel() for p in small.parameters()), kept
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            call(small, inputs)
        assert network.macs(counts) == counter.get_total_flops() // 2, kept
        assert network.widths_of(small) == counts
    return network


def enliven(model: nn.Module) -> nn.Module:
    """Give all norms values that differ between channels, so that no mistake can hide; in eval mode."""
    generator = torch.Generator().manual_seed(3)

    def fill(tensor: Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for part in model.modules():
            for name, (low, high) in {
                "weight": (0.5, 1.5),
                "running_mean": (-0.5, 0.5),
                "running_var": (0.5, 1.5),
            }.items():
                tensor = getattr(part, name, None)
                if isinstance(tensor, Tensor) and tensor.ndim == 1:
                    fill(tensor, low, high)
    return model.eval()
