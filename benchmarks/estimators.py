"""How well estimators foretell latency: error on unseen networks against the number of networks measured (Fig. 4).

    python benchmarks/estimators.py [--case NAME ...] [--seed 0]

One result each under results/estimators/PROCESSOR; what has been measured lies in netadapt's cache, so that the same
command goes on. Then: python benchmarks/estimators_page.py
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from _record import RESULTS, processor_here, provenance, write

from netadapt.models import resolve_model
from netadapt.network import trace
from netadapt.platforms import Platform, resolve_platform
from netadapt.resources import LayerTable, Meter, build_estimators
from netadapt.resources.build import CALIBRATION
from netadapt.resources.verify import judge, measure_truth

ESTIMATORS = RESULTS / "estimators"
_NETWORKS = {
    "mobilenet_v1": "mobilenet_v1?resolution=128",
    "mobilenet_v2": "mobilenet_v2?resolution=128",
    "resnet20": "resnet20",
}
_RUNTIMES = ("onnxruntime", "openvino", "ncnn")
_SLOW = ("litert", "executorch")  # they convert every network in full, for many seconds
#: name of a case to network and platform
CASES: Mapping[str, tuple[str, str]] = {
    f"{name}__{runtime}": (_NETWORKS[name], f"local/{runtime}?threads=1")
    for name, runtime in [*itertools.product(_NETWORKS, _RUNTIMES), *(("mobilenet_v1", runtime) for runtime in _SLOW)]
}
SIZES = (10, 20, 40, 80)  # networks measured; a longer design begins with the shorter one
UNSEEN = 40
TABLES = {"table": "table", "layers": "sum"}  # what is judged beside the default, and its name on the page


def case(
    source: str, platform: Platform, seed: int, cache: Path | None = None, *, with_tables: bool = True
) -> dict[str, Any]:
    """Measure the data of all estimators and the truth, and judge them by it.

    Args:
        source: MODEL text.
        platform: where.
        seed: of the unseen networks.
        cache: of the samples; by default netadapt's.
        with_tables: also measure hundreds of single layers.

    Returns:
        ``network`` (one judgement for each of `SIZES`), with tables also ``table`` (the paper's, calibrated with 16
        whole networks) and ``layers`` (the plain sum of its layers), all without ``pairs``; ``pairs`` of the largest;
        ``original_ms``.
    """
    network = trace(*resolve_model(source))
    meter = Meter(network, platform, cache)
    build = partial(build_estimators, network, platform, ["latency"], meter=meter)
    began = time.monotonic()
    # smallest first: an estimator is fitted to all that its meter has measured so far
    models = {size: build(networks=size)["latency"] for size in SIZES if size < CALIBRATION}
    tables = {}
    if with_tables:
        tables["table"] = build(kind="table")["latency"]
        tables["layers"] = LayerTable.measure(network, platform, cache=meter.cache)["latency"]
    models |= {size: build(networks=size)["latency"] for size in SIZES if size >= CALIBRATION}
    print(f"{len(meter.data('latency')[0])} networks after {time.monotonic() - began:.0f} s; now the truth", flush=True)
    truth = measure_truth(meter, UNSEEN, seed)
    judged = {name: judge(network, estimator, truth) for name, estimator in tables.items()}
    by_size = [judge(network, model, truth) for model in models.values()]
    pairs = by_size[-1]["pairs"]
    for told in (*judged.values(), *by_size):
        del told["pairs"]
    return {"network": by_size, **judged, "pairs": pairs, "original_ms": meter.initial["latency"]}


def run(name: str, seed: int) -> Path:
    """Run a case, print it, and write its result."""
    source, platform_name = CASES[name]
    print(f"{name}: {source} on {platform_name}", flush=True)
    with closing(resolve_platform(platform_name)) as platform:
        values = case(source, platform, seed, with_tables=name.partition("__")[2] not in _SLOW)
    for told in values["network"]:
        print(_line(f"{told['networks_measured']} networks", told))
    for kind in TABLES:
        if kind in values:
            print(_line(kind, values[kind]))
    folder = ESTIMATORS / processor_here()
    head = {"case": name, "model": source, "platform": platform_name, "seed": seed}
    return write(folder / f"{name}.json", head | values | provenance())


def _line(label: str, told: Mapping[str, Any]) -> str:
    errors = (told[key] for key in ("mean_error", "worst_error", "bias", "repeatability"))
    mean, worst, bias, repeatability = (f"{100 * value:.2f} %" for value in errors)
    return (
        f"  {label:<12} mean {mean}, worst {worst}, bias {bias}, rank {told['spearman']:.4f}, "
        f"repeatability {repeatability}"
    )


def main() -> None:
    """Run the cases that the command line names, or all that have no result on this processor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = ESTIMATORS / processor_here()
    for name in arguments.case or [name for name in CASES if not (folder / f"{name}.json").is_file()]:
        print(run(name, arguments.seed), flush=True)


if __name__ == "__main__":
    main()
