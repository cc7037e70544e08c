"""The session client against the real server: deaths, limits, forks, and who outlives whom."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from processes import gone, until

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.platforms.devices import session_client
from netadapt.platforms.devices.session_client import SessionClient


def write(path, nodes, shape=(1, 4), dtype=TensorProto.FLOAT, initializers=()):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", dtype, None)],
        list(initializers),
    )
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture
def relu(tmp_path):
    return write(tmp_path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])])


@pytest.fixture
def endless(tmp_path):
    """A chain of products of matrices that takes minutes."""
    size = 1500
    weight = onnx.numpy_helper.from_array(np.eye(size, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", [f"m{i - 1}" if i else "x", "w"], [f"m{i}"]) for i in range(4000)]
    nodes.append(helper.make_node("Relu", ["m3999"], ["y"]))
    return write(tmp_path / "endless.onnx", nodes, shape=(size, size), initializers=[weight])


@pytest.fixture
def client():
    client = SessionClient("onnxruntime", {}, threads=1, cores=(), limit_s=60.0)
    yield client
    client.close()


def test_slices_fill_the_time(client, relu):
    reading = client.run(relu, seconds=0.06, warmups=2)
    assert len(reading.latency_ms) >= 3
    assert min(reading.latency_ms) > 0
    assert reading.memory_mb is not None
    assert reading.memory_mb < 5


def test_a_profile_names_the_operations(client, tmp_path):
    nodes = [helper.make_node("Sqrt", ["x"], ["s"], name="root"), helper.make_node("Exp", ["s"], ["y"], name="power")]
    profile = client.profile(write(tmp_path / "two.onnx", nodes, shape=(64, 64)), seconds=0.02)
    assert [(operation.name, operation.kind) for operation in profile] == [("root", "Sqrt"), ("power", "Exp")]
    assert all(operation.latency_ms > 0 for operation in profile)


def test_a_profile_of_a_damaged_file_is_refused(client, tmp_path, relu):
    (tmp_path / "bad.onnx").write_bytes(b"\x00" * 40)
    with pytest.raises(PlatformError, match="cannot run"):
        client.profile(tmp_path / "bad.onnx", seconds=0.01)
    assert client.profile(relu, seconds=0.01)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT64])
def test_inputs_of_many_types(client, tmp_path, dtype):
    path = write(tmp_path / "id.onnx", [helper.make_node("Identity", ["x"], ["y"])], dtype=dtype)
    assert client.run(path, seconds=0.01, warmups=1).latency_ms


def test_a_free_batch_counts_as_one_and_other_free_sizes_are_refused(client, tmp_path):
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    assert client.run(write(tmp_path / "a.onnx", nodes, shape=("n", 4)), seconds=0.01, warmups=1).latency_ms
    with pytest.raises(PlatformError, match="fixed sizes"):
        client.run(write(tmp_path / "b.onnx", nodes, shape=(1, "length")), seconds=0.01, warmups=1)


def test_the_runtimes_own_message_reaches_the_user(client, tmp_path, relu):
    path = write(tmp_path / "bad.onnx", [helper.make_node("NoSuchOperation", ["x"], ["y"])])
    with pytest.raises(PlatformError, match="NoSuchOperation"):
        client.run(path, seconds=0.01, warmups=1)
    assert client.run(relu, seconds=0.01, warmups=1).latency_ms


def test_one_server_serves_all_and_is_replaced_when_it_dies(client, relu):
    client.run(relu, seconds=0.01, warmups=1)
    first = client._process.pid
    client.run(relu, seconds=0.01, warmups=1)
    assert client._process.pid == first
    os.kill(first, signal.SIGKILL)
    assert client.run(relu, seconds=0.01, warmups=1).latency_ms
    assert client._process.pid != first


def test_a_session_that_takes_too_long_is_given_up(relu, endless):
    client = SessionClient("onnxruntime", {}, threads=1, cores=(), limit_s=1.5)
    try:
        with pytest.raises(MeasurementUnusable, match=r"within 1.5 s"):
            client.run(endless, seconds=0.01, warmups=1)
        assert client.run(relu, seconds=0.01, warmups=1).latency_ms
    finally:
        client.close()


def test_a_killed_session_is_reported(client, relu, endless):
    client.run(relu, seconds=0.01, warmups=1)
    server = client._process.pid
    killer = subprocess.Popen([sys.executable, "-c", KILL_CHILD, str(server)])
    with pytest.raises(SessionLost, match="died with status -9"):
        client.run(endless, seconds=0.01, warmups=1)
    killer.wait()
    assert client.run(relu, seconds=0.01, warmups=1).latency_ms
    assert client._process.pid == server


KILL_CHILD = """
import os, signal, sys, time
children = f"/proc/{sys.argv[1]}/task/{sys.argv[1]}/children"
while not (pids := open(children).read().split()):
    time.sleep(0.02)
time.sleep(0.3)
os.kill(int(pids[0]), signal.SIGKILL)
"""


def test_a_server_that_does_not_start_is_reported(monkeypatch, tmp_path, relu):
    broken = tmp_path / "server.py"
    broken.write_text("raise SystemExit('no onnxruntime here')")
    monkeypatch.setattr(session_client, "_SERVER", broken)
    with pytest.raises(PlatformError, match="no onnxruntime here"):
        SessionClient("onnxruntime", {}, threads=1, cores=(), limit_s=5.0).run(relu, seconds=0.01, warmups=1)


def test_closing_ends_the_server(client, relu):
    client.run(relu, seconds=0.01, warmups=1)
    pid = client._process.pid
    client.close()
    client.close()
    assert gone(pid)


def test_garbage_collection_ends_the_server(relu):
    client = SessionClient("onnxruntime", {}, threads=1, cores=(), limit_s=60.0)
    client.run(relu, seconds=0.01, warmups=1)
    pid = client._process.pid
    del client
    assert gone(pid)


ORPHAN = """
import os, sys
from pathlib import Path
from netadapt.platforms.devices.session_client import SessionClient
client = SessionClient("onnxruntime", {}, threads=1, cores=(), limit_s=60.0)
client.run(Path(sys.argv[1]), seconds=0.01, warmups=1)
print(client._process.pid, flush=True)
if sys.argv[2] == "measuring":
    client.run(Path(sys.argv[3]), seconds=0.01, warmups=1)
sys.stdin.read()
"""


def test_a_session_ends_when_its_server_is_killed(relu, endless):
    client = SessionClient("onnxruntime", {}, threads=1, cores=(), limit_s=2.0)
    client.run(relu, seconds=0.01, warmups=1)
    server = client._process.pid
    children = Path(f"/proc/{server}/task/{server}/children")
    seen = []

    def kill_server():
        until(lambda: seen.extend(children.read_text().split()) or seen)
        os.kill(server, signal.SIGKILL)

    killer = threading.Thread(target=kill_server)
    killer.start()
    with pytest.raises(MeasurementUnusable, match=r"within 2 s"):  # the next server's
        client.run(endless, seconds=0.01, warmups=1)
    killer.join()
    client.close()
    assert seen
    assert all(gone(int(pid)) for pid in seen)


@pytest.mark.parametrize("state", ["idle", "measuring"])
def test_the_server_dies_with_its_owner(relu, endless, state):
    owner = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(relu), state, str(endless)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    server = int(owner.stdout.readline())
    if state == "measuring":
        time.sleep(0.5)
    owner.kill()
    owner.communicate()
    assert gone(server)


def test_a_forked_process_gets_a_server_of_its_own(client, relu):
    client.run(relu, seconds=0.01, warmups=1)
    server = client._process.pid
    read, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        client.run(relu, seconds=0.01, warmups=1)
        os.write(write_end, json.dumps(client._process.pid).encode())
        client.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert int(os.read(read, 100)) != server
    os.close(read)
    os.close(write_end)
    assert client.run(relu, seconds=0.01, warmups=1).latency_ms
    assert client._process.pid == server
