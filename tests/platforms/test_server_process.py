"""A served process: what it says, how it ends, and who outlives whom; the scripts here are small real ones."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time

import pytest
from processes import gone

from netadapt.platforms.server_process import ServerProcess

ECHO = """
import os, sys
print("started with", sys.argv[1], os.environ["WORD"], file=sys.stderr, flush=True)
while chunk := os.read(0, 1 << 16):
    if chunk == b"die": sys.exit(3)
    os.write(1, chunk)
"""
#: takes half a second to end by itself, and then says so
SLOW = """
import os, time
from pathlib import Path
os.write(1, b"ready")
while os.read(0, 1): pass
time.sleep(0.5)
Path(__file__).with_name("farewell").touch()
"""
STUBBORN = "import os, time\nos.write(1, b'ready')\nwhile True: time.sleep(1)"


@pytest.fixture
def server(tmp_path):
    made = []

    def start(body=ECHO, patience_s=5.0):
        script = tmp_path / "server.py"
        script.write_text(body)
        made.append(ServerProcess(script, "an-argument", environment={"WORD": "a-word"}, patience_s=patience_s))
        made[-1].start()
        return made[-1]

    yield start
    for one in made:
        one.close()


def soon():
    return time.monotonic() + 30


def test_it_answers_and_tells_what_it_wrote_beside(server):
    process = server()
    process.write(b"hello")
    assert process.read(100, soon()) == b"hello"
    assert process.alive
    assert process.tail() == "started with an-argument a-word"


def test_what_is_larger_than_a_pipe_is_sent_whole(server):
    process = server("import os, sys\ndata = sys.stdin.buffer.read(1 << 22)\nos.write(1, str(len(data)).encode())")
    process.write(b"x" * (1 << 22))
    assert process.read(100, soon()) == str(1 << 22).encode()


def test_silence_ends_with_the_deadline(server):
    with pytest.raises(TimeoutError):
        server().read(1, time.monotonic() + 0.05)


def test_a_dead_one_is_told_and_another_can_be_started(server):
    process = server()
    process.write(b"die")
    with pytest.raises(EOFError):
        process.read(1, soon())
    assert process.status(limit_s=10) == 3
    assert not process.alive
    with pytest.raises(BrokenPipeError):
        process.write(b"hello")
    first = process.pid
    process.start()
    assert process.alive and process.pid != first


@pytest.mark.parametrize(
    ("body", "patience_s", "says"), [(SLOW, 60.0, True), (SLOW, 0.05, False), (STUBBORN, 0.2, False)]
)
def test_closing_lets_it_end_by_itself_as_long_as_the_patience_lasts(server, tmp_path, body, patience_s, says):
    process = server(body, patience_s)
    pid = process.pid
    assert process.read(100, soon()) == b"ready"
    process.close()
    process.close()
    assert gone(pid)
    assert (tmp_path / "farewell").is_file() is says
    assert (process.pid, process.alive, process.tail(), process.status(1.0)) == (None, False, "", None)


def test_killing_waits_for_nothing(server):
    process = server(STUBBORN, patience_s=3600.0)
    pid = process.pid
    process.kill()
    assert gone(pid)


def test_garbage_collection_ends_it(tmp_path):
    """One that takes no notice of the end of its input, which the collected pipes are anyway."""
    (tmp_path / "server.py").write_text(STUBBORN)
    process = ServerProcess(tmp_path / "server.py", "x", environment={"WORD": ""}, patience_s=0.05)
    process.start()
    pid = process.pid
    assert process.read(100, soon()) == b"ready"
    del process
    gc.collect()
    ended = gone(pid)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    assert ended


FORKED = """
import gc, os, signal, sys, time
from pathlib import Path
from netadapt.platforms.server_process import ServerProcess
process = ServerProcess(Path(sys.argv[1]), "x", environment={"WORD": ""}, patience_s=0.05)
process.start()
lock = process._process._waitpid_lock
for leave in ("process.close()", "process.kill()", "del process; gc.collect()", "pass"):
    # As if another thread asked for its status in the moment of the fork: the copy never learns that it is no parent.
    lock.acquire()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        assert not process.alive
        exec(leave)
        sys.exit()
    lock.release()
    status = os.waitpid(child, 0)[1]
    process.write(b"still here")
    assert process.read(100, time.monotonic() + 30) == b"still here", leave
    assert status == 0, (leave, status)
"""


def test_a_forked_copy_of_the_owner_leaves_it_alone(tmp_path):
    (tmp_path / "server.py").write_text(ECHO)
    command = [sys.executable, "-c", FORKED, str(tmp_path / "server.py")]
    owner = subprocess.run(command, capture_output=True, timeout=280, check=False)
    assert owner.returncode == 0, owner.stderr.decode()


OWNER = """
import sys
from pathlib import Path
from netadapt.platforms.server_process import ServerProcess
process = ServerProcess(Path(sys.argv[1]), "x", environment={"WORD": ""}, patience_s=5.0)
process.start()
print(process.pid, flush=True)
sys.stdin.read()
"""


def test_its_input_ends_with_the_owner(server, tmp_path):
    script = tmp_path / "server.py"
    script.write_text(ECHO)
    command = [sys.executable, "-c", OWNER, str(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
    assert gone(pid)
