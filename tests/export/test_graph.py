"""Clean-ups of the graph, on graphs made by hand."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from netadapt.export import SlicingTemplate, graph
from netadapt.export.onnx import run_proto, to_proto
from netadapt.models import resolve_model
from netadapt.network import trace


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


def padded(pads, nodes, pad_inputs=(), opset=17, channels=3, outputs=("y",), extra=None, **attributes):
    """A graph that pads ``x`` (1, 3, 6, 7) and goes on with ``nodes``, which read ``p``."""
    random = np.random.default_rng(0)
    arrays = {"w": random.standard_normal((4, channels, 3, 3)).astype(np.float32), "pads": np.array(pads)}
    made = helper.make_graph(
        [helper.make_node("Pad", ["x", "pads", *pad_inputs], ["p"], **attributes), *nodes], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 6, 7))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
    )  # fmt: skip
    proto = helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])
    graph.set_initializers(proto, arrays | (extra or {}))
    return proto


def conv(source="p", target="y", **attributes):
    return helper.make_node("Conv", [source, "w"], [target], strides=[2, 2], **attributes)


def ints(node, name):
    return next(list(a.ints) for a in node.attribute if a.name == name)


def fold_and_compare(proto):
    """Fold, check that no value changed, and return the operators that are left."""
    x = np.random.default_rng(1).standard_normal((1, 3, 6, 7)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it folds some by itself
    before = onnxruntime.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})
    graph.fold_pads(proto, graph.initializers(proto))
    graph.set_initializers(proto, graph.initializers(proto))
    onnx.checker.check_model(proto, full_check=True)
    for got, wanted in zip(run_proto(proto.SerializeToString(), {"x": x}), before, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)
    return [node.op_type for node in proto.graph.node]


BORDER = st.integers(0, 4)


@settings(deadline=None, max_examples=20)
@given(BORDER, BORDER, BORDER, BORDER, st.none() | st.tuples(BORDER, BORDER, BORDER, BORDER))
def test_a_lopsided_padding_becomes_the_convolutions(top, left, bottom, right, own):
    proto = padded([0, 0, top, left, 0, 0, bottom, right], [conv(**({"pads": own} if own else {}))])
    assert fold_and_compare(proto) == ["Conv"]
    assert set(graph.initializers(proto)) == {"w"}
    assert ints(proto.graph.node[0], "pads") == [
        a + b for a, b in zip((top, left, bottom, right), own or (0, 0, 0, 0), strict=True)
    ]


LOPSIDED = [0, 0, 0, 0, 0, 0, 1, 1]


def test_two_convolutions_may_read_it():
    proto = padded(LOPSIDED, [conv(target="y"), conv(target="z", pads=[1, 1, 1, 1])], outputs=("y", "z"))
    assert fold_and_compare(proto) == ["Conv", "Conv"]


def test_two_paddings_in_a_row_are_both_folded():
    again = helper.make_node("Pad", ["p", "pads"], ["q"])
    assert fold_and_compare(padded(LOPSIDED, [again, conv("q")])) == ["Conv"]


def test_a_padding_behind_one_that_stays_is_folded():
    pool = helper.make_node("MaxPool", ["p"], ["m"], kernel_shape=[3, 3])
    measure = [
        helper.make_node("Shape", ["m"], ["shape"]),
        helper.make_node("Slice", ["shape", "two", "three"], ["rows"]),
        helper.make_node("Sub", ["rows", "rows"], ["zero"]),
        helper.make_node("Concat", ["zero"] * 6 + ["rows", "zero"], ["measured"], axis=0),
        helper.make_node("Pad", ["m", "measured"], ["q"]),
    ]
    extra = {"two": np.array([2]), "three": np.array([3])}
    proto = padded(LOPSIDED, [pool, *measure, conv("q")], extra=extra)
    assert fold_and_compare(proto) == ["Pad", "MaxPool", "Conv"]
    assert ints(proto.graph.node[-1], "pads") == [0, 0, 5, 0]


@pytest.mark.parametrize("value", [0.0, -0.0])
def test_a_stated_zero_is_zero(value):
    extra = {"value": np.array(value, np.float32)}
    assert fold_and_compare(padded(LOPSIDED, [conv()], ["value"], extra=extra)) == ["Conv"]


def branch(name):
    made = helper.make_node("Identity", [name], [f"{name}_inside"])
    return helper.make_graph(
        [made], "b", [], [helper.make_tensor_value_info(f"{name}_inside", TensorProto.FLOAT, None)]
    )


OTHERS = {
    "max": padded(LOPSIDED, [helper.make_node("MaxPool", ["p"], ["y"], kernel_shape=[3, 3], strides=[2, 2])]),
    "average": padded(LOPSIDED, [helper.make_node("AveragePool", ["p"], ["y"], kernel_shape=[3, 3], strides=[2, 2])]),
    "reader": padded(LOPSIDED, [conv(), helper.make_node("Relu", ["p"], ["z"])], outputs=("y", "z")),
    "output": padded(LOPSIDED, [conv()], outputs=("y", "p")),
    "value": padded(LOPSIDED, [conv()], ["value"], extra={"value": np.array(0.5, np.float32)}),
    "mode": padded(LOPSIDED, [conv()], mode="edge"),
    "auto": padded(LOPSIDED, [conv(auto_pad="SAME_UPPER")]),
    "crop": padded([0, 0, 1, 0, 0, 0, -1, 0], [conv()]),
    "channel": padded([0, 1, 0, 0, 0, 0, 0, 0], [conv()], channels=4),
    "batch": padded([0, 0, 0, 0, 1, 0, 0, 0], [conv()]),
    "axes": padded([0, 0, 1, 1], [conv()], ["", "axes"], opset=18, extra={"axes": np.array([2, 3])}),
    "if": padded(
        LOPSIDED,
        [conv(), helper.make_node("If", ["yes"], ["z"], then_branch=branch("p"), else_branch=branch("x"))],
        outputs=("y", "z"), extra={"yes": np.array(True)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("proto", OTHERS.values(), ids=OTHERS.keys())
def test_any_other_padding_is_left_alone(proto):
    nodes = [node.op_type for node in proto.graph.node]
    assert fold_and_compare(proto) == nodes


def test_padded_weights_are_left_alone():
    proto = padded(LOPSIDED, [helper.make_node("Conv", ["x", "p"], ["y"])])  # onnxruntime 1.31 itself breaks this one
    graph.fold_pads(proto, graph.initializers(proto))
    assert [node.op_type for node in proto.graph.node] == ["Pad", "Conv"]


def test_a_padding_that_the_input_decides_is_left_alone():
    decided = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["none"]),
        helper.make_node("Cast", ["none"], ["sides"], to=TensorProto.INT64),
        helper.make_node("Pad", ["x", "sides"], ["q"]),
    ]
    proto = padded(
        LOPSIDED,
        [*decided, conv("q"), conv(target="z")],
        outputs=("y", "z"),
        extra={"nothing": np.zeros(8, np.float32)},
    )
    assert fold_and_compare(proto) == ["ReduceSum", "Mul", "Cast", "Pad", "Conv", "Conv"]


def test_what_only_a_branch_reads_is_kept():
    nodes = [conv(), helper.make_node("If", ["yes"], ["z"], then_branch=branch("a"), else_branch=branch("a"))]
    extra = {"yes": np.array(True), "a": np.ones((1, 1, 1, 1), np.float32)}
    proto = padded(LOPSIDED, nodes, outputs=("y", "z"), extra=extra)
    assert fold_and_compare(proto) == ["Conv", "If"]
    assert "a" in graph.initializers(proto)


@pytest.mark.parametrize("spec", ["mobilenet_v1", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_same_padding_leaves_no_trace_in_either_export(spec):
    model, zeros = resolve_model(f"{spec}?width=0.25&resolution=64&same_padding=true")
    x = torch.randn(zeros.shape, generator=torch.Generator().manual_seed(0))  # at zero any padding would do
    network = trace(model, x, prove=False)
    template = SlicingTemplate(network)
    assert template.verify(network) < 1e-4
    for proto in (to_proto(model, x), template.slice({})):
        operators = {node.op_type for node in proto.graph.node}
        assert operators.isdisjoint({"Pad", "Shape", "Concat", "Cast"})
        convs = [node for node in proto.graph.node if node.op_type == "Conv"]
        assert [ints(node, "pads") for node in convs if ints(node, "strides") == [2, 2]] == [[0, 0, 1, 1]] * 5
