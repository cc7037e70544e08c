"""The progress of a run on a terminal: a bar from the start to the budget, this iteration, its proposals, the time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from netadapt.budget import format_quantity
from netadapt.cli.output import printable, seconds
from netadapt.cli.progress import Progress
from netadapt.runs.status import groups_text

if TYPE_CHECKING:
    from netadapt.adaptation.store import Listener

#: columns that the numbers around the bar need
_NUMBERS = 62
_PROPOSALS = 6


@contextmanager
def live(progress: Progress) -> Iterator[Listener]:
    """Yield a listener that keeps a picture of the run on standard error; steps stay as lines above it."""
    console = Console(stderr=True)
    with Live(
        get_renderable=lambda: picture(progress, console.width), console=console, refresh_per_second=4, transient=True
    ) as shown:

        def listen(type_: str, data: Mapping[str, Any]) -> None:
            progress.take(type_, data)
            if type_ == "step":
                shown.console.print(Text(_step(progress, data)), soft_wrap=True)

        yield listen


def picture(progress: Progress, columns: int) -> Group:
    """Return what is on the screen now; ``columns`` wide."""
    lines = [_head(progress)]
    if progress.start is not None:
        lines.append(_bar(progress, max(10, min(60, columns - _NUMBERS))))
    if progress.proposals:
        lines.append(_proposals(progress))
    return Group(*(Text(printable(line), no_wrap=True, overflow="ellipsis") for line in lines))


def _head(progress: Progress) -> str:
    left = progress.left_s()
    parts = [
        f"iteration {progress.iteration}" if progress.iteration and progress.doing == "search" else progress.doing,
        f"{progress.done:g} of {progress.total:g}" if progress.total else "",
        f"elapsed {seconds(time.monotonic() - progress.began)}",
        f"search left ~{seconds(left)}" if left is not None and progress.doing == "search" else "",
        f"noise {100 * progress.noise:.1f} %" if progress.noise is not None else "",
        "Ctrl-C stops cleanly",
    ]
    return "   ".join(part for part in parts if part)


def _bar(progress: Progress, length: int) -> str:
    assert progress.start is not None
    assert progress.budget is not None
    assert progress.now is not None
    filled = round(length * progress.share)
    start, budget, now = (
        format_quantity(value, progress.resource) for value in (progress.start, progress.budget, progress.now)
    )
    accuracy = ""
    if progress.accuracy is not None and progress.start_accuracy is not None:
        accuracy = f"   {progress.metric} {100 * progress.accuracy:.1f} % (start {100 * progress.start_accuracy:.1f})"
    return f"{start} |{'#' * filled}{'-' * (length - filled)}| {budget}   now {now}{accuracy}"


def _proposals(progress: Progress) -> str:
    """Show the proposals that were worked on last."""
    worked = [(name, how) for name, how in progress.proposals.items() if how != "waits"]
    waiting = len(progress.proposals) - len(worked)
    texts = [f"{groups_text(name)} {how}" for name, how in worked[-_PROPOSALS:]]
    return "proposals  " + "  ".join([*texts, *([f"({waiting} wait)"] if waiting else [])])


def _step(progress: Progress, data: Mapping[str, Any]) -> str:
    measured = format_quantity(data["measured"][progress.resource], progress.resource)
    named = groups_text(data["group"])
    if named == data["group"]:
        named = ", ".join(f"{name} to {data['widths'].get(name)}" for name in named.split("+"))
    return printable(f"step {data['iteration']:>3}  {measured}  {100 * data['accuracy']:.1f} %  {named}")
