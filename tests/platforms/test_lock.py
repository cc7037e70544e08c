"""The measuring lock: between processes, threads and forks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from netadapt.errors import MeasurementUnusable
from netadapt.platforms.lock import MeasuringLock, lock_path

HOLDER = """
import sys
from pathlib import Path
from netadapt.platforms.lock import MeasuringLock
with MeasuringLock(Path(sys.argv[1])).hold("the other run"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def other(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_waits_and_is_told_who_holds_it(path, other):
    lock = MeasuringLock(path)
    message = rf"process {other.pid} \(the other run\)"
    with pytest.raises(MeasurementUnusable, match=message), lock.hold("x", limit_s=0.2):
        pass
    assert lock.holder()["pid"] == other.pid
    assert lock.holder()["what"] == "the other run"


def test_a_killed_holder_frees_it(path, other):
    other.kill()
    other.wait()
    with MeasuringLock(path).hold("x", limit_s=5):
        pass


def test_reentrant_and_released_once(path):
    lock, second = MeasuringLock(path), MeasuringLock(path)
    with lock.hold("outer"):
        with lock.hold("inner"):
            assert lock.holder()["what"] == "outer"
        assert second.holder()["pid"] == os.getpid()
    assert second.holder() is None


def test_released_after_an_error(path):
    lock = MeasuringLock(path)
    with pytest.raises(KeyError), lock.hold("x"):
        raise KeyError
    assert lock.holder() is None


def test_threads_exclude_each_other(path):
    lock = MeasuringLock(path)
    inside, worst = [], []

    def work():
        for _ in range(20):
            with lock.hold("x"):
                inside.append(1)
                worst.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(worst) == 1


def test_another_thread_gives_up_in_time(path):
    lock = MeasuringLock(path)
    errors = []

    def work():
        try:
            with lock.hold("x", limit_s=0.1):
                pass
        except MeasurementUnusable as error:
            errors.append(str(error))

    with lock.hold("x"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "another thread" in errors[0]


def test_a_forked_child_has_not_got_it(path):
    lock = MeasuringLock(path)
    with lock.hold("parent"):
        pid = os.fork()
        if pid == 0:
            try:
                with lock.hold("child", limit_s=0.1):
                    os._exit(1)
            except MeasurementUnusable:
                os._exit(0)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_training_pauses_only_for_others(path, other):
    lock = MeasuringLock(path)
    waited = threading.Event()
    thread = threading.Thread(target=lambda: (lock.pause_while_measuring(limit_s=30), waited.set()))
    thread.start()
    assert not waited.wait(0.3)
    other.communicate("")
    assert waited.wait(20)
    thread.join()
    with lock.hold("x"):
        lock.pause_while_measuring()


def test_links_are_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(OSError), MeasuringLock(tmp_path / "lock").hold("x"):
        pass
    assert victim.read_text() == "precious"


def test_a_file_that_we_may_only_read_can_be_locked(path):
    path.write_text("")
    path.chmod(0o444)
    with MeasuringLock(path).hold("x"):
        assert MeasuringLock(path).holder() is not None


def test_the_path_is_the_same_for_all_users(monkeypatch, tmp_path):
    before = lock_path()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert lock_path() == before
