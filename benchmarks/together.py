"""Measures the final networks of all finished cells of a set-up in one window of time.

    python benchmarks/together.py mobilenet_v1_tiny_imagenet [--sessions 15]

Each cell was measured beside the original, but hours apart; a wide original is the noisier the more memory it needs,
and its mood goes into every ratio. What is compared is measured together: `summary.py` takes these latencies where
there are some. The results of the cells hold the widths, and latency depends on nothing else: no run need be at hand.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from _record import RESULTS, provenance, write
from cells import CELLS, METHODS, PLACES, Cell, Places

from netadapt.adaptation.preparation import build_model, structure_of
from netadapt.network import trace
from netadapt.platforms import Measurement, StopwatchProtocol, resolve_platform
from netadapt.platforms.stopwatch import measure
from netadapt.runs.config import load_config
from netadapt.runs.settings import RunConfig

TOGETHER = RESULTS / "together"
SESSIONS = 15


def finished(setup: str, places: Places = PLACES) -> list[Cell]:
    """Return the cells of a set-up that ended with a network, on this kind of processor."""
    cells = (cell for cell in CELLS if cell.setup == setup and cell.method in METHODS)
    return [cell for cell in cells if places.result(cell).is_file() and _widths(cell, places) is not None]


def measure_together(cells: Sequence[Cell], sessions: int = SESSIONS, places: Places = PLACES) -> dict[str, Any]:
    """Measure networks with the widths that some cells of one set-up ended with, interleaved with the start network.

    Args:
        cells: finished ones, at least one.
        sessions: of the stopwatch, per network.
        places: where things lie.

    Returns:
        ``original`` and ``cells`` by name, each with ``latency_ms``, ``half_width_ms``; the cells with ``ratio`` and
        ``ratio_half_width`` too.
    """
    widths = [_widths(cell, places) or {} for cell in cells]
    original, measured = measure_widths(load_config(places.setup(cells[0])), widths, sessions)
    return {
        "original": original,
        "cells": {cell.name: numbers for cell, numbers in zip(cells, measured, strict=True)},
        "sessions": sessions,
    }


def measure_widths(
    base: RunConfig, widths: Sequence[Mapping[str, int]], sessions: int
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Measure networks of some widths in one window of time on the platform of a configuration.

    Args:
        base: of a set-up or of a run; its start network is the original.
        widths: of each network, by group.
        sessions: of the stopwatch, per network.

    Returns:
        ``latency_ms`` and ``half_width_ms`` of the original and of each; of these ``ratio``, ``ratio_half_width`` too.
    """
    model, example_inputs = build_model(base)
    start = structure_of(base, model, example_inputs, None)
    blocks = any(0 in each.values() for each in widths)
    network = trace(start, example_inputs, **base.model.tracing | {"blocks": blocks})
    with closing(resolve_platform(base.platform.name)) as platform, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        original, *files = (platform.compile_widths(network, each, folder) for each in (network.widths, *widths))
        protocol = StopwatchProtocol(sessions=sessions, seconds=base.measure.seconds)
        reference, *measured = measure(platform, [original, *files], sentinel=original, protocol=protocol)
    return _numbers(reference), [_with_ratio(each) for each in measured]


def _widths(cell: Cell, places: Places) -> dict[str, int] | None:
    """Return the widths that a cell ended with; ``None`` if it ended with no network."""
    final = json.loads(places.result(cell).read_text()).get("final")
    widths: dict[str, int] | None = final and final["widths"]
    return widths


def _numbers(measurement: Measurement) -> dict[str, float]:
    return {"latency_ms": measurement.median_ms, "half_width_ms": measurement.half_width_ms}


def _with_ratio(measurement: Measurement) -> dict[str, float]:
    ratio = measurement.sentinel_ratio
    return _numbers(measurement) | {"ratio": ratio, "ratio_half_width": ratio * measurement.relative_half_width}


def read_together(processor: str, folder: Path = TOGETHER) -> dict[str, Any]:
    """Return what was measured together in all set-ups on one kind of processor, by name of the cell."""
    found: dict[str, Any] = {}
    for path in sorted((folder / processor).glob("*.json")):
        found |= json.loads(path.read_text())["cells"]
    return found


def taken_together(documents: Iterable[Mapping[str, Any]], measured: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results of cells with the latencies that were measured together, where they were.

    Args:
        documents: results of cells.
        measured: by name of the cell, as of `measure_together`.
    """
    found = []
    for document in documents:
        together = measured.get(document["cell"]["name"])
        final = document.get("final")
        found.append(dict(document) if together is None else {**document, "final": {**(final or {}), **together}})
    return found


def main() -> None:
    """Measure the set-up named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setup")
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    arguments = parser.parse_args()
    cells = finished(arguments.setup)
    if not cells:
        parser.exit(2, f"no cell of {arguments.setup} has a result under {PLACES.results}\n")
    values = measure_together(cells, arguments.sessions)
    for name, cell in values["cells"].items():
        print(f"{name:<70} {cell['latency_ms']:.3f} ms, ratio {cell['ratio']:.3f} ± {cell['ratio_half_width']:.3f}")
    print(write(TOGETHER / PLACES.results.name / f"{arguments.setup}.json", values | provenance()))


if __name__ == "__main__":
    main()
