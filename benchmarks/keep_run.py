"""Keep what a finished run shows: python benchmarks/keep_run.py RUN...

Copies curve.csv, report.html, config.toml and environment.json of each run, and its status as JSON, to
benchmarks/results/runs/NAME. Weights stay behind: the configuration makes them again. Where this machine keeps its data
is written as ${NETADAPT_DATA} again.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from netadapt.runs.status import status

RESULTS = Path(__file__).parent / "results" / "runs"
FILES = ("curve.csv", "report.html", "config.toml", "environment.json")


def keep(run: Path) -> Path:
    """Copy the small files of ``run`` and return where they lie now."""
    place = RESULTS / run.resolve().name
    place.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (place / name).write_text(portable((run / name).read_text()))
    found = status(run) | {"running": None}
    (place / "status.json").write_text(portable(json.dumps(found, indent=1)) + "\n")
    return place


def portable(text: str) -> str:
    """Return ``text`` without the place of the data on this machine."""
    data = os.environ.get("NETADAPT_DATA")
    for place in (str(Path(data).resolve()), data) if data else ():
        text = text.replace(place, "${NETADAPT_DATA}")
    return text


def main() -> None:
    """Keep the runs named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for run in parser.parse_args().runs:
        print(keep(run))


if __name__ == "__main__":
    main()
