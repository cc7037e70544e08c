"""``netadapt report``: the page of one run, or of several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.output import result

_SEVERAL = Path("netadapt-report.html")


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")],
    out: Annotated[
        Path | None,
        typer.Option(help=f"The HTML file; by default report.html in the run's folder, {_SEVERAL} for several."),
    ] = None,
) -> None:
    """Write an HTML page about runs.

    The runs may be going on; several are shown side by side.
    """
    from netadapt.report import write_report

    path = out or (runs[0] / "report.html" if len(runs) == 1 else _SEVERAL)
    write_report(runs, path)
    result(str(path))
