"""Waiting for what other processes do, and whether those of a test are still there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def until(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    """Wait until a condition holds; false if it does not within ``seconds``.

    The condition is not asked again once it held: what other processes do may hold for a moment only.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def gone(pid: int) -> bool:
    """Wait until a process has ended, reaped or not; false if it does not within 20 seconds."""
    return until(lambda: not _alive(pid), 20)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
