"""This machine as a device: what it does when others use the core that is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from netadapt.platforms import StopwatchProtocol, resolve_platform
from netadapt.platforms.environment import available_cores
from netadapt.platforms.stopwatch import measure

HOG = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint('on', flush=True)\nwhile True: pass"


@contextmanager
def hog(core: int) -> Iterator[None]:
    """A process that does nothing but use one core."""
    with subprocess.Popen([sys.executable, "-c", HOG, str(core)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to cores here")
def test_a_hog_on_the_measured_core_cannot_pass_for_a_stable_measurement(tmp_path) -> None:
    """Every session is slowed down alike, so that their agreement alone would call it stable and be wrong."""
    platform = resolve_platform("onnxruntime")
    protocol = StopwatchProtocol(sessions=5, seconds=0.1)
    try:
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3)).eval()
        artifact = platform.compile(model, torch.zeros(1, 3, 48, 48), tmp_path)
        (quiet,) = measure(platform, [artifact], protocol=protocol)
        with hog(available_cores()[-1]):
            (disturbed,) = measure(platform, [artifact], protocol=protocol)
    finally:
        platform.close()
    error = abs(disturbed.median_ms / quiet.median_ms - 1)
    assert disturbed.verdict != "stable" or error < 0.1
    assert disturbed.environment["waited"] > 0.05
    assert any("python" in process["name"] for process in disturbed.environment["busy"])
