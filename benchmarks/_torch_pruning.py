"""What the benchmarks ask of Torch-Pruning: layers to leave alone, and a whole network pruned at one global ratio."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from netadapt.network.bench import outputs_of

#: a gradient for each parameter, by name
Gradients = Mapping[str, Tensor]


def output_layers(model: nn.Module, outputs: list[Tensor]) -> list[nn.Module]:
    """Return the layers with as many output channels as an output of the network has: they are not to be pruned."""
    sizes = {t.shape[1] for t in outputs if t.ndim > 1}
    return [
        part
        for part in model.modules()
        if getattr(part, "out_features", None) in sizes or getattr(part, "out_channels", None) in sizes
    ]


def pruned(
    model: nn.Module,
    example_inputs: Tensor,
    ratio: float,
    *,
    multiple: int,
    keep: Iterable[str] = (),
    gradients: Gradients | None = None,
) -> nn.Module:
    """Return a copy of a network without the least important channels, ranked over all layers at once.

    Importance is Torch-Pruning's own with its own defaults: the L2 norm of all that goes with a channel; with
    gradients the first-order Taylor term (Molchanov et al., CVPR 2019).

    Args:
        model: left as it is.
        example_inputs: ``(1, channels, height, width)``.
        ratio: share of the channels that goes, 0..1.
        multiple: widths are multiples of it.
        keep: patterns of the names of layers that stay whole, beside those of the outputs.
        gradients: of a loss; ``None`` for the norm.
    """
    import torch_pruning

    model = copy.deepcopy(model).eval()
    if gradients is not None:
        for name, parameter in model.named_parameters():
            parameter.grad = gradients.get(name, torch.zeros_like(parameter)).clone()
    kept = [part for name, part in model.named_modules() if any(fnmatchcase(name, pattern) for pattern in keep)]
    kinds: Any = torch_pruning.importance
    importance = kinds.GroupMagnitudeImportance() if gradients is None else kinds.GroupTaylorImportance()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            model,
            example_inputs,
            importance=importance,
            global_pruning=True,
            pruning_ratio=ratio,
            round_to=multiple,
            ignored_layers=[*output_layers(model, outputs_of(model, example_inputs)), *kept],
        )
        pruner.step()
    model.zero_grad(set_to_none=True)
    return model
