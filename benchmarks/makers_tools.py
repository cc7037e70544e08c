"""Our latency of a file beside that of its runtime's own benchmark program, in turn.

    python benchmarks/makers_tools.py [--rounds 5] [--model MODEL]

openvino's `benchmark_app` and litert's `benchmark_litert_model`, both with one thread, on the file that the platform
makes. Written to results/makers_tools/PROCESSOR.json.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from _record import RESULTS, processor_here, provenance, write

from netadapt.models import resolve_model
from netadapt.platforms import Artifact, StopwatchProtocol, resolve_platform
from netadapt.platforms.lock import measuring_lock
from netadapt.platforms.stopwatch import measure

MODEL = "mobilenet_v1?resolution=224"  # litert's program gives hundredths of a millisecond: the network must take some
_SECONDS = 2  # per run of a program
_PROTOCOL = StopwatchProtocol(sessions=5, seconds=0.4)


def benchmark_app(file: Path) -> float:
    """Return the median latency in ms that openvino's program prints."""
    options = ["-d", "CPU", "-api", "sync", "-hint", "none", "-nstreams", "1", "-nthreads", "1"]
    options += ["-infer_precision", "f32", "-t", str(_SECONDS)]
    # without the package that reports home, as in our own sessions
    program = (
        "import sys; sys.modules['openvino_telemetry'] = None; from openvino.tools.benchmark.main import main; main()"
    )
    return printed_median(_output([sys.executable, "-c", program, "-m", str(file), *options]))


def printed_median(output: str) -> float:
    """Return the median, in ms, in what openvino's program prints.

    Raises:
        ValueError: there is none.
    """
    found = re.search(r"Median:\s*([0-9.]+)\s*(us|ms)", output)
    if found is None:
        raise ValueError(f"benchmark_app printed no median: {output[-2000:]}")
    return float(found[1]) / (1000 if found[2] == "us" else 1)


def benchmark_litert_model(file: Path) -> float:
    """Return the median latency in ms that litert's program writes."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model", f"--model={file}"]
        _output([*command, "--num_threads=1", "--num_runs=200", "--warmup_runs=10", f"--result_json={result}"])
        return written_median(json.loads(result.read_text()))


def written_median(document: Any) -> float:
    """Return the only ``median_ms`` in what litert's program writes, wherever it stands.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = list(_all(document, "median_ms"))
    if len(found) != 1:
        raise ValueError(f"benchmark_litert_model wrote {len(found)} medians: {document}")
    return float(found[0])


def _all(document: Any, key: str) -> list[Any]:
    if not isinstance(document, Mapping):
        return []
    return [document[key]] if key in document else [v for inner in document.values() for v in _all(inner, key)]


TOOLS: Mapping[str, Callable[[Path], float]] = {"openvino": benchmark_app, "litert": benchmark_litert_model}


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{command[:4]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def compare(runtime: str, model: str, rounds: int) -> dict[str, Any]:
    """Measure one file with both, in turn.

    Returns:
        ``ours_ms`` and ``theirs_ms`` of each round, ``ratio`` (median of ours over median of theirs) and
        ``ratio_low``, ``ratio_high`` (of single rounds).
    """
    network, example_inputs = resolve_model(model)
    ours, theirs = [], []
    with closing(resolve_platform(f"local/{runtime}?threads=1")) as platform, tempfile.TemporaryDirectory() as folder:
        artifact: Artifact = platform.compile(network, example_inputs, Path(folder))
        for number in range(rounds):
            ours.append(measure(platform, [artifact], protocol=_PROTOCOL, seed=number)[0].median_ms)
            with measuring_lock.hold(platform.name):
                theirs.append(TOOLS[runtime](artifact.path))
    singles = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    ratio = median(ours) / median(theirs)
    return {"ours_ms": ours, "theirs_ms": theirs, "ratio": ratio, "ratio_low": singles[0], "ratio_high": singles[-1]}


def main() -> None:
    """Compare on both runtimes, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=MODEL)
    arguments = parser.parse_args()
    found = {runtime: compare(runtime, arguments.model, arguments.rounds) for runtime in TOOLS}
    for runtime, told in found.items():
        spread = f"single rounds {told['ratio_low']:.3f} to {told['ratio_high']:.3f}"
        ours, theirs = median(told["ours_ms"]), median(told["theirs_ms"])
        print(f"{runtime}: ours {ours:.3f} ms, theirs {theirs:.3f} ms, ratio {told['ratio']:.3f} ({spread})")
    path = RESULTS / "makers_tools" / f"{processor_here()}.json"
    print(write(path, {"model": arguments.model, "values": found, "seed": 0} | provenance()))


if __name__ == "__main__":
    main()
