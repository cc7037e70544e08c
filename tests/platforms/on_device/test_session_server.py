"""The server as a program: what it imports, and what it says on its pipes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netadapt.platforms import on_device

SERVER = Path(on_device.__file__).with_name("session_server.py")
FORBIDDEN = """
import runpy, sys
sys.argv = [sys.argv[1], "onnxruntime"]
runpy.run_path(sys.argv[0], run_name="__main__")
print([name for name in ("torch", "netadapt", "onnx", "scipy") if name in sys.modules], file=sys.stderr)
"""


def test_it_imports_the_runtime_only():
    done = subprocess.run(
        [sys.executable, "-P", "-c", FORBIDDEN, str(SERVER)], input="", capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout).keys() == {"version"}
    assert done.stderr.strip().splitlines()[-1] == "[]"


def test_it_answers_one_line_per_request_and_ends_with_its_input(tmp_path):
    request = {"model": str(tmp_path / "missing.onnx"), "seconds": 0.01, "warmups": 1}
    request |= {"threads": 1, "cores": [], "limit_s": 20, "options": {}}
    done = subprocess.Popen(
        [sys.executable, "-P", str(SERVER), "onnxruntime"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    done.stdout.readline()
    for _ in range(2):
        done.stdin.write(json.dumps(request) + "\n")
        done.stdin.flush()
        answer = json.loads(done.stdout.readline())
        assert "NO_SUCHFILE" in answer["error"].upper().replace(" ", "_")
    done.communicate()
    assert done.returncode == 0


@pytest.fixture
def server(monkeypatch):
    monkeypatch.syspath_prepend(SERVER.parent)
    return importlib.import_module("session_server")


def test_an_empty_runtime_that_failed_is_measured_again(server, monkeypatch):
    answers = [{"timeout": 1.0}, {"peak_bytes": 5_000_000}, {"peak_bytes": 7_000_000}]
    monkeypatch.setattr(server, "fork_session", lambda request, parent, recorder=None: answers.pop(0))
    request, empty = {"threads": 1, "options": {}}, {}
    assert server.respond(request, empty, 1)["memory_mb"] == 2.0
    answers += [{"timeout": 1.0}, {"timeout": 1.0}, {"peak_bytes": 7_000_000}, {"peak_bytes": 7_000_000}]
    other = {"threads": 2, "options": {}}
    assert all("memory_mb" not in server.respond(other, empty, 1) for _ in range(2))  # it is not tried for ever
    answers.append({"peak_bytes": 4_000_000})
    assert server.respond(request, empty, 1)["memory_mb"] == 0.001  # above 0: resources are compared by ratios
