"""Writes docs/estimators.md and its plots from what `estimators.py` found; ``python benchmarks/estimators_page.py``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _markdown import table
from _svg import Labels, Point, Series, plot
from estimators import CASES, ESTIMATORS, SIZES, TABLES, UNSEEN

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "estimators.md"
_LABELS = Labels(
    "whole networks measured", "mean error on unseen networks (%)", "networks", tuple(float(size) for size in SIZES)
)
_COLOURS = ("#0f766e", "#d97706", "#6d28d9", "#be123c", "#1d4ed8")
_MUTED = "#94a3b8"
_HEAD = f"""# How well latency is foretold

Error of the estimators on {UNSEEN} networks that they have not seen (widths drawn anew, six fresh sessions each or, in
a noisy hour, up to 18, in one window, drift divided out), against how many networks were measured for them: the
paper's Fig. 4. *network* is the default, fitted to whole networks; *table* is the paper's layer-wise look-up table,
calibrated with 16 whole networks; *sum* is the plain sum of its layers; neither is made where converting one takes
many seconds. *Repeatability* is the mean difference between two halves of the sessions of the truth itself, on this
machine at that hour; the truth, their median, is known about twice as well. *Aims*: with {SIZES[-1]} networks,
MobileNets on onnxruntime and openvino to a mean of 1 %, at worst 4 %, with a bias of at most 0.5 % and a rank
correlation of 0.998 or more; ResNet-20 to a mean of 2 %, others to 2.5 %. Where some are missed and the mean is
within 1.5 times the repeatability, that is said.
Results from before 30 November 2026 are of an estimator without the columns for packed channels, those from before 1
December 2026 of three rounds and six sessions at any hour.
`python benchmarks/estimators.py` repeats it; every prediction beside its measurement lies in
`benchmarks/results/estimators`.
"""
_COLUMNS = ("network", "runtime", "estimator", "networks", "mean error", "worst", "bias", "rank", "built in", "aims")
#: runtimes on which MobileNets are to be foretold best: mean, worst, bias, rank; elsewhere there is an aim for the mean
_BEST, _BEST_AIMS = ("onnxruntime", "openvino"), (0.01, 0.04, 0.005, 0.998)
_RESNET_AIM, _OTHER_AIM, _OF_REPEATABILITY = 0.02, 0.025, 1.5
Found = Mapping[str, Any]


def read(folder: Path) -> list[Found]:
    """Return the results of one processor, in the order of `CASES`."""
    return [json.loads(path.read_text()) for name in CASES if (path := folder / f"{name}.json").is_file()]


def section(processor: str, results: Sequence[Found]) -> str:
    """Return plots and table of one processor."""
    images = [f"![Error of {n} on {processor}](images/{_plot_name(n, processor)})" for n in _by_network(results)]
    told = table(_COLUMNS, [cells for found in results for cells in _rows(found)])
    days = sorted({found["date"][:10] for found in results})
    measured = f"Measured on {', '.join(days)}."
    return "\n".join([f"## {processor}", "", measured, "", *images, "", told]) + "\n"


def _by_network(results: Sequence[Found]) -> dict[str, list[Found]]:
    """Return the results of each network, in the order of its first."""
    found: dict[str, list[Found]] = {}
    for result in results:
        found.setdefault(result["case"].partition("__")[0], []).append(result)
    return found


def _rows(found: Found) -> list[Sequence[str]]:
    network, _, runtime = found["case"].partition("__")
    *few, most = found["network"]
    rows = [_cells("network", told) for told in few] + [_cells("network", most, verdict(network, runtime, most))]
    rows += [_cells(label, found[kind]) for kind, label in TABLES.items() if kind in found]
    rows.append(["*repeatability*", "", _percent(most["repeatability"]), *[""] * 5])
    return [[network, runtime, *cells] for cells in rows]


def verdict(network: str, runtime: str, told: Found) -> str:
    """Say which aims an estimator meets.

    Args:
        network: that was foretold.
        runtime: on which.
        told: of `netadapt.resources.verify.judge`.
    """
    mean_aim, worst_aim, bias_aim, rank_aim = _RESNET_AIM if network == "resnet20" else _OTHER_AIM, 1.0, 1.0, -1.0
    if network != "resnet20" and runtime in _BEST:
        mean_aim, worst_aim, bias_aim, rank_aim = _BEST_AIMS
    missed = {
        "mean": told["mean_error"] > mean_aim,
        "worst": told["worst_error"] > worst_aim,
        "bias": abs(told["bias"]) > bias_aim,
        "rank": told["spearman"] < rank_aim,
    }
    names = ", ".join(name for name, misses in missed.items() if misses)
    if not names:
        return "met"
    near = told["mean_error"] <= _OF_REPEATABILITY * told["repeatability"]
    return f"within {_OF_REPEATABILITY:g} times repeatability; {names} missed" if near else f"**missed**: {names}"


def _cells(label: str, told: Found, aims: str = "") -> list[str]:
    count = told["networks_measured"]
    seconds = told["build_seconds"]
    return [
        label,
        str(count - 1) if count else "0",  # the original is among them
        *(_percent(told[key]) for key in ("mean_error", "worst_error", "bias")),
        f"{told['spearman']:.4f}",
        "" if seconds is None else f"{seconds:.0f} s",
        aims,
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _plot_name(network: str, processor: str) -> str:
    return f"estimators_{network}_on_{processor}.svg"


def plot_of(network: str, processor: str, results: Sequence[Found]) -> str:
    """Return the plot of one network: error against networks measured, a line for each runtime."""
    series = []
    for colour, found in zip(_COLOURS, results, strict=False):
        runtime = found["case"].partition("__")[2]
        points = tuple(_point(told["networks_measured"] - 1, told["mean_error"]) for told in found["network"])
        series.append(Series(runtime, points, colour, joined=True))
        if "table" in found:
            table = (_point(found["table"]["networks_measured"] - 1, found["table"]["mean_error"]),)
            series.append(Series(f"{runtime}, layer table", table, colour, joined=False))
        limit = found["network"][0]["repeatability"]
        ends = (_point(SIZES[0], limit), _point(SIZES[-1], limit))
        series.append(Series(f"{runtime}, repeatability", ends, _MUTED, joined=True))
    return plot(f"{network} on {processor}", series, _LABELS)


def _point(x: float, y: float) -> Point:
    return Point(x, y, y, y)


def main() -> None:
    """Write page and plots of all processors."""
    text = [_HEAD]
    for folder in sorted(path for path in ESTIMATORS.iterdir() if path.is_dir()):
        results = read(folder)
        text.append(section(folder.name, results))
        for network, of_one in _by_network(results).items():
            path = PAGE.parent / "images" / _plot_name(network, folder.name)
            path.write_text(plot_of(network, folder.name, of_one))
    PAGE.write_text("\n".join(text))
    print(PAGE)


if __name__ == "__main__":
    main()
