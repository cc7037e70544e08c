"""The ready classification task over images in memory: batches, loss with smoothing and distillation, top-1.

`datasets.resolve_task` builds it from a TASK text; `loop.fine_tune` and the search drive it as a `Task`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from netadapt.errors import DataError, NonFinite
from netadapt.network.batch_norm import restored_modes
from netadapt.scores import Score
from netadapt.training.images import IMAGENET, Augment, ImageStore, Normalisation, augmented
from netadapt.training.task import Split

EVALUATION_BATCH = 200


@dataclass(frozen=True)
class ImageBatch:
    """Images ready for a network, and their labels.

    Attributes:
        images: float32 ``(b, 3, height, width)``, channels-last memory.
        labels: int64 ``(b,)``.
    """

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> ImageBatch:
        """Return the batch on another device."""
        return ImageBatch(self.images.to(device), self.labels.to(device))


class Classification:
    """Image classification: cross entropy, top-1 accuracy in 0..1.

    Args:
        train: training images; the selection split is carved out of them.
        test: test images, with the same classes.
        batch_size: images in a training batch.
        selection: images per class (an integer), or a fraction of each class (below 1).
        augment: random changes of training images; ``None`` for none.
        label_smoothing: share of the target spread over all classes, 0..1.
        distillation: weight of the teacher's outputs in the loss, 0..1.
        temperature: softens teacher and student in the distillation term.
        normalisation: pixels to network inputs.
        seed: of the carving of the selection split.

    Raises:
        DataError: the stores do not agree, or a class is too small for the selection split.
    """

    def __init__(
        self,
        train: ImageStore,
        test: ImageStore,
        *,
        batch_size: int = 64,
        selection: int | float = 10,
        augment: Augment | None = None,
        label_smoothing: float = 0.0,
        distillation: float = 0.0,
        temperature: float = 2.0,
        normalisation: Normalisation = IMAGENET,
        seed: int = 0,
    ) -> None:
        _check_pair(train, test)
        self.train = train
        self.test = test
        self.batch_size = batch_size
        self.augment = augment
        self.label_smoothing = label_smoothing
        self.distillation = distillation
        self.temperature = temperature
        self.normalisation = normalisation
        self.selection_indices, self.train_indices = stratified_split(train, selection, seed)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.train.classes

    @property
    def train_images(self) -> int:
        """Images in one epoch."""
        return len(self.train_indices)

    def with_selection(self) -> Classification:
        """Return the same task trained on the selection split too, for the long-term fine-tune."""
        task = copy.copy(self)
        task.train_indices = torch.arange(len(self.train))
        return task

    def batches(self, seed: int) -> Iterator[ImageBatch]:
        """Return an endless stream of full batches: every image once per epoch, in an order that ``seed`` fixes."""
        generator = Generator().manual_seed(seed)
        waiting = self.train_indices[:0]
        while True:
            while len(waiting) < self.batch_size:
                order = torch.randperm(self.train_images, generator=generator)
                waiting = torch.cat([waiting, self.train_indices[order]])
            indices, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
            if self.augment is None:
                pixels = self.train.pixels[indices]
            else:
                pixels = augmented(self.train, indices, self.augment, generator)
            yield ImageBatch(self.normalisation(pixels), self.train.labels[indices])

    def calibration(self, images: int, seed: int = 0) -> Iterator[ImageBatch]:
        """Yield about ``images`` different training images, unchanged: for statistics, re-fits and linear probes."""
        order = torch.randperm(self.train_images, generator=Generator().manual_seed(seed))[:images]
        yield from _batches(self.train, self.train_indices[order], self.normalisation)

    def size(self, batch: ImageBatch) -> int:
        """Return the number of images in ``batch``."""
        return len(batch.labels)

    def forward(self, model: nn.Module, batch: ImageBatch) -> Tensor:
        """Return the logits ``(b, classes)``."""
        logits: Tensor = model(batch.images)
        return logits

    def loss(self, outputs: Tensor, batch: ImageBatch, teacher_outputs: Tensor | None = None) -> Tensor:
        """Return smoothed cross entropy, mixed with the distance to the teacher (arXiv 1503.02531, section 2)."""
        loss = F.cross_entropy(outputs, batch.labels, label_smoothing=self.label_smoothing)
        if teacher_outputs is None or not self.distillation:
            return loss
        student = F.log_softmax(outputs / self.temperature, dim=1)
        teacher = F.log_softmax(teacher_outputs / self.temperature, dim=1)
        distance = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        # T^2 keeps the gradients of both terms comparable when T changes
        return (1 - self.distillation) * loss + self.distillation * self.temperature**2 * distance

    def evaluate(self, model: nn.Module, split: Split) -> Score:
        """Score ``model`` on a split: top-1 accuracy and mean cross entropy.

        Raises:
            NonFinite: the outputs are NaN or infinite.
        """
        if split == "test":
            return evaluate_images(model, self.test, self.normalisation)
        return evaluate_images(model, self.train, self.normalisation, self.selection_indices)

    def evaluate_part(self, model: nn.Module, images: int) -> Score:
        """Score ``model`` on at most so many images of the selection split, spread evenly over it.

        Raises:
            NonFinite: the outputs are NaN or infinite.
        """
        count = len(self.selection_indices)
        every = torch.linspace(0, count - 1, min(images, count)).round().long()
        return evaluate_images(model, self.train, self.normalisation, self.selection_indices[every])

    def check(self, model: nn.Module, example_inputs: Any = None) -> None:
        """Refuse a network that this task cannot train, before anything is started.

        Args:
            model: the network.
            example_inputs: its deployment input ``(b, 3, height, width)``, if known.

        Raises:
            DataError: image size or number of classes do not fit.
        """
        height, width = self.train.size
        if isinstance(example_inputs, Tensor) and tuple(example_inputs.shape[1:]) != (3, height, width):
            shape = "x".join(map(str, example_inputs.shape[1:]))
            raise DataError(
                f"the network expects inputs of {shape}, the task's images are 3x{height}x{width}: "
                f"set resolution = {example_inputs.shape[-1]} under [task]"
            )
        batch = next(_batches(self.train, self.train_indices[:2], self.normalisation))
        with restored_modes(model), torch.no_grad():
            outputs = self.forward(model.eval(), batch.to(_device(model)))
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] != len(self.classes):
            found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise DataError(
                f"the network's outputs for 2 images are {found}, the task has {len(self.classes)} classes: "
                f"set classes = {len(self.classes)} under [model] to replace the classifier"
            )


def _check_pair(train: ImageStore, test: ImageStore) -> None:
    if train.classes != test.classes:
        raise DataError(
            f"{train.name} has {len(train.classes)} classes ({', '.join(train.classes[:3])}, ...), {test.name} "
            f"{len(test.classes)} ({', '.join(test.classes[:3])}, ...): both must have the same, in the same order"
        )
    if train.size != test.size:
        raise DataError(
            f"{train.name} has images of {train.size[1]}x{train.size[0]} pixels, {test.name} of "
            f"{test.size[1]}x{test.size[0]}: set resolution under [task] to bring all to one size"
        )


def stratified_split(store: ImageStore, selection: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Carve a part out of ``store`` with the same share, or number, of each class.

    Args:
        store: the images.
        selection: images per class (an integer), or a fraction of each class (below 1), at least one image.
        seed: which images.

    Returns:
        Indices of the part and of the rest, each sorted.

    Raises:
        DataError: ``selection`` is out of range, or leaves nothing of a class to train on.
    """
    if selection <= 0 or (isinstance(selection, float) and selection >= 1):
        raise DataError(f"selection={selection} is not allowed: images per class (1 or more) or a fraction below 1 is")
    generator = Generator().manual_seed(seed)
    taken = torch.zeros(len(store), dtype=torch.bool)
    for label in torch.unique(store.labels).tolist():
        members = (store.labels == label).nonzero().flatten()
        count = selection if isinstance(selection, int) else max(1, round(selection * len(members)))
        if count >= len(members):
            raise DataError(
                f'{store.name}: class "{store.classes[label]}" has {len(members)} images, the selection split takes '
                f"{count} and leaves none to train on: lower selection under [task] or give more images"
            )
        taken[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return taken.nonzero().flatten(), (~taken).nonzero().flatten()


def evaluate_images(
    model: nn.Module, store: ImageStore, normalisation: Normalisation, indices: Tensor | None = None
) -> Score:
    """Return top-1 accuracy and mean cross entropy of ``model`` in eval mode; its modes are restored.

    Args:
        model: the network, on any device.
        store: the images.
        normalisation: pixels to inputs.
        indices: which images; all by default.

    Raises:
        NonFinite: the outputs are NaN or infinite.
    """
    indices = torch.arange(len(store)) if indices is None else indices
    device = _device(model)
    correct, loss = 0, 0.0
    with restored_modes(model), torch.inference_mode():
        model.eval()
        for batch in _batches(store, indices, normalisation):
            logits = model(batch.images.to(device)).float().cpu()
            correct += int((logits.argmax(1) == batch.labels).sum())
            loss += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
    if not loss < float("inf"):
        raise NonFinite(f"the loss of {type(model).__name__} on {store.name} is {loss}")
    return Score(correct / len(indices), loss / len(indices), len(indices))


def _batches(store: ImageStore, indices: Tensor, normalisation: Normalisation) -> Iterator[ImageBatch]:
    for part in torch.split(indices, EVALUATION_BATCH):
        yield ImageBatch(normalisation(store.pixels[part]), store.labels[part])


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
