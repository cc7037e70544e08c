"""One network adapted to the same relative budget on two platforms, and every result measured on both: the 2x2 table.

    python benchmarks/cross.py [--seeds 3] [--sessions 15] [--first PLATFORM --second PLATFORM]

Run folders are under runs/cross; the same command goes on where it stopped. It prints the table and writes it, with all
widths, latencies and accuracies, to results/cross/PROCESSOR.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _markdown import table
from _record import RESULTS, processor_here, provenance, write
from cells import METHODS, PLACES
from scipy.stats import t as student
from together import measure_widths

from netadapt.cli.running import opened
from netadapt.runs.config import load_config, toml_value
from netadapt.runs.settings import RunConfig
from netadapt.runs.status import status

CROSS = RESULTS / "cross"
RUNS = Path(__file__).resolve().parents[1] / "runs" / "cross"
SETUP, BUDGET, METHOD, LONG_TERM_EPOCHS = "resnet20_cifar10", "60%", "one-shot", 1.0
# not ncnn: there the smallest ResNet-20 takes 59 % of the original's latency
PLATFORMS = ("local/onnxruntime?threads=1", "local/openvino?threads=1")
LEVEL = 0.95
Result = Mapping[str, Any]


def config(platform: str, seed: int, setup: Path | None = None, runs: Path = RUNS) -> RunConfig:
    """Return the configuration of one run: that of the set-up but for platform, budget, method and seed.

    Args:
        platform: to which it adapts.
        seed: of everything that is drawn.
        setup: the TOML file; default that of `SETUP`.
        runs: where the run folders are.
    """
    name = "".join(letter if letter.isalnum() else "_" for letter in platform)
    values = {
        "platform.name": platform,
        "run.seed": seed,
        "task.seed": seed,
        "run.folder": str(runs / f"{name}_seed{seed}"),
        "training.long_term.epochs": LONG_TERM_EPOCHS,
        **METHODS[METHOD],
    }
    overrides = [f"{key}={toml_value(value)}" for key, value in values.items()]
    return load_config(setup or PLACES.setups / f"{SETUP}.toml", [f'budget={{latency="{BUDGET}"}}', *overrides])


def adapted(config: RunConfig) -> dict[str, Any]:
    """Run an adaptation, or what remains of it.

    Returns:
        ``adapted_to``, ``seed``, ``widths``, ``accuracy`` (test split), ``ratio`` (of latency).
    """
    with opened(config) as adaptation:
        adaptation.finish()
        final = status(adaptation.folder.path)["final"]
    told = {key: final[key] for key in ("widths", "accuracy", "ratio")}
    return {"adapted_to": config.platform.name, "seed": config.run.seed, **told}


def measured(configs: Mapping[str, RunConfig], results: Sequence[Result], sessions: int) -> list[dict[str, Any]]:
    """Measure all networks on all platforms, each platform in one window of time.

    Args:
        configs: of any run on each platform, by platform.
        results: of `adapted`.
        sessions: of the stopwatch, per network.

    Returns:
        The results, each with ``on``: by platform ``latency_ms`` and ``relative``, to the original in that window.
    """
    found: list[dict[str, Any]] = [dict(result, on={}) for result in results]
    for platform, base in configs.items():
        _, networks = measure_widths(base, [result["widths"] for result in results], sessions)
        for result, network in zip(found, networks, strict=True):
            result["on"][platform] = {"latency_ms": network["latency_ms"], "relative": network["ratio"]}
    return found


def summary(found: Sequence[Result], platforms: Sequence[str]) -> dict[str, Any]:
    """Return the table and who wins, with Student's intervals over seeds.

    Returns:
        ``relative``: by platform adapted to and platform measured on, latency relative to the original; ``accuracy`` by
        platform adapted to; ``own_faster``: by platform, latency there of the other's network over that of its own,
        seed by seed: above 1 its own is faster. Each as ``mean``, ``low`` and ``high``.
    """

    def on(adapted_to: str, platform: str) -> list[float]:
        return [result["on"][platform]["relative"] for result in found if result["adapted_to"] == adapted_to]

    return {
        "relative": {a: {p: interval(on(a, p)) for p in platforms} for a in platforms},
        "accuracy": {a: interval([r["accuracy"] for r in found if r["adapted_to"] == a]) for a in platforms},
        "own_faster": {
            own: interval(np.divide(on(other, own), on(own, own)).tolist())
            for own, other in (platforms, tuple(reversed(platforms)))
        },
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """Return mean, lower and upper end of Student's interval of at least two values."""
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(student.ppf(0.5 + LEVEL / 2, len(values) - 1)) * spread
    return {"mean": mean, "low": mean - half, "high": mean + half}


def verdict(told: Mapping[str, Any]) -> str:
    """Return in a sentence whether each platform's own network wins there."""
    wins = {platform: faster["low"] > 1 for platform, faster in told["own_faster"].items()}
    if all(wins.values()):
        return "Each network is the faster one on its own platform, with intervals above 1."
    losers = ", ".join(platform for platform, won in wins.items() if not won)
    return f"Not shown: on {losers} the interval of the ratio reaches down to 1 or below."


def page(told: Mapping[str, Any], platforms: Sequence[str]) -> str:
    """Return the table and the verdict as Markdown."""
    rows = [
        [f"adapted to {a}", *(_percent(told["relative"][a][p]) for p in platforms), _percent(told["accuracy"][a])]
        for a in platforms
    ]
    ratios = [_times(told["own_faster"][p]) for p in platforms]
    rows.append(["the other's network over its own", *ratios, ""])
    head = ["", *(f"on {p}, of the original's latency" for p in platforms), "accuracy (test)"]
    return f"{table(head, rows)}\n\n{verdict(told)}"


def _percent(value: Mapping[str, float]) -> str:
    return f"{100 * value['mean']:.1f} % ({100 * value['low']:.1f} to {100 * value['high']:.1f})"


def _times(value: Mapping[str, float]) -> str:
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="2 or more")
    parser.add_argument("--sessions", type=int, default=15)
    parser.add_argument("--first", default=PLATFORMS[0])
    parser.add_argument("--second", default=PLATFORMS[1])
    given = parser.parse_args()
    platforms = (given.first, given.second)
    if given.seeds < 2 or given.first == given.second:
        parser.error(
            "give 2 seeds or more, and two platforms: an interval needs several values, a comparison two sides"
        )
    results = []
    for seed in range(given.seeds):
        for platform in platforms:
            results.append(adapted(config(platform, seed)))
            print(f"seed {seed}, {platform}: accuracy {results[-1]['accuracy']:.4f}", flush=True)
    found = measured({platform: config(platform, 0) for platform in platforms}, results, given.sessions)
    told = summary(found, platforms)
    print(page(told, platforms))
    head = {"setup": SETUP, "budget": BUDGET, "method": METHOD, "epochs": LONG_TERM_EPOCHS, "platforms": platforms}
    values = {**head, "seeds": list(range(given.seeds)), "level": LEVEL, **told, "networks": found}
    print(write(CROSS / processor_here() / f"{SETUP}.json", values | provenance()))


if __name__ == "__main__":
    main()
