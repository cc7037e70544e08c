"""Programs that hang, flood, die and leave children behind."""

from __future__ import annotations

import os
import sys

import pytest
from processes import gone

from netadapt.platforms.devices.program import run_program


def run(source, **how):
    return run_program([sys.executable, "-c", source], **({"limit_s": 30.0, "most_bytes": 10_000} | how))


def test_what_it_says_and_how_it_ends():
    outcome = run("import sys; print('a'); print('b', file=sys.stderr); sys.exit(7)")
    assert (outcome.output, outcome.tail, outcome.status, outcome.ended) == (b"a\n", "b", 7, "by itself")
    assert run("import os; os.kill(os.getpid(), 9)").status == -9


def test_much_input_and_much_output_at_once():
    data = os.urandom(3_000_000)
    outcome = run("import sys, shutil; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)", stdin=data,
                  most_bytes=len(data))  # fmt: skip
    assert outcome.output == data


def test_input_that_nobody_reads():
    outcome = run("print('done')", stdin=bytes(3_000_000))
    assert (outcome.output, outcome.status) == (b"done\n", 0)


@pytest.mark.parametrize("hold", [True, False])
def test_input_is_held_open_if_asked(hold):
    outcome = run("import select; print(bool(select.select([0], [], [], 1.0)[0]))", hold_stdin=hold)
    assert outcome.output == (b"False\n" if hold else b"True\n")


def test_a_hanging_program_is_ended_with_its_children():
    source = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(600)"
    )
    outcome = run(source, limit_s=1.5)
    assert outcome.ended == "too slow"
    assert gone(int(outcome.output))


def test_a_program_that_closes_its_output_and_hangs_is_ended():
    assert run("import os, time; os.close(1); os.close(2); time.sleep(600)", limit_s=1.0).ended == "too slow"


def test_a_flood_is_stopped():
    outcome = run("while True: print('x' * 1000)")
    assert outcome.ended == "too much"
    assert len(outcome.output) == 10_000


def test_a_flood_of_errors_keeps_the_end_only():
    outcome = run("import sys\nfor i in range(100_000): print('line', i, file=sys.stderr)")
    assert outcome.tail.endswith("line 99999")
    assert len(outcome.tail) <= 2000


def test_environment_folder_and_no_shell(tmp_path):
    source = "import os, sys; print(os.environ['HERE'], os.getcwd(), sys.argv[1])"
    outcome = run_program(
        [sys.executable, "-c", source, "$HOME; ls"],
        limit_s=30,
        most_bytes=1000,
        environment={"HERE": "yes"},
        folder=tmp_path,
    )
    assert outcome.output.decode().strip() == f"yes {tmp_path} $HOME; ls"


def test_what_cannot_be_started_is_the_callers_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        run_program([str(tmp_path / "missing")], limit_s=1, most_bytes=1)
