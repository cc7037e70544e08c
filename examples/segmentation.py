"""Adapt your own network with your own task: segmentation of discs and squares with a small U-Net.

    python examples/segmentation.py                        # trains it, then adapts it for this machine, about a minute
    python examples/segmentation.py --platform simulated   # the same on a device made of formulas

The network and the data stand for yours: `SmallUNet` has skip connections that are concatenated, a transposed
convolution and an upsampling; `Shapes` is a `netadapt.Task`, five methods. docs/howto_segmentation.md walks through it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import netadapt

SIZE, CLASSES = 24, 3
BACKGROUND, DISC, SQUARE = range(CLASSES)


class Block(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class SmallUNet(nn.Module):
    """Three scales down, two up, skips by concatenation; returns ``(n, classes, height, width)``."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.middle, self.coarse = Block(3, 16), Block(16, 24, 2), Block(24, 32, 2)
        self.up = nn.ConvTranspose2d(32, 24, 2, stride=2)
        self.merge_middle, self.merge_fine = Block(24 + 24, 24), Block(24 + 16, 16)
        self.head = nn.Conv2d(16, CLASSES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits for every pixel."""
        fine = self.fine(images)
        middle = self.middle(fine)
        x = self.up(self.coarse(middle))
        x = self.merge_middle(torch.cat([x, middle], dim=1))
        x = F.interpolate(x, scale_factor=2.0)
        logits: Tensor = self.head(self.merge_fine(torch.cat([x, fine], dim=1)))
        return logits


Batch = tuple[Tensor, Tensor]


class Shapes:
    """A `netadapt.Task`: images with a disc and a square each, drawn on the fly; the metric is the mean IoU."""

    def batches(self, seed: int) -> Iterator[Batch]:
        """Return an endless stream of training batches; the same seed gives the same stream."""
        return (draw(32, 100_000 * (seed % 10_000) + number) for number in itertools.count())

    def size(self, batch: Batch) -> int:
        """Return the number of images in a batch."""
        return len(batch[0])

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Run the network; whatever this returns goes to `loss`."""
        logits: Tensor = model(batch[0])
        return logits

    def loss(self, outputs: Tensor, batch: Batch, teacher_outputs: Any | None = None) -> Tensor:
        """Return the cross-entropy of all pixels."""
        return F.cross_entropy(outputs, batch[1])

    def evaluate(self, model: nn.Module, split: str) -> netadapt.Score:
        """Score a network: mean IoU in 0..1, on images that no training batch holds."""
        images, masks = draw(128, {"selection": -1, "test": -2}[split])
        model.eval()
        with torch.inference_mode():
            logits = model(images)
        each = intersection_over_union(logits.argmax(1), masks)
        error = float(each.std() / len(each) ** 0.5)
        return netadapt.Score(
            float(each.mean()), float(F.cross_entropy(logits, masks)), name="mIoU", standard_error=error
        )


def draw(count: int, seed: int) -> Batch:
    """Return ``count`` noisy images ``(n, 3, size, size)`` and their masks ``(n, size, size)``."""
    random = torch.Generator().manual_seed(seed % 2**63)
    images = 0.3 * torch.randn(count, 3, SIZE, SIZE, generator=random)
    masks = torch.full((count, SIZE, SIZE), BACKGROUND)
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    for kind in (DISC, SQUARE):
        middle = torch.rand(count, 2, 1, 1, generator=random) * (SIZE - 8) + 4
        radius = torch.rand(count, 1, 1, generator=random) * 2.5 + 3
        colour = 0.7 + 0.5 * torch.rand(count, 3, 1, 1, generator=random)
        down, across = (rows - middle[:, 0]).abs(), (columns - middle[:, 1]).abs()
        inside = down**2 + across**2 < radius**2 if kind == DISC else torch.maximum(down, across) < 0.9 * radius
        colour[:, kind] -= 0.6  # discs lack green, squares lack blue
        images = torch.where(inside[:, None], images + colour, images)
        masks[inside] = kind
    return images, masks


def intersection_over_union(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the IoU of every image ``(n,)``, averaged over the classes."""
    each = []
    for kind in range(CLASSES):
        mine, theirs = (found == kind).flatten(1), (wanted == kind).flatten(1)
        each.append((mine & theirs).sum(1) / (mine | theirs).sum(1).clamp(min=1))
    return torch.stack(each).mean(0)


def build(batches: int = 60) -> tuple[nn.Module, Tensor]:
    """Return a network trained from nothing and its deployment input: the MODEL of ``segmentation.py:build``."""
    torch.manual_seed(0)
    model, task = SmallUNet(), Shapes()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for batch in itertools.islice(task.batches(seed=0), batches):
        optimizer.zero_grad()
        task.loss(task.forward(model, batch), batch).backward()
        optimizer.step()
    return model.eval(), torch.zeros(1, 3, SIZE, SIZE)


def adapt(platform: str, run: Path, budget: str = "60%", images: int = 1000, **search: Any) -> netadapt.Family:
    """Train the network, adapt it and return the family."""
    model, example_inputs = build()
    return netadapt.adapt(
        model,
        example_inputs,
        Shapes(),
        budget,
        platform=platform,
        run=run,
        method="one-shot",
        calibration_images=256,
        long_term={"images": images, "lr": 0.02},
        **search,
    )


def main() -> None:
    """Adapt, then tell what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--platform", default="local/onnxruntime?threads=1")
    parser.add_argument("--run", type=Path, default=Path("runs/segmentation"))
    parser.add_argument("--budget", default="60%")
    options = parser.parse_args()
    family = adapt(options.platform, options.run, options.budget)
    print(family)
    small = family.best.load(SmallUNet()).eval()
    score = Shapes().evaluate(small, "test")
    error = 100 * (score.standard_error or 0)
    print(f"loaded {family.best.name}: {score.name} {100 * score.metric:.1f} ± {error:.1f} % on the test split")
    print(f"report {options.run / 'report.html'}")


if __name__ == "__main__":
    main()
