from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from _isolated import Limits, isolated


def test_a_result_comes_back_with_what_it_cost():
    told = isolated(lambda: {"process": os.getpid()}, Limits())
    assert told["process"] != os.getpid()
    assert told["peak_mb"] > 1
    assert told["processor_s"] >= 0


def hungry():
    memory = []
    while True:
        memory.append(b"x" * 20_000_000)
        time.sleep(0.02)


def crash():
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda: {}["no such key"], r"KeyError: 'no such key' at test_isolated.py:\d+"),
        (lambda: {"not": float("nan")}, "ended with code 1"),
        (crash, "killed by signal 15"),
    ],
)
def test_a_crash_is_a_result(work, message, capfd):
    assert re.fullmatch(message, isolated(work, Limits())["failure"])
    assert capfd.readouterr() == ("", "")


def test_a_child_that_wants_too_much_memory_is_ended():
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    limits = Limits(memory_mb=before + 500)
    assert "GB of memory" in isolated(hungry, limits)["failure"]


def spin():
    while True:
        pass


def test_a_child_that_never_ends_is_ended():
    assert isolated(spin, Limits(processor_s=1))["failure"] == "needs more than 1 s of processor time"
