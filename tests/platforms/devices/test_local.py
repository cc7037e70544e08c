"""This machine as a device: others on the core that is measured, and energy from a recorded sensor tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sensor_trees import Board

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.platforms import Artifact, StopwatchProtocol, resolve_platform
from netadapt.platforms.assembled import AssembledPlatform
from netadapt.platforms.devices.local import Local
from netadapt.platforms.devices.session_client import SessionClient
from netadapt.platforms.environment import available_cores
from netadapt.platforms.runtimes.onnxruntime import OnnxRuntime
from netadapt.platforms.stopwatch import measure

HOG = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
print(os.getpid(), flush=True)
while True: pass
"""


@contextmanager
def hog(core: int) -> Iterator[None]:
    """A process that does nothing but use one core; it is nobody's child, so that it counts as another's."""
    command = ["/bin/sh", "-c", 'exec "$0" -c "$1" "$2" &', sys.executable, HOG, str(core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        pid = int(shell.stdout.readline())
        try:
            shell.wait()
            yield
        finally:
            os.kill(pid, signal.SIGKILL)


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


def watched(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sessions draw power."""
    ask = SessionClient.answer

    def answer(client: SessionClient, *arguments: Any, **options: Any) -> dict[str, Any]:
        board.running = True
        try:
            return ask(client, *arguments, **options)
        finally:
            board.running = False

    monkeypatch.setattr(SessionClient, "answer", answer)


def artifact_for(platform: AssembledPlatform, folder: Path) -> Artifact:
    return platform.compile(torch.nn.Linear(64, 64).eval(), torch.zeros(1, 64), folder)


def test_energy_is_the_power_above_idle_times_the_latency(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NETADAPT_SYS", str(tmp_path / "sys"))
    with Board(tmp_path / "sys", load_watts=10.0) as board:
        watched(board, monkeypatch)
        platform = AssembledPlatform(OnnxRuntime(), Local(energy="rapl"))
        try:
            reading = platform.session(artifact_for(platform, tmp_path), seconds=0.01, warmups=1)
        finally:
            platform.close()
    assert reading.energy_mj == pytest.approx(10.0 * np.mean(reading.latency_ms), rel=0.3)
    assert platform.resources == ("latency", "memory", "energy")
    assert platform.name == "local/onnxruntime?threads=1&energy=rapl"
    assert platform.fingerprint()["energy"] == "rapl"
    assert platform.environment()["energy"]["channels"][0] == "package-0 (intel-rapl:0)"


def test_a_sensor_that_does_not_see_the_network_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NETADAPT_SYS", str(tmp_path / "sys"))
    with Board(tmp_path / "sys", load_watts=-3.0) as board:
        watched(board, monkeypatch)
        platform = AssembledPlatform(OnnxRuntime(), Local(energy="rapl"))
        try:
            with pytest.raises(MeasurementUnusable, match="no more power than the idle machine"):
                platform.session(artifact_for(platform, tmp_path), seconds=0.01, warmups=1)
        finally:
            platform.close()


def test_without_a_sensor_there_is_no_energy(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("NETADAPT_SYS", str(tmp_path))
    for word in ("none", "auto"):
        local = Local(energy=word)
        assert local.resources == ("latency", "memory")
        assert AssembledPlatform(OnnxRuntime(), local).name == "local/onnxruntime?threads=1"
    with pytest.raises(PlatformError, match="energy=rapl"):
        Local(energy="rapl")
