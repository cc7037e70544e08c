"""What Torch-Pruning makes of one architecture: its dependency graph, a quarter of all channels pruned, by values."""

from __future__ import annotations

import copy
import time
import warnings
from typing import Any

import torch
from _torch_pruning import output_layers
from architectures import build
from torch import Tensor, nn

from netadapt.network.bench import outputs_of

RATIO = 0.25
EXACT = 1e-6  # of the largest output, in double precision


def theirs(name: str, seed: int) -> dict[str, Any]:
    """Prune an architecture as Torch-Pruning's own examples do: by magnitude, all layers but those of the output.

    Args:
        name: as of `architectures.names`.
        seed: of weights and input.

    Returns:
        ``seconds`` (processor time of graph and pruning), ``parameters_left`` (share), ``outcome``: ``equal`` to the
        original masked at the consumers, ``wrong values``, ``runs`` (channels of layer or group norms were pruned, or
        of modules whose consumers cannot be masked: values change by nature and are not compared), ``wrong shape``,
        ``nothing pruned``; ``difference`` where values were compared. Errors are left to the caller.
    """
    import torch_pruning

    model, example = build(name, seed)
    model, example = model.double(), example.double()
    whole = outputs_of(model, example)
    masked, before = copy.deepcopy(model), sum(p.numel() for p in model.parameters())
    began = time.process_time()
    mask = _Mask(model, masked)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = torch_pruning.pruner.BasePruner(
            model,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(),
            pruning_ratio=RATIO,
            ignored_layers=output_layers(model, whole),
        )
        for group in pruner.step(interactive=True):
            mask.add(pruner.DG, group)
            group.prune()
    told = {
        "seconds": round(time.process_time() - began, 2),
        "parameters_left": round(sum(p.numel() for p in model.parameters()) / before, 3),
    }
    return told | _compared(model, mask, example, whole)


def _compared(model: nn.Module, mask: _Mask, example: Tensor, whole: list[Tensor]) -> dict[str, Any]:
    got = outputs_of(model, example)
    if [t.shape for t in got] != [t.shape for t in whole]:
        return {"outcome": "wrong shape"}
    if not mask.pruned:
        return {"outcome": "nothing pruned"}
    if mask.incomparable:
        return {"outcome": "runs"}
    gaps = [
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(got, outputs_of(mask.model, example), strict=True)
    ]
    worst = max(gaps)
    return {"outcome": "equal" if worst <= EXACT else "wrong values", "difference": float(f"{worst:.3g}")}


class _Mask:
    """The original with every input channel set to zero that Torch-Pruning removes from a consumer.

    Attributes:
        model: that original.
        pruned: whether anything was removed.
        incomparable: whether something was removed whose effect is not that of a mask.
    """

    def __init__(self, model: nn.Module, masked: nn.Module) -> None:
        self.model, self.pruned, self.incomparable = masked, False, False
        copies = dict(masked.named_modules())
        self._original = {part: copies[name] for name, part in model.named_modules()}
        self._left: dict[nn.Module, list[int]] = {}

    def add(self, graph: Any, group: Any) -> None:
        """Take in a group that is about to be pruned."""
        self.pruned = True
        for dependency, indices in group:
            part = dependency.target.module
            if isinstance(part, nn.LayerNorm | nn.GroupNorm | nn.MultiheadAttention) or part not in self._original:
                self.incomparable = self.incomparable or not dependency.target.name.startswith("_")
            elif isinstance(part, nn.Linear | nn.modules.conv._ConvNd) and not graph.is_out_channel_pruning_fn(
                dependency.handler
            ):
                self._zero(part, indices)

    def _zero(self, part: nn.Module, indices: list[int]) -> None:
        original = self._original[part]
        groups = getattr(original, "groups", 1)
        size = original.in_features if isinstance(original, nn.Linear) else original.in_channels
        left = self._left.setdefault(part, list(range(size)))
        transposed = getattr(original, "transposed", False)
        with torch.no_grad():
            for channel in (left[i] for i in indices):
                weight = original.weight
                if transposed:
                    weight[channel] = 0
                elif groups == 1:
                    weight[:, channel] = 0
                else:  # a grouped convolution: rows of the channel's own group, by its place in that group
                    rows = weight.chunk(groups)[channel // (size // groups)]
                    rows[:, channel % (size // groups)] = 0
        gone = set(indices)
        self._left[part] = [channel for place, channel in enumerate(left) if place not in gone]
