"""Who else is busy: real processes, and recorded ones for what is hard to bring about."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from netadapt.platforms.busy import THRESHOLD, BusyProcess, BusyWatch

LOOP = "import time\nend = time.monotonic() + 20\nwhile time.monotonic() < end: pass"


def record(proc, pid, name, parent, ticks, started=5):
    fields = ["S", parent, *[0] * 9, ticks, 0, *[0] * 6, started, *[0] * 10]
    (proc / str(pid)).mkdir(parents=True, exist_ok=True)
    (proc / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(map(str, fields))}\n")


@pytest.fixture
def hundred(monkeypatch):
    monkeypatch.setattr("netadapt.platforms.busy._ticks_per_second", lambda: 100)


@pytest.mark.usefixtures("hundred")
def test_those_above_a_tenth_of_a_core_are_named(tmp_path):
    for pid, name in [(2, "idle"), (3, "a (b) c"), (4, "light"), (10, "netadapt"), (11, "session"), (12, "grandchild")]:
        record(tmp_path, pid, name, {11: 10, 12: 11}.get(pid, 1), 1000)
    watch = BusyWatch(tmp_path, own=10)
    record(tmp_path, 3, "a (b) c", 1, 1000 + 150)
    record(tmp_path, 4, "light", 1, 1000 + int(100 * 2 * THRESHOLD) - 2)
    for pid, parent in [(10, 1), (11, 10), (12, 11)]:
        record(tmp_path, pid, "ours", parent, 2000)
    record(tmp_path, 20, "new", 1, 60)
    assert watch.others(seconds=2.0) == [BusyProcess("a (b) c", 0.75), BusyProcess("new", 0.3)]


@pytest.mark.usefixtures("hundred")
def test_a_number_that_was_given_again_counts_from_zero(tmp_path):
    record(tmp_path, 7, "old", 1, 5000)
    watch = BusyWatch(tmp_path, own=1000)
    record(tmp_path, 7, "young", 1, 50, started=99)
    assert watch.others(seconds=1.0) == [BusyProcess("young", 0.5)]


def test_without_proc_nothing_is_known(tmp_path):
    assert BusyWatch(tmp_path / "missing").others() == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are read from /proc")
def test_a_real_loop_is_seen_unless_it_is_ours():
    loop = subprocess.Popen([sys.executable, "-c", LOOP])
    try:
        watch, ours = BusyWatch(own=-1), BusyWatch()
        time.sleep(2.0)
        seen = watch.others()
        assert any("python" in process.name for process in seen)
        assert all(process.cores >= THRESHOLD for process in seen)
        assert len(ours.others()) < len(seen)
    finally:
        loop.kill()
        loop.wait()
