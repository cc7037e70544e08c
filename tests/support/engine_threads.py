"""Counts the threads that a runtime's engine starts for an inference, in a process of its own, as a session is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from netadapt.platforms import on_device

SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from session_timing import engine_of
engine = engine_of(sys.argv[2])
assert engine.version()
before = len(os.listdir("/proc/self/task"))
run = engine.open_model(None, int(sys.argv[3]), {})

run()
print(len(os.listdir("/proc/self/task")) - before)
"""


def started_threads(runtime: str, threads: int) -> int:
    """Return how many threads the smallest network of ``runtime`` started when it was given ``threads``."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(Path(on_device.__file__).parent), runtime, str(threads)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    return int(done.stdout.splitlines()[-1])
