"""Clean-ups of the graph, on graphs made by hand."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from netadapt.export import graph
from netadapt.export.onnx import run_proto


def conv_norm(channels, bias, groups, seed, extra_reader=False):
    random = np.random.default_rng(seed)

    def draw(*shape):
        return random.standard_normal(shape).astype(np.float32)

    inputs = channels if groups > 1 else 3
    arrays = {
        "w": draw(channels, inputs // groups, 1, 1), "gamma": draw(channels), "beta": draw(channels),
        "mean": draw(channels), "var": random.uniform(0.1, 2, channels).astype(np.float32),
    }  # fmt: skip
    if bias:
        arrays["b"] = draw(channels)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"] if bias else ["x", "w"], ["c"], group=groups),
        helper.make_node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"], epsilon=1e-3),
        helper.make_node("Add", ["n", "c"] if extra_reader else ["n", "n"], ["y"]),
    ]
    made = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, inputs, 2, 2))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, channels, 2, 2))],
    )  # fmt: skip
    proto = helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    graph.set_initializers(proto, arrays)
    return proto, draw(1, inputs, 2, 2)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 6), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_folding_changes_no_value(channels, bias, depthwise, seed):
    proto, x = conv_norm(channels, bias, channels if depthwise else 1, seed)
    before = run_proto(proto.SerializeToString(), {"x": x})[0]
    graph.set_initializers(proto, graph.fold_batch_norms(proto, graph.initializers(proto)))
    assert [node.op_type for node in proto.graph.node] == ["Conv", "Add"]
    assert set(graph.initializers(proto)) == {"w", "beta"}
    np.testing.assert_allclose(run_proto(proto.SerializeToString(), {"x": x})[0], before, rtol=1e-3, atol=1e-4)


def test_a_convolution_that_others_read_is_left_alone():
    proto, x = conv_norm(4, True, 1, 0, extra_reader=True)
    before = run_proto(proto.SerializeToString(), {"x": x})[0]
    graph.set_initializers(proto, graph.fold_batch_norms(proto, graph.initializers(proto)))
    assert [node.op_type for node in proto.graph.node] == ["Conv", "BatchNormalization", "Add"]
    np.testing.assert_array_equal(run_proto(proto.SerializeToString(), {"x": x})[0], before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_only_subnormal_numbers_are_flushed(dtype):
    tiny = np.finfo(dtype).tiny
    values = np.array([tiny, -tiny, tiny / 2, -tiny / 4, 0, 1, np.inf], dtype=dtype)
    flushed = graph.flush_subnormals({"a": values, "i": np.array([1, 2])})
    np.testing.assert_array_equal(flushed["a"], np.array([tiny, -tiny, 0, 0, 0, 1, np.inf], dtype=dtype))
    assert flushed["i"].dtype == np.int64


def test_unread_initializers_are_dropped():
    proto, _ = conv_norm(4, False, 1, 0)
    graph.set_initializers(proto, graph.initializers(proto) | {"unread": np.zeros(3)})
    assert "unread" not in graph.initializers(proto)
    onnx.checker.check_model(proto)
