"""How commands speak: results on standard output, everything else on standard error; no command ever asks."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


def result(text: str) -> None:
    """Write a result to standard output; what could move the cursor is left out."""
    typer.echo(printable(text))


def result_json(value: Any) -> None:
    """Write JSON to standard output; numbers that are not finite become null."""
    typer.echo(json.dumps(_plain(value), indent=1, allow_nan=False))


def note(text: str) -> None:
    """Write a message to standard error."""
    typer.echo(f"netadapt: {printable(text)}", err=True)


def printable(text: str) -> str:
    """Return ``text`` without control characters: names may come from a folder that somebody else wrote."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")


def on_terminal() -> bool:
    """Tell whether somebody watches standard error."""
    return sys.stderr.isatty()


def _plain(value: Any) -> Any:
    """Return JSON values: tuples as lists, paths as texts, no infinities."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


class _Notes(logging.Handler):
    """Writes the library's log to standard error in the form of our messages."""

    def __init__(self) -> None:
        super().__init__()
        self._last = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, unless it only repeats the last."""
        word = "warning: " if record.levelno >= logging.WARNING else ""
        text = f"{word}{record.getMessage()}"
        if text != self._last:
            note(text)
        self._last = text


@contextmanager
def notes() -> Iterator[None]:
    """Show the library's log on standard error for a while."""
    log, handler = logging.getLogger("netadapt"), _Notes()
    level = log.level
    log.setLevel(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextmanager
def working(quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Show what is being done, with a spinner on a terminal and as plain lines elsewhere.

    Args:
        quiet: say nothing where nobody watches.
    """
    if not on_terminal():
        yield (lambda what: None) if quiet else note
        return
    from rich.console import Console

    with Console(stderr=True).status("starting") as status:
        yield lambda what: status.update(what)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a count as a bar on a terminal; elsewhere nothing."""
    if not on_terminal():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def seconds(amount: float) -> str:
    """Return a time for people, e.g. ``48 s``, ``12 min`` or ``3 h 12 min``."""
    if amount < 90:
        return f"{amount:.0f} s" if amount >= 10 else f"{amount:.1f} s"
    minutes = round(amount / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
