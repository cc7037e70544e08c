"""Measures the final networks of all finished cells of a set-up in one window of time.

    python benchmarks/together.py mobilenet_v1_tiny_imagenet [--sessions 15]

Each cell was measured beside the original, but hours apart; a wide original is the noisier the more memory it needs,
and its mood goes into every ratio. What is compared is measured together: `summary.py` takes these latencies where
there are some.
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
from starts import model_text, settings
from torch import nn

from netadapt.family import Family
from netadapt.models import resolve_model
from netadapt.platforms import Measurement, StopwatchProtocol, resolve_platform
from netadapt.platforms.stopwatch import measure

TOGETHER = RESULTS / "together"
SESSIONS = 15


def finished(setup: str, places: Places = PLACES) -> list[Cell]:
    """Return the cells of a set-up whose run is at hand and has a result."""
    cells = (cell for cell in CELLS if cell.setup == setup and cell.method in METHODS)
    return [cell for cell in cells if places.result(cell).is_file() and (places.run(cell) / "variants").is_dir()]


def measure_together(cells: Sequence[Cell], sessions: int = SESSIONS, places: Places = PLACES) -> dict[str, Any]:
    """Measure the final networks of some cells of one set-up, interleaved with the start network.

    Args:
        cells: finished ones, at least one.
        sessions: of the stopwatch, per network.
        places: where things lie.

    Returns:
        ``original`` and ``cells`` by name, each with ``latency_ms``, ``half_width_ms``; the cells with ``ratio`` and
        ``ratio_half_width`` too.
    """
    first = cells[0]
    base = settings(places.setup(first), first.seed)
    start, example_inputs = resolve_model(model_text(places.setup(first), first.seed, places.starts))
    networks = [_final(cell, places) for cell in cells]
    with closing(resolve_platform(base.platform.name)) as platform, tempfile.TemporaryDirectory() as name:
        original, *files = (platform.compile(m, example_inputs, Path(name)) for m in (start, *networks))
        protocol = StopwatchProtocol(sessions=sessions, seconds=base.measure.seconds)
        reference, *measured = measure(platform, [original, *files], sentinel=original, protocol=protocol)
    return {
        "original": _numbers(reference),
        "cells": {cell.name: _with_ratio(m) for cell, m in zip(cells, measured, strict=True)},
        "sessions": sessions,
    }


def _final(cell: Cell, places: Places) -> nn.Module:
    """Return the trained network that a cell ended with."""
    start, _ = resolve_model(model_text(places.setup(cell), cell.seed, places.starts))
    return Family.read(places.run(cell)).best.load(start)


def _numbers(measurement: Measurement) -> dict[str, float]:
    return {"latency_ms": measurement.median_ms, "half_width_ms": measurement.half_width_ms}


def _with_ratio(measurement: Measurement) -> dict[str, float]:
    ratio = 1.0 if measurement.ratio is None else measurement.ratio
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
        parser.exit(2, f"no finished cell of {arguments.setup} has its run under {PLACES.runs}\n")
    values = measure_together(cells, arguments.sessions)
    for name, cell in values["cells"].items():
        print(f"{name:<70} {cell['latency_ms']:.3f} ms, ratio {cell['ratio']:.3f} ± {cell['ratio_half_width']:.3f}")
    print(write(TOGETHER / PLACES.results.name / f"{arguments.setup}.json", values | provenance()))


if __name__ == "__main__":
    main()
