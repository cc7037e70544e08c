"""Train the embedded digits network from scratch and write src/netadapt/models/assets/digits.safetensors.

    OMP_NUM_THREADS=1 .venv/bin/python tools/make_digits_weights.py [OUTPUT]

Takes some minutes. One thread, because the order of sums, hence the result, depends on their number. Width and
resolution are chosen so that the network takes 1 ms or more and its narrowest version at most a quarter of that under
onnxruntime with one thread, while one epoch still takes only seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from netadapt.files import write_atomic
from netadapt.models.mobilenet_v1 import MobileNetV1
from netadapt.models.registry import resolve_model
from netadapt.models.weights import ASSETS, dump_weights
from netadapt.training.datasets import resolve_task
from netadapt.training.loop import Recipe, fine_tune

ARGUMENTS: dict[str, Any] = {"width": 0.75, "resolution": 96, "classes": 10}
# most of the training on half the side, at a quarter of the cost
STAGES = ((48, Recipe(epochs=24, lr=0.05, weight_decay=1e-3, warmup=0.1)), (96, Recipe(epochs=8, lr=0.02)))


def main() -> None:
    """Train, write, read back, report."""
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else ASSETS / "digits.safetensors"
    torch.manual_seed(0)
    model = MobileNetV1(**ARGUMENTS)
    for resolution, recipe in STAGES:
        task = resolve_task("digits", resolution=resolution, batch_size=32, label_smoothing=0.1)
        result = fine_tune(model, task, recipe, seed=0)
        speed = result.images / result.seconds
        print(
            f"{resolution} px: {speed:.0f} images/s, loss {result.loss:.3f}, {task.evaluate(model, 'test')}", flush=True
        )
    write_atomic(output, dump_weights(model, "mobilenet_v1", ARGUMENTS))
    stored, _ = resolve_model(f"mobilenet_v1?weights={output}")
    for split in ("selection", "test"):
        print(f"as stored, {split}: {task.evaluate(stored, split)}")
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
