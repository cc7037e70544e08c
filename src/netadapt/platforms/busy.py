"""Which other programs kept this machine busy while something was timed; `stopwatch.py` asks before and after.

Reads ``/proc`` only; where there is none, nothing is known and nothing is said. Names are those of the programs, never
their arguments, which may hold secrets.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

THRESHOLD = 0.10  #: of a core, above which a process counts as busy


@dataclass(frozen=True)
class _Process:
    name: str
    parent: int
    started: int
    ticks: int


@dataclass(frozen=True)
class BusyProcess:
    """A process of others that used this machine.

    Attributes:
        name: of its program.
        cores: processor time per time, 1 for one core fully used.
    """

    name: str
    cores: float


class BusyWatch:
    """Watches from its making until `others` is called.

    A process that both began and ended in between is not seen.

    Args:
        proc: the file system of processes; recorded ones are read in tests.
        own: process whose own time, and that of its descendants, does not count; this one by default.
    """

    def __init__(self, proc: Path = Path("/proc"), own: int | None = None) -> None:
        self._proc, self._own = proc, os.getpid() if own is None else own
        self._began, self._before = time.monotonic(), _processes(proc)

    def others(self, seconds: float | None = None) -> list[BusyProcess]:
        """Return the busy processes since this watch was made, the busiest first.

        Args:
            seconds: how long that is; measured by default.
        """
        now = _processes(self._proc)
        elapsed = time.monotonic() - self._began if seconds is None else seconds
        ours = _family(now, self._own)
        found = []
        for pid, process in now.items():
            if pid in ours:
                continue
            earlier = self._before.get(pid)
            known = earlier is not None and earlier.started == process.started
            ticks = process.ticks - (earlier.ticks if known and earlier is not None else 0)
            cores = ticks / _ticks_per_second() / max(elapsed, 1e-9)
            if cores >= THRESHOLD:
                found.append(BusyProcess(process.name, round(cores, 2)))
        return sorted(found, key=lambda process: -process.cores)


def _ticks_per_second() -> int:
    return int(os.sysconf("SC_CLK_TCK"))


def _processes(proc: Path) -> dict[int, _Process]:
    """Return all processes that can be seen."""
    found = {}
    for folder in proc.glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text(errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        # the name stands in brackets and may itself hold brackets and blanks
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        if len(fields) > 19:
            ticks = int(fields[11]) + int(fields[12])
            found[int(folder.name)] = _Process(name, int(fields[1]), int(fields[19]), ticks)
    return found


def _family(processes: Mapping[int, _Process], own: int) -> set[int]:
    """Return a process and its descendants."""
    ours = {own}
    while more := {pid for pid, process in processes.items() if process.parent in ours} - ours:
        ours |= more
    return ours
