"""Clean-ups of an exported ONNX graph: fold batch norms, flush subnormal numbers, drop what a slice would outdate.

Pure functions on a `ModelProto`, changed in place; used by `onnx.py` and `slicing.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Array = NDArray[Any]


def initializers(proto: onnx.ModelProto) -> dict[str, Array]:
    """Return the graph's initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def set_initializers(proto: onnx.ModelProto, arrays: dict[str, Array]) -> None:
    """Replace the graph's initializers by ``arrays`` of those that some node reads."""
    used = {name for node in proto.graph.node for name in node.input}
    kept = [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def flush_subnormals(arrays: dict[str, Array]) -> dict[str, Array]:
    """Return ``arrays`` with subnormal numbers set to zero: processors compute with them many times slower."""
    flushed = {}
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            subnormal = (np.abs(array) < np.finfo(array.dtype).tiny) & (array != 0)
            if subnormal.any():
                array = np.where(subnormal, np.zeros((), array.dtype), array)
        flushed[name] = array
    return flushed


def fold_batch_norms(proto: onnx.ModelProto, arrays: dict[str, Array]) -> dict[str, Array]:
    """Fold each batch norm into the convolution before it, as any runtime or exporter would.

    The convolution's new bias keeps the name of the batch norm's bias, so that what is known of that parameter's
    axis stays true. Convolutions whose weight or output is used elsewhere are left alone.

    Args:
        proto: its nodes change in place; the initializers are those in ``arrays``.
        arrays: initializers by name.

    Returns:
        The new initializers.
    """
    arrays = dict(arrays)
    readers = Counter(name for node in proto.graph.node for name in node.input)
    readers.update(output.name for output in proto.graph.output)
    makers = {name: node for node in proto.graph.node for name in node.output}
    for norm in [node for node in proto.graph.node if node.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or not _foldable(conv, norm, readers, arrays):
            continue
        gamma, beta, mean, variance = (arrays[name].astype(np.float64) for name in norm.input[1:5])
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        scale = gamma / np.sqrt(variance + epsilon)
        weight = arrays[conv.input[1]]
        bias = arrays[conv.input[2]].astype(np.float64) if len(conv.input) > 2 else 0.0
        arrays[conv.input[1]] = (weight * scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype)
        arrays[norm.input[2]] = ((bias - mean) * scale + beta).astype(weight.dtype)
        inputs = [conv.input[0], conv.input[1], norm.input[2]]
        del conv.input[:]
        conv.input.extend(inputs)
        conv.output[0] = norm.output[0]
        proto.graph.node.remove(norm)
    return arrays


def _foldable(conv: onnx.NodeProto, norm: onnx.NodeProto, readers: Counter[str], arrays: dict[str, Array]) -> bool:
    """Tell whether ``norm`` alone reads ``conv`` and all their parameters are theirs alone."""
    own = [*conv.input[1:], norm.input[2]]
    return (
        conv.op_type == "Conv"
        and readers[conv.output[0]] == 1
        and all(name in arrays and readers[name] == 1 for name in own)
        and all(name in arrays for name in norm.input[1:5])
    )


def drop_intermediate_shapes(proto: onnx.ModelProto) -> None:
    """Remove recorded shapes of intermediate tensors; runtimes infer them."""
    del proto.graph.value_info[:]
