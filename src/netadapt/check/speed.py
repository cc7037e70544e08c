"""How fast this machine trains, evaluates and re-fits a network, on real batches or on noise of the same shape."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from netadapt.network import Network
from netadapt.network.batch_norm import call
from netadapt.network.refit import LeastSquaresRefit
from netadapt.scores import Score
from netadapt.training.loop import Recipe, fine_tune
from netadapt.training.task import Split, Task

_BATCH = 16
_REFIT_IMAGES = 64
#: seconds that one kind of pass is timed for, once it has warmed up
_SECONDS = 1.0
_MOST_BATCHES = 8


@dataclass(frozen=True)
class Speed:
    """What this machine does in a second with the original network.

    Attributes:
        forward: images per second, evaluation.
        training: images per second, forward, backward and update.
        refit_s: seconds to re-fit one group's consumers, images aside.
        outputs: numbers that the network gives for one image: classes, for a classifier.
    """

    forward: float
    training: float
    refit_s: float
    outputs: int


class Noise:
    """A task on random numbers in the shape of the example input: the timing of training does not need more.

    Args:
        example_inputs: tensor, tuple or dict with the batch as first axis.
        batch_size: images in a batch.
    """

    def __init__(self, example_inputs: Any, batch_size: int = _BATCH) -> None:
        self.example_inputs, self.batch_size = example_inputs, batch_size

    def batches(self, seed: int) -> Iterator[Any]:
        """Return an endless stream of batches."""
        generator = torch.Generator().manual_seed(seed)

        def widened(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor) or leaf.ndim == 0:
                return leaf
            repeated = leaf.repeat_interleave(-(-self.batch_size // len(leaf)), dim=0)[: self.batch_size]
            if not leaf.is_floating_point():
                return repeated
            return torch.randn(repeated.shape, generator=generator).to(leaf)

        while True:
            yield tree_map(widened, self.example_inputs)

    def size(self, batch: Any) -> int:
        """Return the number of images in ``batch``."""
        return self.batch_size

    def forward(self, model: nn.Module, batch: Any) -> Any:
        """Return the outputs of ``model``."""
        return call(model, batch)

    def loss(self, outputs: Any, batch: Any, teacher_outputs: Any | None = None) -> Tensor:
        """Return the mean square of all outputs."""
        return torch.stack([leaf.float().square().mean() for leaf in _floats(outputs)]).sum()

    def evaluate(self, model: nn.Module, split: Split) -> Score:
        """Return a score that says nothing."""
        return Score(0.0, 0.0)


def measure_speed(network: Network, task: Task | None) -> Speed:
    """Time copies of the original network; the network itself stays as it is.

    Args:
        network: the original.
        task: of the user; random numbers if not given.

    Raises:
        NetAdaptError, RuntimeError: the network cannot be run or trained on a batch.
    """
    task = task or Noise(network.example_inputs)
    batch = next(iter(task.batches(0)))
    model = copy.deepcopy(network.model).eval()
    with torch.no_grad():
        outputs = _floats(task.forward(model, batch))
        forward = _rate(lambda: task.forward(model, batch), task.size(batch))
    return Speed(forward, _training_rate(model, task, task.size(batch)), _refit_seconds(network), _outputs(outputs))


def _rate(action: Any, images: int) -> float:
    """Return images per second of ``action``, after one call that warms up."""
    began = time.perf_counter()
    action()
    repeats = _repeats(time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(repeats):
        action()
    return repeats * images / (time.perf_counter() - began)


def _training_rate(model: nn.Module, task: Task, images: int) -> float:
    """Return images per second of the real fine-tune loop, at a rate too small to matter."""
    warm = fine_tune(model, task, Recipe(images=images, lr=1e-9), seed=0)
    result = fine_tune(model, task, Recipe(images=images * _repeats(warm.seconds), lr=1e-9), seed=0)
    return result.images / result.seconds


def _repeats(seconds: float) -> int:
    return max(1, min(_MOST_BATCHES, math.floor(_SECONDS / max(seconds, 1e-9))))


def _refit_seconds(network: Network) -> float:
    """Return the mean seconds of a re-fit over a narrow, a middling and a wide group."""
    batches = islice(Noise(network.example_inputs).batches(0), -(-_REFIT_IMAGES // _BATCH))
    filters = LeastSquaresRefit(network, network.model, batches, images=_REFIT_IMAGES)
    filters.prepare(network.model)
    ordered = sorted(network.groups, key=lambda group: group.width)
    chosen = {ordered[index].name: ordered[index].width for index in (0, len(ordered) // 2, len(ordered) - 1)}
    began = time.perf_counter()
    for name, width in chosen.items():
        filters.apply({name: filters.choose(name, max(1, 3 * width // 4))})
    return (time.perf_counter() - began) / len(chosen)


def _floats(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _outputs(outputs: list[Tensor]) -> int:
    return int(outputs[0].shape[1]) if outputs and outputs[0].ndim > 1 else 1
