"""Which test images a network gets right, and that as text for JSON: networks can then be compared in pairs."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from netadapt.training.classification import EVALUATION_BATCH, Classification

Bits = NDArray[np.bool_]


def correct(model: nn.Module, task: Classification) -> Bits:
    """Return which images of the test split a network gets right, in the order of the split, ``(images,)``."""
    marks = []
    model.eval()
    with torch.inference_mode():
        for part in torch.split(torch.arange(len(task.test)), EVALUATION_BATCH):
            logits = model(task.normalisation(task.test.pixels[part]))
            marks.append((logits.argmax(1) == task.test.labels[part]).numpy())
    return np.concatenate(marks)


def packed(correct: Bits) -> str:
    """Return ``correct`` ``(images,)`` as hex: eight images a byte, the first in the highest bit."""
    return np.packbits(correct).tobytes().hex()


def unpacked(text: str, images: int) -> Bits:
    """Return what `packed` was given.

    Args:
        text: hex.
        images: how many there are; the last byte may be padded.

    Raises:
        ValueError: the text does not hold so many.
    """
    data = np.frombuffer(bytes.fromhex(text), dtype=np.uint8)
    if len(data) != -(-images // 8):
        raise ValueError(f"{8 * len(data)} bits cannot be the marks of {images} images")
    return np.unpackbits(data, count=images).astype(np.bool_)
