"""Runs one cell of the benchmark and writes what it found; called by `bench_next.py`.

A cell is a run of the product like any other: its folder is under ``runs/cells``, and the same call goes on where an
earlier one stopped. Its result is one JSON file, see `result`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _correct import correct, packed
from _record import provenance, write
from cells import PLACES, REFERENCES, Cell, Places, config
from references import reference
from starts import prepare_start, weights_path
from torch import nn

from netadapt.adaptation.adaptation import Adaptation
from netadapt.adaptation.preparation import build_model
from netadapt.cli.running import opened
from netadapt.errors import BudgetError, BudgetUnreachable, Interrupted
from netadapt.family import Family
from netadapt.runs.status import status
from netadapt.training.classification import Classification

LIMIT_S = 40 * 60.0
#: a budget closer to the smallest network's latency than this leaves no room for a difference between methods
FLOOR_FACTOR = 1.5


class TooNearFloor(BudgetError):
    """A budget that the benchmark does not ask for: too close to the latency of the smallest network."""


def run_cell(cell: Cell, places: Places = PLACES, limit_s: float = LIMIT_S) -> Path | None:
    """Run a cell, or what remains of it, and write its result.

    Args:
        cell: which.
        places: where things lie.
        limit_s: seconds after which it stops at the next safe point.

    Returns:
        The file written, also where the budget is refused or cannot be reached; ``None`` if the time was over before
        the end: the same call goes on.

    Raises:
        MeasurementUnusable: the machine is too noisy just now.
        Interrupted: a signal stopped it; the same call goes on.
    """
    deadline = time.monotonic() + limit_s

    def over() -> bool:
        return time.monotonic() > deadline

    try:
        prepare_start(places.setup(cell), places.starts, over)
        no_run = cell.method in REFERENCES
        values = reference(cell, places, over) if no_run else _adapted(cell, places, deadline)
    except (BudgetError, BudgetUnreachable) as error:
        values = {"failure": str(error)}
    except Interrupted:
        if over():
            return None
        raise
    start = weights_path(places.setup(cell), places.starts).name
    return write(places.result(cell), document(cell, values | {"start": start}))


def document(cell: Cell, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a result file: the cell, what was found, and how to repeat it."""
    command = f"python benchmarks/bench_next.py --cell {cell.name}"
    head = {"cell": asdict(cell) | {"name": cell.name}, "seed": cell.seed}
    return head | dict(values) | provenance() | {"command": command}


def _adapted(cell: Cell, places: Places, deadline: float) -> dict[str, Any]:
    """Run the adaptation of a cell and return its result."""
    with opened(config(cell, places)) as adaptation, stopping_at(deadline, adaptation.stop):
        if adaptation.folder.state().start is None:
            check_floor(adaptation.plan())
        return result(adaptation, adaptation.finish())


@contextmanager
def stopping_at(deadline: float, stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at a time of `time.monotonic`, unless the work inside ends before."""
    timer = threading.Timer(max(0.0, deadline - time.monotonic()), stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def check_floor(plan: Mapping[str, Any]) -> None:
    """Print what is reachable, and refuse a budget from which nothing can be learned.

    Args:
        plan: of `Adaptation.plan`.

    Raises:
        TooNearFloor: the budget is under `FLOOR_FACTOR` times the latency of the smallest network.
    """
    initial, budget, floor = (plan[key]["latency"] for key in ("initial", "budget", "floor"))
    told = f"original {initial:.3f} ms, budget {budget:.3f} ms ({budget / initial:.0%})"
    told += f", floor {floor:.3f} ms ({floor / initial:.0%}), noise {plan['noise']:.1%}"
    print(told, flush=True)
    if budget < FLOOR_FACTOR * floor:
        raise TooNearFloor(f"the budget is under {FLOOR_FACTOR} times the floor: {told}")


def result(adaptation: Adaptation, family: Family) -> dict[str, Any]:
    """Return what a finished cell found.

    Args:
        adaptation: finished, still open.
        family: that it found.

    Returns:
        JSON values. ``original`` and ``final`` have ``latency_ms``, ``accuracy`` and ``standard_error`` (test split),
        ``macs``, ``parameters`` and ``correct`` (see `_correct.py`); ``final`` also ``ratio`` with ``ratio_half_width``
        (to the original in the same window of time) and ``widths``. ``training_images`` has the long-term fine-tune in
        it, ``search_images`` has not; ``forward_images`` are only evaluated, re-fitted on or used for statistics.
        ``search`` has the settings of that section: defaults change from one version to the next.
        ``accuracy_before_long_term`` is that of the final network before it was tuned for long, on the test split.
    """
    assert isinstance(adaptation.task, Classification)
    told, state = status(adaptation.folder.path), adaptation.folder.state()
    assert state.start is not None
    assert state.final is not None
    final = family.best.load(build_model(adaptation.config)[0])
    original = _network(told["initial"], state.start["initial"], adaptation.network.model, adaptation.task)
    original["half_width_ms"] = state.start["noise"]["half_width_ms"]
    found = _network(told["final"], state.final, final, adaptation.task)
    found |= {key: told["final"][key] for key in ("ratio", "ratio_half_width", "widths")}
    untuned = adaptation.store.load_variant(f"variants/{state.final['variant']}")
    counted = ("met", "training_images", "search_images", "forward_images", "search_seconds")
    return {
        "failure": None,
        "original": original,
        "final": found,
        "budget_ms": state.start["budget"]["latency"],
        "floor_ms": state.start["floor"]["latency"],
        "accuracy_before_long_term": float(correct(untuned, adaptation.task).mean()),
        "steps": len(state.steps),
        "test_images": len(adaptation.task.test),
        "search": adaptation.config.search.model_dump(mode="json"),
        **{key: told[key] for key in counted},
    }


def _network(
    told: Mapping[str, Any], record: Mapping[str, Any], model: nn.Module, task: Classification
) -> dict[str, Any]:
    """Return the numbers of one network, from the run's status and from the record that has its standard error."""
    numbers = {key: told[key] for key in ("latency_ms", "accuracy", "macs", "parameters")}
    return numbers | {"standard_error": record["accuracy_se"], "correct": packed(correct(model, task))}
