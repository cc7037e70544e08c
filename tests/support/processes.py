"""Whether processes of a test are still there."""

from __future__ import annotations

import time
from pathlib import Path


def gone(pid: int) -> bool:
    """Wait until a process has ended, reaped or not; false if it does not within 20 seconds."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False
