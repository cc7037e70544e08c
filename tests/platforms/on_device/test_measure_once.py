"""The archive as a program: what it imports, what it answers, and whom it waits for."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import sys

import pytest

from netadapt.platforms.devices.archive import script_archive

PRINT_MODULES = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print([name for name in ("torch", "netadapt", "onnx", "scipy", "pydantic") if name in sys.modules], file=sys.stderr)
"""


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "scripts.pyz"
    path.write_bytes(script_archive())
    return path


def start(archive, home, *prefix):
    return subprocess.Popen(
        [sys.executable, *prefix, str(archive)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"HOME": str(home)},
    )


def ask(archive, request, content=b"", prefix=()):
    """Ask with the input held open until the answer is there, as a host does."""
    process = start(archive, archive.parent, *prefix)
    process.stdin.write(json.dumps(request).encode() + b"\n" + content)
    process.stdin.flush()
    answer = process.stdout.read()
    _, errors = process.communicate()
    return (json.loads(answer) if answer else {}), errors.decode()


def request_of(sha256, **more):
    settings = {"runtime": "onnxruntime", "options": {}, "seconds": 0.02, "warmups": 1, "threads": 1, "limit_s": 60.0}
    return {
        "do": "measure",
        "files": [[sha256, ".onnx"]],
        "wait_s": 0.2,
        "shared": False,
        "energy": "none",
        **settings,
        **more,
    }


def test_identify_says_what_this_is(archive):
    answer, _ = ask(
        archive, {"do": "identify", "runtime": "onnxruntime", "packages": ["numpy", "no-such"], "energy": "none"}
    )
    import onnxruntime

    assert answer["version"] == onnxruntime.__version__
    assert answer["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert answer["machine"]["memory_mb"] > 100
    assert answer["machine"]["architecture"] == os.uname().machine
    assert answer["state"]["versions"]["no-such"] == "not installed"


def test_it_imports_the_runtime_only(archive):
    request = {"do": "identify", "runtime": "onnxruntime", "packages": [], "energy": "none"}
    answer, errors = ask(archive, request, prefix=("-c", PRINT_MODULES))
    assert "version" in answer
    assert errors.strip().splitlines()[-1] == "[]"


def test_without_the_runtime_it_says_what_is_lacking(archive):
    answer, _ = ask(
        archive, {"do": "identify", "runtime": "onnxruntime", "packages": [], "energy": "none"}, prefix=("-S",)
    )
    assert answer["lacking"] == "numpy"
    assert answer["executable"] == sys.executable
    assert answer["machine"]["cores"] >= 1


def test_put_and_measure(archive):
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    content = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    sha256 = hashlib.sha256(content).hexdigest()
    assert ask(archive, request_of(sha256))[0] == {"missing": [sha256]}
    put = {"do": "put", "sha256": sha256, "suffix": ".onnx", "size": len(content)}
    assert ask(archive, put, content)[0] == {}
    two = [[sha256, ".onnx"], ["0" * 64, ".more.bin"]]
    assert ask(archive, request_of(sha256, files=two))[0] == {"missing": ["0" * 64]}
    answer, _ = ask(archive, request_of(sha256))
    assert min(answer["latency_ms"]) > 0
    assert answer["memory_mb"] >= 0
    assert answer["machine"]["cores"] >= 1


def test_others_who_measure_are_waited_for(archive):
    folder = archive.parent / ".cache/netadapt/device"
    folder.mkdir(parents=True)
    with (folder / "measuring.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert ask(archive, request_of("0" * 64))[0] == {"busy": str(folder / "measuring.lock")}
        waiting = start(archive, archive.parent)
        waiting.stdin.write(json.dumps(request_of("0" * 64, wait_s=60.0)).encode() + b"\n")
        waiting.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=1.5)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert json.loads(waiting.stdout.readline()) == {"missing": ["0" * 64]}
        waiting.communicate()


def test_who_waits_ends_when_the_asker_is_gone(archive):
    folder = archive.parent / ".cache/netadapt/device"
    folder.mkdir(parents=True)
    with (folder / "measuring.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = start(archive, archive.parent)
        output, _ = waiting.communicate(json.dumps(request_of("0" * 64, wait_s=600.0)).encode() + b"\n")
    assert (output, waiting.returncode) == (b"", 1)


def test_the_lock_of_the_machine_is_held_too_if_asked(archive, monkeypatch):
    # Seen from outside: while somebody else holds that lock, the answer is that it is busy.
    from netadapt.platforms.lock import MeasuringLock, lock_path

    with MeasuringLock().hold("a test of the device's side"):
        assert ask(archive, request_of("0" * 64, shared=True))[0] == {"busy": str(lock_path())}
        assert ask(archive, request_of("0" * 64, shared=False))[0] == {"missing": ["0" * 64]}


def test_no_request_is_an_error(archive):
    process = start(archive, archive.parent)
    output, errors = process.communicate(b"")
    assert output == b""
    assert b"no request" in errors
    assert process.returncode == 1
