"""What a task is: a user's own training and evaluation, of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from netadapt.scores import Score

Split = Literal["selection", "test"]


@runtime_checkable
class Task(Protocol):
    """A user's own training: batches, forward, loss, evaluation.

    The *selection* split is carved out of the training data and decides between proposals; the *test* split is
    read once per network at the end and decides nothing.
    """

    def batches(self, seed: int) -> Iterator[Any]:
        """Return an endless, shuffled stream of training batches; the same seed gives the same stream."""
        ...

    def size(self, batch: Any) -> int:
        """Return the number of images in ``batch``."""
        ...

    def forward(self, model: nn.Module, batch: Any) -> Any:
        """Run ``model`` on ``batch`` and return its outputs."""
        ...

    def loss(self, outputs: Any, batch: Any, teacher_outputs: Any | None = None) -> Tensor:
        """Return the scalar training loss; ``teacher_outputs`` are the original network's on the same batch."""
        ...

    def evaluate(self, model: nn.Module, split: Split) -> Score:
        """Score ``model`` (put in eval mode for the time) on a split."""
        ...


@runtime_checkable
class PartlyEvaluated(Protocol):
    """What a task may offer besides: a score on fewer images, for the hundreds of scores that loss curves are made of.

    One-shot asks for it (``[search] curve_images``); of a task without it, it uses the whole selection split, as it
    does for the few whole networks that the curves lead to. A class that overrides ``evaluate`` overrides this too.
    """

    def evaluate_part(self, model: nn.Module, images: int) -> Score:
        """Score ``model`` on at most so many images of the selection split, always the same ones."""
        ...
