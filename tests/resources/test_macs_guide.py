from __future__ import annotations

import numpy as np
import torch
from torch import nn

from netadapt.network import trace
from netadapt.resources.macs_guide import MacsGuide


def test_latency_is_believed_to_be_in_proportion_to_macs() -> None:
    network = trace(nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval(), torch.zeros(1, 3, 8, 8))
    (group,) = network.groups
    guide = MacsGuide(network)
    widths = np.array([[16], [8], [4]])
    macs = np.array([network.macs({group.name: int(w)}) for w in widths[:, 0]])
    guide.fit(widths[:2], 2e-6 * macs[:2])
    values, sigma = guide.estimate(widths)
    assert np.allclose(values, 2e-6 * macs)
    assert not sigma.any()


def test_without_any_measurement_ratios_are_those_of_the_macs() -> None:
    network = trace(nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 8, 1)).eval(), torch.zeros(1, 3, 8, 8))
    guide = MacsGuide(network)
    guide.fit(np.empty((0, 1), dtype=np.int64), np.empty(0))
    values, _ = guide.estimate(np.array([[16], [8]]))
    assert np.isclose(values[1] / values[0], 0.5)
