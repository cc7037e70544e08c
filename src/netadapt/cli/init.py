"""``netadapt init``: write a commented configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from netadapt.cli.output import result
from netadapt.errors import ConfigError


def command(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where to.")] = Path("netadapt.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a commented configuration."""
    from netadapt.files import write_atomic
    from netadapt.runs.template import template

    if path.exists() and not force:
        raise ConfigError(f"{path} exists already; give another path, or --force to replace it.")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is not a folder; make it first, or give another path.")
    write_atomic(path, template().encode())
    result(f"{path} written; edit it, then: netadapt run {path}")
