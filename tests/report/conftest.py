"""Run folders as a real run writes them: MobileNetV1-0.5 at half its latency, through the journal's own API."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netadapt.runs.config import make_config
from netadapt.runs.folder import RunFolder

FULL = {"features.0": 16, "features.1": 32, "features.2": 64, "features.3": 64, "features.4": 128, "features.5": 128,
        "features.6": 256, "features.7": 256, "features.8": 256, "features.9": 256, "features.10": 256,
        "features.11": 256, "features.12": 512, "features.13": 512}  # fmt: skip
# the paper's Fig. 10 is where this run is heading
ORDER = [8, 9, 7, 10, 12, 8, 11, 9, 5, 7, 10, 4, 8, 6, 13, 9, 12, 3, 2, 10, 7, 11, 6, 13]


def measurement(median_ms: float) -> dict:
    return {
        "platform": "local/onnxruntime?threads=1", "median_ms": median_ms, "iqr_ms": 0.011 * median_ms,
        "p90_ms": 1.03 * median_ms, "count": 180, "verdict": "stable", "half_width_ms": 0.006 * median_ms,
        "sessions_ms": [median_ms * f for f in (0.995, 1.0, 1.004)], "ratio": median_ms / 0.999, "energy_mj": None,
        "memory_mb": None, "environment": {},
    }  # fmt: skip


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A function that writes a run of some steps: make_run(name, steps=26, finished=True, rename={group: name})."""

    def make(
        name: str = "mobilenet-half", *, steps: int = 26, finished: bool = True, seed: int = 0, rename=None
    ) -> Path:
        rename = rename or {}
        config = make_config({
            "model": {"source": "mobilenet_v1?width=0.5&resolution=128"}, "budget": {"latency": "50%"},
            "task": {"source": "parquet:data/tiny-imagenet", "resolution": 128}, "run": {"seed": seed},
        })  # fmt: skip
        with RunFolder(tmp_path / name, config) as run:
            write_run(run, steps, finished, seed, lambda group: rename.get(group, group))
        return tmp_path / name

    yield make


def write_run(run: RunFolder, steps: int, finished: bool, seed: int, named: Callable[[str], str]) -> None:
    widths = dict(FULL)
    run.write_json("environment.json", {
        "netadapt": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "onnxruntime": "1.31.0",
        "processor": {"name": "AMD EPYC 9654 96-Core Processor", "governor": "performance", "load": [0.4, 0.3, 0.3]},
    })  # fmt: skip
    run.append("start", {
        "config_sha": "0" * 64, "seed": seed, "model": "mobilenet_v1?width=0.5&resolution=128",
        "platform": "local/onnxruntime?threads=1", "budget": {"latency": 0.4995},
        "initial": {"resources": {"latency": 0.999, "macs": 49_500_000, "parameters": 1_331_592},
                    "measurement": measurement(0.999), "accuracy_selection": 0.672, "accuracy_test": 0.664,
                    "macs": 49_500_000, "parameters": 1_331_592},
        "groups": [{"name": named(n), "width": w, "layers": [f"{n}.pointwise", f"{n}.norm"]} for n, w in FULL.items()],
        "pinned": [{"layer": "classifier", "reason": "network output"},  # as an older netadapt wrote it
                   {"layer": "stem", "reason": "softmax runs over channels", "where": "net.py:41"}],
        "pinned_share": 0.031,
        "noise": {"half_width_ms": 0.006, "relative": 0.006}, "floor": {"latency": 0.081},
        "images": {"test": 2500},
    })  # fmt: skip
    run.append(
        "estimator", {"kind": "network", "networks_measured": 64, "seconds": 31.0, "loo_error": {"latency": 0.009}}
    )
    latency, names = 0.999, list(FULL)
    for number in range(1, steps + 1):
        group = names[ORDER[(number - 1) % len(ORDER)]]
        widths[group] = max(8, widths[group] - max(8, FULL[group] // 4))
        latency -= 0.033 * 0.96**number
        accuracy = 0.672 - 0.10 * (number / 26) ** 2 + 0.006 * math.sin(number * 2.1 + seed) - 0.01 * seed
        estimated = latency * (1 + 0.012 * math.sin(3.7 * number))
        now = {named(n): w for n, w in widths.items()}
        run.append("iteration", {"iteration": number, "constraint": {"latency": latency}})
        for other in names[:3]:
            run.append("proposal", {
                "key": f"{number}/{other}", "iteration": number, "group": named(other), "widths": now,
                "estimated": {"latency": estimated}, "sigma": {"latency": 0.008}, "images": 2000, "seconds": 4.0,
                "score": {"metric": accuracy, "loss": 1.4, "tuned": True, "count": 1000}, "weights": None,
                "failed": None,
            })  # fmt: skip
        run.append("step", {
            "iteration": number, "group": named(group), "widths": now, "estimated": {"latency": estimated},
            "measured": {
                "latency": latency, "macs": int(49.5e6 * latency), "parameters": int(1.33e6 * latency**1.3),
            },
            "measurement": measurement(latency), "accuracy": accuracy, "loss": 1.5, "variant": f"{number:03d}",
            "training_images": 6000, "forward_images": 14_000, "seconds": 12.5,
        })  # fmt: skip
    if finished:
        variant = f"{steps:03d}"
        run.append("long_term", {"variant": variant, "accuracy_selection": None, "accuracy_test": 0.647,
                                 "accuracy_se": 0.0096, "images": 90_000, "seconds": 400.0,
                                 "folder": f"variants/{variant}-tuned"})  # fmt: skip
        half = {named(n): max(8, round(0.6 * w / 8) * 8) for n, w in FULL.items()}
        run.append("uniform", {"widths": half, "measured": {"latency": latency * 1.01}, "kind": "refit",
                               "measurement": measurement(latency * 1.01), "accuracy_test": 0.612,
                               "accuracy_se": 0.0097, "images": 90_000})  # fmt: skip
        run.append("final", {"variant": variant, "met": latency <= 0.4995, "ratio": latency / 0.999,
                             "ratio_half_width": 0.004, "measurement": measurement(latency),
                             "initial_measurement": measurement(1.004), "accuracy_test": 0.647})  # fmt: skip
    run.write_curve()
