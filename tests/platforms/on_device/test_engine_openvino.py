"""What openvino is told: float32, so many threads and no more, fixed sizes; and that its import does nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import onnx
import pytest
from needs import needs
from onnx import TensorProto, helper

from netadapt.platforms import on_device
from netadapt.platforms.devices.session_client import SessionClient
from netadapt.platforms.environment import available_cores
from netadapt.platforms.on_device import engine_openvino

needs("openvino")
IMPORTED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import engine_openvino
engine_openvino.version()
child = os.fork()
if child == 0:
    run = engine_openvino.open_model(None, 1, {})
    run()
    os._exit(0)
_, status = os.waitpid(child, 0)
reporters = [name for name in sys.modules if name.startswith("openvino_telemetry.")]
print(len(os.listdir("/proc/self/task")), status, reporters)
"""


def model_file(path, shape, kind=TensorProto.FLOAT):
    ends = [helper.make_tensor_value_info(name, kind, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return str(path)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_the_import_starts_no_thread_and_reports_nothing():
    command = [sys.executable, "-P", "-c", IMPORTED, str(Path(on_device.__file__).parent)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    )
    assert done.stdout.split() == ["1", "0", "[]"], done.stderr


@pytest.mark.parametrize("threads", sorted({1, len(available_cores())}))
def test_precision_and_threads_are_commanded(threads):
    compiled = engine_openvino.compile_model(None, threads)
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"
    assert compiled.get_property("PERFORMANCE_HINT") == "LATENCY"
    assert compiled.get_property("INFERENCE_NUM_THREADS") == threads
    assert compiled.get_property("NUM_STREAMS") == 1


def test_fewer_threads_than_asked_for_are_refused():
    with pytest.raises(ValueError, match=r"would use \d+ threads"):
        engine_openvino.compile_model(None, 10_000)


def test_a_free_batch_is_one(tmp_path):
    compiled = engine_openvino.compile_model(model_file(tmp_path / "free.onnx", ["n", 3]), 1)
    assert list(compiled.inputs[0].shape) == [1, 3]


@pytest.mark.parametrize("shape", [[1, "n"], None])
def test_other_free_sizes_are_refused(shape, tmp_path):
    with pytest.raises(ValueError, match="export it with fixed sizes"):
        engine_openvino.compile_model(model_file(tmp_path / "free.onnx", shape), 1)


def test_a_profile_tells_operations_by_their_layers_also_the_one_that_gives_the_output(tmp_path):
    weight, bias = (helper.make_tensor(f"network.last.{name}", TensorProto.FLOAT, shape, [0.5] * size)
                    for name, shape, size in (("weight", (64, 64), 4096), ("bias", (64,), 64)))  # fmt: skip
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (64, 64)) for name in ("x", "7")]
    nodes = [
        helper.make_node("Softmax", ["x"], ["s"], name="/network/first/Softmax"),
        helper.make_node("Gemm", ["s", weight.name, bias.name], ["7"], name="/network/last/Gemm", transB=1),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight, bias])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    with closing(SessionClient("openvino", {}, threads=1, cores=(), limit_s=60.0)) as client:
        found = client.profile(path, seconds=0.02)
    assert found is not None and all(entry.latency_ms >= 0 for entry in found)
    assert [entry.name for entry in found] == ["/network/first/Softmax", "network.last"]
    assert [entry.kind.partition(" ")[0] for entry in found] == ["Softmax", "FullyConnected"]


def test_warm_ups_are_taken_out_of_a_counter_even_where_it_had_not_moved_by_then():
    warm = engine_openvino.WARMUPS
    slow_then_fast = (warm * 5.0 + 30 * 1.0) / (warm + 30)
    assert engine_openvino.without_warmups(slow_then_fast, 5.0, warm + 30) == pytest.approx(1.0)
    assert engine_openvino.without_warmups(0.3, 0.0, warm + 30) == pytest.approx(0.4)
    assert engine_openvino.without_warmups(1.0, 9.0, warm + 30) == 0.0
