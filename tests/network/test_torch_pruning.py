"""Our groups hold the same layers as Torch-Pruning's dependency groups, on networks that it handles.

Units are not compared: for a grouped convolution a unit is one local index of all groups here, and one channel there.
"""

from __future__ import annotations

import pytest
import torch
import torch_pruning
from _torchvision import import_torchvision
from torch import nn

from netadapt.network import trace

SLOW = ("densenet121", "efficientnet_b0", "googlenet", "mobilenet_v2", "regnet_y_400mf", "resnext50_32x4d", "vgg11_bn")
IMAGE = torch.zeros(1, 3, 64, 64)

Sets = set[frozenset[str]]


@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenet_v3_small", "mnasnet0_5", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def test_groups_hold_the_layers_of_torch_prunings(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = import_torchvision().models.get_model(name, weights=None).eval()
    network = trace(model, IMAGE, prove=False)
    last = [p.layer for p in network.pinned if "network's output" in p.reason and not is_auxiliary(p.layer)]
    assert dependency_groups(model) == channel_groups(network.groups) | {frozenset(last)}
    assert len(last) == 1


def channel_groups(groups) -> Sets:
    """Ours. Auxiliary heads, which only train mode uses, follow what they read; Torch-Pruning does not see them."""
    return {frozenset(layer for layer in group.layers if not is_auxiliary(layer)) for group in groups}


def is_auxiliary(layer: str) -> bool:
    return layer.startswith("aux")


def dependency_groups(model: nn.Module) -> Sets:
    """Torch-Pruning's, also that of the last layer, whose outputs it would remove if it is not told otherwise."""
    names = {id(part): name for name, part in model.named_modules()}
    graph = torch_pruning.DependencyGraph().build_dependency(model, IMAGE.clone())
    groups = graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear])
    targets = ([id(dependency.target.module) for dependency, _ in group] for group in groups)
    return {frozenset(names[target] for target in group if target in names) for group in targets}
