"""One writer per run folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from netadapt.errors import ConfigError
from netadapt.runs.lock import RunLock, holder

HOLD = """
import os, sys, time
from pathlib import Path
from netadapt.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
child = os.fork() if len(sys.argv) > 2 else -1
if child != 0:
    print(child, flush=True)
time.sleep(60)
"""


def start_holder(folder: Path, *more: str) -> tuple[subprocess.Popen, int]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_a_second_writer_is_refused_by_the_first_ones_process_id(tmp_path):
    process, _ = start_holder(tmp_path)
    try:
        with pytest.raises(ConfigError, match=rf"process {process.pid} on {socket.gethostname()}"):
            RunLock(tmp_path)
        assert holder(tmp_path).pid == process.pid
    finally:
        process.kill()
        process.communicate()


def test_a_killed_writer_is_taken_over_at_once_even_if_its_child_lives(tmp_path, caplog):
    process, child = start_holder(tmp_path, "fork")
    try:
        process.kill()
        process.wait()
        assert holder(tmp_path) is None
        with RunLock(tmp_path):
            assert holder(tmp_path).pid == os.getpid()
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()
    assert f"process {process.pid}" in caplog.text


def test_this_process_cannot_lock_twice(tmp_path):
    with RunLock(tmp_path):
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"):
            RunLock(tmp_path)
        assert holder(tmp_path).pid == os.getpid()
        process = subprocess.run(
            [sys.executable, "-c", HOLD, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert "ConfigError" in process.stderr  # asking who holds it did not drop the lock


def test_released_it_is_free_and_says_nothing(tmp_path, caplog):
    lock = RunLock(tmp_path)
    lock.release()
    lock.release()
    assert holder(tmp_path) is None
    RunLock(tmp_path).release()
    assert caplog.text == ""


@pytest.mark.parametrize("content", [b"", b"garbage", b"[1]", b'{"pid": "x"}', b"\xff"])
def test_a_strange_lock_file_stops_nobody(tmp_path, content):
    (tmp_path / "lock").write_bytes(content)
    assert holder(tmp_path) is None
    RunLock(tmp_path).release()


def test_other_hosts_are_believed(tmp_path):
    (tmp_path / "lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "boot": "b", "since": "t"}))
    assert holder(tmp_path).host == "elsewhere"


def test_a_process_of_an_earlier_boot_is_dead(tmp_path):
    (tmp_path / "lock").write_text(
        json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "boot": "old", "since": ""})
    )
    assert holder(tmp_path) is None
