"""executorch's side of a session: its own smallest network runs, and on as many threads as it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_threads import started_threads

pytestmark = pytest.mark.needs("executorch")


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_one_inference_has_the_threads_that_were_asked_for(threads):
    assert started_threads("executorch", threads) == threads - 1
