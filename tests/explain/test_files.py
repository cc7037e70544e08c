"""Two files explained on the profiler of a real runtime."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import onnx
import pytest
from needs import needs
from onnx import TensorProto, helper, numpy_helper

from netadapt.errors import PlatformError
from netadapt.explain import explain_files
from netadapt.explain.files import _both, _notes
from netadapt.explain.onnx_work import NodeWork
from netadapt.export.onnx import to_proto
from netadapt.platforms import resolve_platform


@pytest.fixture
def files(network, tmp_path):
    smaller = network.shrink({"first": range(8), "second": range(12)})
    paths = [tmp_path / "large.onnx", tmp_path / "small.onnx"]
    for path, model in zip(paths, (network.model, smaller), strict=True):
        path.write_bytes(to_proto(model, network.example_inputs).SerializeToString())
    return paths


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_operations_of_the_same_name_are_compared(network, files, runtime):
    needs(runtime)
    with closing(resolve_platform(runtime)) as platform:
        found = explain_files(files, platform, repeats=2, seconds=0.02)
    rows = {row.layer: row for row in found.rows}
    second = rows["/network/second/Conv"]
    assert (second.before.inputs, second.after.inputs, second.after.outputs) == (32, 8, 12)
    assert second.before.macs == 32 * 64 * 9 * 32 * 32
    assert second.after.latency_ms < second.before.latency_ms  # a twentieth of the arithmetic
    assert {"/network/first/Conv", "/network/third/Conv", "/network/classifier/Gemm"} < rows.keys()
    assert found.variant == "small.onnx" and runtime in found.source
    assert found.before.layers_ms == pytest.approx(sum(row.before.latency_ms for row in found.rows))
    assert not {row.cause for row in found.rows} & {"kept", "pinned"}  # nobody searched


def test_what_only_one_file_has_is_not_judged(network, files):
    files[1].write_bytes(to_proto(network.model.first, network.example_inputs).SerializeToString())
    with closing(resolve_platform("onnxruntime")) as platform:
        found = explain_files(files, platform, repeats=1, seconds=0.02)
    gone = next(row for row in found.rows if row.layer == "/network/second/Conv")
    assert (gone.after.latency_ms, gone.after.macs, gone.cause) == (0, 0, "")


def open_inside(path, outputs):
    """Write a network whose second convolution reads a shape that onnx does not follow and onnxruntime does."""
    weights = np.zeros((outputs, 16, 3, 3), np.float32)
    constants = {"target": np.array([1, 16, 32, 32], np.float32), "first.w": weights, "second.w": weights}
    nodes = [
        helper.make_node("Conv", ["x", "first.w"], ["first"], name="first"),
        helper.make_node("Abs", ["target"], ["positive"]),
        helper.make_node("Cast", ["positive"], ["shape"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "shape"], ["again"], name="again"),
        helper.make_node("Conv", ["again", "second.w"], ["second"], name="second"),
    ]
    sizes = {"x": (1, 16, 32, 32), "first": (1, outputs, 30, 30), "second": (1, outputs, "height", "width")}
    x, *results = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items())
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], results, tensors)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)


def test_nodes_with_open_sizes_have_times_and_no_work_and_are_told(tmp_path):
    paths = [tmp_path / "large.onnx", tmp_path / "small.onnx"]
    for path, outputs in zip(paths, (32, 8), strict=True):
        open_inside(path, outputs)
    with closing(resolve_platform("onnxruntime")) as platform:
        found = explain_files(paths, platform, repeats=1, seconds=0.02)
    rows = {row.layer: row for row in found.rows}
    assert rows["first"].before.macs == 30 * 30 * 9 * 16 * 32
    second = rows["second"]
    assert second.before.latency_ms > 0 and (second.before.outputs, second.after.outputs) == (32, 8)
    assert (second.before.macs, second.after.macs, second.cause) == (0, 0, "")
    [note] = found.notes
    assert "in again, second: a file leaves sizes in it open" in note


def test_a_node_that_only_one_file_tells_all_sizes_of_is_counted_in_neither():
    known, unknown = NodeWork(4, 8, 4, 9, 100), NodeWork(4, 0, 0, 0, 0, known=False)
    assert [(work.macs, work.bytes) for work in _both(known, unknown, 8)] == [(0, 0), (0, 0)]
    assert [work.macs for work in _both(known, known, 8)] == [4 * 8 * 9] * 2


def test_a_note_names_a_few_nodes():
    assert _notes([]) == []
    assert "in 0, 1, 2, 3, 4 and 2 more: " in _notes([str(number) for number in range(7)])[0]
    assert "in 0, 1, 2, 3, 4: " in _notes([str(number) for number in range(5)])[0]


def test_a_platform_without_profiler_is_refused(files):
    with closing(resolve_platform("torch")) as platform, pytest.raises(PlatformError, match="has no profiler"):
        explain_files(files, platform)
