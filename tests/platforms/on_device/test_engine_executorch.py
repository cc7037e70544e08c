"""executorch's side of a session: its own smallest network runs, and on as many threads as it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from netadapt.platforms import on_device

pytestmark = pytest.mark.needs("executorch")
FOLDER = Path(on_device.__file__).parent
SCRIPT = """
import os, sys
sys.path.insert(0, sys.argv[1])
import engine_executorch
assert engine_executorch.version()
before = len(os.listdir("/proc/self/task"))
run = engine_executorch.open_model(None, int(sys.argv[2]), {})

run()
print(len(os.listdir("/proc/self/task")) - before)
"""


def started_threads(threads: int) -> int:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(FOLDER), str(threads)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    return int(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_one_inference_has_the_threads_that_were_asked_for(threads):
    assert started_threads(threads) == threads - 1
