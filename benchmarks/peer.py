"""Torch-Pruning as a method of the benchmark: the start network pruned until its measured latency is the budget's.

It knows no latency: the one ratio for the whole network is bisected, and what each gives is measured beside the
original, as a user would do by hand. `references.py` fine-tunes and measures the result like every other network.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _torch_pruning import Gradients, pruned
from torch import nn

from netadapt.errors import BudgetUnreachable, Interrupted
from netadapt.files import write_atomic
from netadapt.platforms import Measurement
from netadapt.training.prepare import calibration_batches
from netadapt.training.task import Task

TRIES = 8
LARGEST = 0.99
GRADIENT_IMAGES = 2000


@dataclass(frozen=True)
class Pruned:
    """A pruned network.

    Attributes:
        model: with the weights of the original.
        images: whose gradients decided; they count as training images.
        seconds: of all of it.
    """

    model: nn.Module
    images: int
    seconds: float


def prune_to(
    budget: float,
    model: nn.Module,
    example_inputs: Any,
    *,
    task: Task | None,
    measured: Callable[[nn.Module], Measurement],
    multiple: int,
    keep: Sequence[str],
    seed: int,
    kept: Path,
    should_stop: Callable[[], bool],
) -> Pruned:
    """Return the slowest of the pruned networks tried that is within the budget.

    Args:
        budget: share of the original's latency, above 0 and below 1.
        model: the original, left as it is.
        example_inputs: of the original.
        task: whose loss the Taylor term is of; ``None`` ranks by the L2 norm.
        measured: times a network beside the original.
        multiple: widths are multiples of it.
        keep: patterns of the names of layers that stay whole.
        seed: of the images for the Taylor term.
        kept: a file for the ratio found, so that a second call makes the same network without measuring.
        should_stop: asked before every measurement.

    Raises:
        BudgetUnreachable: no ratio that was tried is within the budget.
        Interrupted: ``should_stop`` said so.
    """
    began = time.monotonic()
    gradients, images = (None, 0) if task is None else _gradients(model, task, seed)

    def at(ratio: float) -> nn.Module:
        return pruned(model, example_inputs, ratio, multiple=multiple, keep=keep, gradients=gradients)

    def share_at(ratio: float) -> float:
        if should_stop():
            raise Interrupted("the search for the ratio was stopped; it begins anew")
        return measured(at(ratio)).sentinel_ratio

    if not kept.is_file():
        ratio = _ratio(budget, share_at)
        found = {"ratio": ratio, "seconds": time.monotonic() - began}
        write_atomic(kept, json.dumps(found).encode())
    found = json.loads(kept.read_text())
    return Pruned(at(found["ratio"]), images, found["seconds"])


def _ratio(budget: float, share_at: Callable[[float], float]) -> float:
    """Bisect the ratio; return the one whose share of the latency is the largest within the budget."""
    low, high, within = 0.0, LARGEST, {}
    for _ in range(TRIES):
        middle = (low + high) / 2
        if (share := share_at(middle)) <= budget:
            high, within[middle] = middle, share
        else:
            low = middle
    if not within:
        raise BudgetUnreachable(f"Torch-Pruning at a ratio of {high:.3f} is slower than {budget:.0%} of the original")
    return max(within, key=lambda ratio: within[ratio])


def _gradients(model: nn.Module, task: Task, seed: int) -> tuple[Gradients, int]:
    """Return the gradients of the losses of some batches of training images, and how many images these are."""
    model, images = copy.deepcopy(model).eval(), 0
    for batch in calibration_batches(task, GRADIENT_IMAGES, seed):
        task.loss(task.forward(model, batch), batch).backward()
        images += task.size(batch)
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return gradients, images
