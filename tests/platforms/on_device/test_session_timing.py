"""How long a session waited for a core."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path

import pytest

from netadapt.platforms import on_device


@pytest.fixture
def timing(monkeypatch):
    monkeypatch.syspath_prepend(Path(on_device.__file__).parent)
    return importlib.import_module("session_timing")


def test_the_thread_that_waited_most_in_the_window_counts(timing):
    loader, worker = {"1": 2_000_000_000}, {"2": 0}
    assert timing.longest_wait_s(loader | worker, loader | {"2": 1_000_000_000}) == 1.0
    assert timing.longest_wait_s(loader, loader | {"3": 500_000_000}) == 0.5  # began in the window
    assert timing.longest_wait_s(loader | worker, worker) == 0.0  # ended in it
    assert timing.longest_wait_s(None, worker) is timing.longest_wait_s(worker, None) is None


def test_each_thread_of_this_process_is_seen(timing, monkeypatch, tmp_path):
    if not timing.TASKS.is_dir():
        pytest.skip("no /proc here")
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    found = timing.waited_ns()
    stop.set()
    thread.join()
    assert str(thread.native_id) in found and all(value >= 0 for value in found.values())
    monkeypatch.setattr(timing, "TASKS", tmp_path)
    assert timing.waited_ns() is None
