"""The benchmark's modules as its scripts import them, made-up results of cells, a set-up that runs in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

IMAGES = 400

SETUP = """
schema = 1
[model]
source = "{model}:build"
first_tune = {{ epochs = 1, lr = 0.05 }}
[platform]
name = "simulated?staircase=8"
[budget]
latency = "50%"
[task]
source = "digits"
resolution = 16
selection = 4
[search]
networks = 12
contenders = 1
first_step = "20%"
calibration_images = 64
[training.short_term]
images = 64
[training.long_term]
epochs = 1
lr = 0.02
[report]
uniform = false
"""

MODEL = '''
import torch
from torch import nn

def build(channels: int = 64):
    """Return two convolutions with norms and a classifier."""
    layers = []
    for inputs, outputs in ((3, channels), (channels, channels)):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]
    return nn.Sequential(*layers, *head), torch.zeros(1, 3, 16, 16)
'''


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Places with one set-up, "small", on a simulated platform."""
    from cells import Places

    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    places = Places(*(tmp_path / name for name in ("setups", "starts", "runs", "results")))
    places.setups.mkdir()
    (tmp_path / "model.py").write_text(MODEL)
    (places.setups / "small.toml").write_text(SETUP.format(model=tmp_path / "model.py"))
    return places


def marks(share: float, images: int = IMAGES) -> np.ndarray:
    """Return marks of which the first ``share`` are right: a better network is right wherever a worse one is."""
    return np.arange(images) < round(share * images)


def document(
    method: str,
    budget: str,
    ratio: float,
    correct: np.ndarray | float,
    *,
    seed: int = 0,
    setup: str = "one",
    original: np.ndarray | float = 0.9,
    search_images: int = 0,
    forward_images: int = 0,
    processor: str = "Some CPU",
) -> dict[str, Any]:
    """Return the JSON of a cell, as run_cell writes it."""
    from _correct import packed

    right = marks(correct) if isinstance(correct, float) else correct
    right_of_original = marks(original) if isinstance(original, float) else original
    network = {"macs": 1e6, "parameters": 1e5, "standard_error": 0.01}
    first = network | {"latency_ms": 2.0, "accuracy": float(right_of_original.mean())}
    final = network | {"latency_ms": 2.0 * ratio, "ratio": ratio, "ratio_half_width": 0.01 * ratio, "widths": {}}
    return {
        "cell": {"setup": setup, "method": method, "budget": budget, "seed": seed, "name": f"{method} {budget} {seed}"},
        "failure": None,
        "machine": {"processor": processor},
        "original": first | {"half_width_ms": 0.01, "correct": packed(right_of_original)},
        "final": final | {"accuracy": float(right.mean()), "correct": packed(right)},
        "test_images": len(right),
        "search_images": search_images,
        "forward_images": forward_images,
        "training_images": search_images + 1000,
        "search_seconds": search_images / 100 + 10,
    }


def ends(accuracy: float = 0.9, *, seeds: Iterable[int] = (0,), setup: str = "one") -> list[dict[str, Any]]:
    """Return the tuned originals of some seeds: the right end of every curve of the set-up.

    Args:
        accuracy: of all of them, 0..1.
        seeds: whose.
        setup: its name.
    """
    return [document("tuned-original", "100%", 1.0, accuracy, seed=seed, setup=setup) for seed in seeds]
