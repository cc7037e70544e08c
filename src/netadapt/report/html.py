"""Writes the report: one page that needs no network and runs no script but its own.

Called at the end of a run and by ``netadapt report``. A Content-Security-Policy allows exactly the two scripts of the
page by their hashes, so that nothing a run folder contains can be executed or fetched.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from netadapt.files import write_atomic
from netadapt.report import charts
from netadapt.report.content import metric_word, overview, read_page
from netadapt.report.explanation import HEADERS


def write_report(folders: Sequence[Path], out: Path) -> None:
    """Write the page of one run, or of several side by side.

    Args:
        folders: run folders; the runs may be going on.
        out: the HTML file.

    Raises:
        RunDamaged: a folder is no run, or cannot be trusted.
    """
    write_atomic(Path(out), render(folders).encode())


def render(folders: Sequence[Path]) -> str:
    """Return the page as HTML; see `write_report`."""
    from jinja2 import Environment, StrictUndefined
    from plotly.offline import get_plotlyjs

    pages = [read_page(Path(folder)) for folder in folders]
    scripts = (get_plotlyjs(), _part("page.js"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_part("page.html")).render(
        title=f"netadapt: {', '.join(page.name for page in pages)}",
        policy=_policy(scripts),
        style=_part("page.css"),
        plotly=scripts[0],
        script=scripts[1],
        pages=pages,
        curve=charts.curve([(page.name, page.state) for page in pages]),
        metric=metric_word(pages),
        overview=overview(pages) if len(pages) > 1 else [],
        why_headers=HEADERS,
    )


def _policy(scripts: Sequence[str]) -> str:
    """Return the Content-Security-Policy: nothing is fetched, and only these scripts run."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    rest = "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return f"default-src 'none'; script-src {allowed}; {rest}"


def _part(name: str) -> str:
    """Return a file of this package."""
    return (files("netadapt.report") / name).read_text(encoding="utf-8")
