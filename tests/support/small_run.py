"""A small network, a task and a quick run on the simulated platform, for the tests of this folder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netadapt import Family, adapt
from netadapt.runs.journal import read_records
from netadapt.scores import Score

IMAGE = torch.zeros(1, 3, 16, 16)
QUICK: dict[str, Any] = {
    "platform": "simulated?staircase=8",
    "first_step": "15%",
    "networks": 12,
    "contenders": 2,
    "calibration_images": 64,
    "short_term": {"images": 64, "lr": 0.01},
    "long_term": {"images": 256, "lr": 0.02},
}


class SmallNet(nn.Module):
    """Two convolutions with norms and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(64)
        self.second = nn.Conv2d(64, 96, 3, padding=1, stride=2, bias=False)
        self.second_norm = nn.BatchNorm2d(96)
        self.classifier = nn.Linear(96, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(self.first(x)).relu()
        x = self.second_norm(self.second(x)).relu()
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def small_net() -> SmallNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallNet().eval()


def deeper_net() -> nn.Sequential:
    """Four convolutions: the early ones decide memory, the late ones parameters."""
    widths = (3, 32, 48, 64, 96)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            stride = 1 if number == 0 else 2
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, stride=stride, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        pool = nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(widths[-1], 4)).eval()


class Colours:
    """A user's own task: which of four colours dominates an image."""

    def _images(self, seed: int, count: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 4, (count,), generator=generator)
        images = torch.rand(count, 3, 16, 16, generator=generator) * 0.9
        tint = torch.tensor([[0.4, 0, 0], [0, 0.4, 0], [0, 0, 0.4], [0.2, 0.2, 0.2]])
        return images + tint[labels][:, :, None, None], labels

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        for number in itertools.count():
            yield self._images(1000 * seed + number, 16)

    def size(self, batch: tuple[Tensor, Tensor]) -> int:
        return len(batch[1])

    def forward(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        logits: Tensor = model(batch[0])
        return logits

    def loss(self, outputs: Tensor, batch: tuple[Tensor, Tensor], teacher_outputs: Any | None = None) -> Tensor:
        return F.cross_entropy(outputs, batch[1])

    def evaluate(self, model: nn.Module, split: str) -> Score:
        images, labels = self._images({"selection": 7, "test": 8}[split], 64)
        with torch.inference_mode():
            outputs = model.eval()(images)
        accuracy = float((outputs.argmax(1) == labels).float().mean())
        return Score(accuracy, float(F.cross_entropy(outputs, labels)), 64)


def run(folder: Path, budget: Any = "50%", model: nn.Module | None = None, **options: Any) -> Family:
    return adapt(model or small_net(), IMAGE, Colours(), budget, run=folder, **{**QUICK, **options})


def told(folder: Path) -> list[Any]:
    """What a run decided, without times."""
    steps = [r.data for r in read_records(folder / "journal.jsonl") if r.type == "step"]
    keys = ("iteration", "group", "widths", "measured", "accuracy", "loss", "training_images")
    return [{key: step[key] for key in keys} for step in steps]
