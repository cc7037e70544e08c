"""How long and how a network is fine-tuned, and what a fine-tune did.

Written by configurations and callers, obeyed by `loop.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from netadapt.errors import UsageError
from netadapt.training.task import Task


@dataclass(frozen=True)
class Recipe:
    """How long and how a network is fine-tuned; the batch size is the task's.

    Attributes:
        images: training images to see; give this or ``epochs``.
        epochs: passes over the task's training images; needs a task with ``train_images``.
        lr: highest learning rate.
        schedule: ``cosine`` falls from ``lr`` to zero; ``constant`` stays.
        momentum: of SGD.
        nesterov: look-ahead form of the momentum.
        weight_decay: L2 penalty.
        decay_vectors: also on norms and biases, 0 for these by default.
        warmup: share of the images during which the rate rises from zero, 0..1.
        ema: decay of the moving average of weights that is returned; 0 for none. Rises from 0.1 with the steps.
        clip_norm: largest norm of the gradient; 0 for no limit.
        precision: of the forward pass; ``auto`` is bfloat16 on CUDA and float32 on CPU.
        device: ``auto`` is CUDA where there is one.
    """

    images: int | None = None
    epochs: float | None = None
    lr: float = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 4e-5
    decay_vectors: bool = False
    warmup: float = 0.0
    ema: float = 0.0
    clip_norm: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.images is None) == (self.epochs is None):
            raise UsageError(f"a recipe needs images or epochs, not both: images={self.images}, epochs={self.epochs}")

    def total_images(self, task: Task) -> int:
        """Return how many training images the recipe sees with ``task``."""
        if self.images is not None:
            return self.images
        per_epoch = getattr(task, "train_images", None)
        if per_epoch is None or self.epochs is None:
            raise UsageError(f"epochs={self.epochs} needs a task with train_images; give images instead")
        return round(self.epochs * int(per_epoch))

    def rate(self, done: int, total: int) -> float:
        """Return the learning rate after ``done`` of ``total`` images."""
        rising = min(1.0, (done + 1) / (self.warmup * total)) if self.warmup else 1.0
        falling = 0.5 * (1 + math.cos(math.pi * done / total)) if self.schedule == "cosine" else 1.0
        return self.lr * rising * falling


@dataclass(frozen=True)
class TrainingResult:
    """What a fine-tune did.

    Attributes:
        images: training images seen.
        loss: mean training loss of the last steps.
        seconds: it took, earlier parts of an interrupted one included.
    """

    images: int
    loss: float
    seconds: float
