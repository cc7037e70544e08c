"""Run the most valuable cell of the benchmark that has no result yet; at most 40 minutes, the same command goes on.

    python benchmarks/bench_next.py [--list | --cell NAME]

Results are written to benchmarks/results/cells, run folders to runs/cells. Then: python benchmarks/summary.py
"""

from __future__ import annotations

import argparse
import sys

from cells import CELLS, PLACES, Cell, missing, supported

from netadapt.errors import NetAdaptError


def listing() -> str:
    """Return one line for each cell: done, missing, or not known to this netadapt."""
    return "\n".join(f"{_state(cell):<8} {cell.name}" for cell in CELLS)


def _state(cell: Cell) -> str:
    if PLACES.result(cell).is_file():
        return "done"
    if not supported(cell):
        return "unknown"
    return "begun" if PLACES.run(cell).is_dir() else "missing"


def find(name: str) -> Cell:
    """Return a cell by its name.

    Raises:
        SystemExit: there is none.
    """
    for cell in CELLS:
        if cell.name == name:
            return cell
    raise SystemExit(f'there is no cell "{name}"; see: python benchmarks/bench_next.py --list')


def run(cell: Cell) -> int:
    """Run a cell, say what comes of it, and return the exit code."""
    from run_cell import run_cell

    print(f"cell {cell.name}: {cell.method} on {cell.setup}, budget {cell.budget}, seed {cell.seed}", flush=True)
    try:
        path = run_cell(cell)
    except NetAdaptError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    print(f"written to {path}" if path else "the time of a cell is over; the same command goes on")
    return 0


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="list all cells and what is known of them, run nothing")
    parser.add_argument("--cell", metavar="NAME", help="run this one, also where it has a result")
    given = parser.parse_args()
    if given.list:
        print(listing())
        return 0
    cell = find(given.cell) if given.cell else next(missing(), None)
    if cell is None:
        print("every cell has a result")
        return 0
    return run(cell)


if __name__ == "__main__":
    sys.exit(main())
