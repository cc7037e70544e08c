"""Clean-ups of an exported ONNX graph: fold paddings and batch norms, flush subnormals, drop outdated shapes.

Pure functions on a `ModelProto`, changed in place; `deployment_form` is all of them, for `onnx.py` and `slicing.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]
_MAX_SIZES = 64  # numbers in an initializer that may be a shape


def initializers(proto: onnx.ModelProto) -> dict[str, Array]:
    """Return the graph's initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def set_initializers(proto: onnx.ModelProto, arrays: dict[str, Array]) -> None:
    """Replace the graph's initializers by those of ``arrays`` that something reads."""
    used = _readers(proto)
    kept = [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)


def deployment_form(proto: onnx.ModelProto, arrays: dict[str, Array]) -> dict[str, Array]:
    """Bring a graph into the form that is deployed: nothing to fold, no subnormal numbers, no outdated shapes.

    Args:
        proto: its nodes change in place; the initializers are those in ``arrays``.
        arrays: initializers by name.

    Returns:
        The new initializers, without those that nothing reads any more.
    """
    fold_pads(proto, arrays)  # first: it needs the shapes that are dropped
    arrays = fold_batch_norms(proto, arrays)
    drop_intermediate_shapes(proto)
    used = _readers(proto)
    return flush_subnormals({name: array for name, array in arrays.items() if name in used})


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
    readers = _readers(proto)
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


def fold_pads(proto: onnx.ModelProto, arrays: dict[str, Array]) -> None:
    """Fold each padding with zeros into the convolutions that read it: their own padding may be as lopsided.

    Runtimes that do not do so copy the whole tensor for the sake of its border. Paddings that depend on more than
    constants and shapes, that crop, that widen batch or channels, or that anything else reads, are left alone.

    Args:
        proto: its nodes change in place; the initializers are those in ``arrays``.
        arrays: initializers by name.
    """
    readers = _readers(proto)
    pads = [node for node in proto.graph.node if node.op_type == "Pad"]
    if not any(_padded_convs(proto, pad, readers) for pad in pads):
        return
    values = _pad_values(proto, arrays)
    # From the last to the first, so that of two in a row both are folded.
    for pad in reversed(pads):
        borders = _zero_borders(pad, values)
        convs = _padded_convs(proto, pad, readers)
        if borders is None or not convs:
            continue
        for conv in convs:
            conv.input[0] = pad.input[0]
            _add_pads(conv, borders)
        readers[pad.input[0]] += len(convs) - 1
    _drop_unread(proto)


def _padded_convs(proto: onnx.ModelProto, pad: onnx.NodeProto, readers: Counter[str]) -> list[onnx.NodeProto]:
    """Return the convolutions whose data ``pad`` widens, or none if anything else reads it."""
    convs = [node for node in proto.graph.node if node.op_type == "Conv" and node.input[0] == pad.output[0]]
    automatic = any(a.name == "auto_pad" and a.s not in (b"", b"NOTSET") for conv in convs for a in conv.attribute)
    return [] if automatic or readers[pad.output[0]] != len(convs) else convs


def _zero_borders(pad: onnx.NodeProto, values: dict[str, Array]) -> list[int] | None:
    """Return the spatial borders (all befores, all afters) that ``pad`` adds, ``None`` if it does another thing."""
    mode = next((a.s for a in pad.attribute if a.name == "mode"), b"constant")
    # One input: before opset 11. Four inputs: it names its axes, which no exporter in use does.
    if mode != b"constant" or len(pad.input) < 2 or any(pad.input[3:]):
        return None
    if not all(name in values for name in pad.input[1:] if name):
        return None
    outer, spatial = np.split(values[pad.input[1]].reshape(2, -1), [2], axis=1)
    filled = any(values[name].any() for name in pad.input[2:3] if name)
    if filled or outer.any() or (spatial < 0).any():
        return None
    return [int(border) for border in spatial.ravel()]


def _add_pads(conv: onnx.NodeProto, borders: list[int]) -> None:
    """Widen the padding of a convolution, which is zero where it has none."""
    own = next((a for a in conv.attribute if a.name == "pads"), None)
    if own is None:
        conv.attribute.append(helper.make_attribute("pads", borders))
    else:
        own.ints[:] = [a + b for a, b in zip(own.ints, borders, strict=True)]


def _pad_values(proto: onnx.ModelProto, arrays: dict[str, Array]) -> dict[str, Array]:
    """Return what all paddings are told (how wide, with what) as far as constants and inferred shapes settle it.

    Args:
        proto: left as it is.
        arrays: initializers by name.
    """
    outline = _outline(proto, arrays)
    values = {}
    for pad in [node for node in outline.graph.node if node.op_type == "Pad"]:
        shapes = _shapes(outline)
        for i, name in enumerate(pad.input[1:], start=1):
            value = _constant(outline, name, arrays, shapes) if name else None
            if value is not None:
                values[name] = value
                # Shapes are inferred past a padding only where it reads a plain constant.
                pad.input[i] = f"{name} of {pad.output[0]}"
                outline.graph.initializer.append(numpy_helper.from_array(value, pad.input[i]))
    return values


def _outline(proto: onnx.ModelProto, arrays: dict[str, Array]) -> onnx.ModelProto:
    """Return a copy to infer shapes on: of weights it has the shape only, of what may be sizes the values."""
    sizes, weights = [], []
    for name, array in arrays.items():
        if array.dtype.kind in "iu" and array.size <= _MAX_SIZES:
            sizes.append(numpy_helper.from_array(array, name))
        else:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            weights.append(helper.make_tensor_value_info(name, kind, array.shape))
    data = [entry for entry in proto.graph.input if entry.name not in arrays]
    body = helper.make_graph(
        proto.graph.node, "outline", [*data, *weights], proto.graph.output, sizes, value_info=proto.graph.value_info
    )
    return helper.make_model(body, opset_imports=list(proto.opset_import), functions=list(proto.functions))


def _shapes(proto: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shapes of inputs and intermediate tensors, where all sizes can be inferred."""
    try:
        graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except Exception:  # noqa: BLE001  it raises several things for graphs that it cannot follow
        graph = proto.graph
    shapes = {}
    for entry in (*graph.input, *graph.value_info):
        tensor = entry.type.tensor_type
        if tensor.HasField("shape") and all(size.HasField("dim_value") for size in tensor.shape.dim):
            shapes[entry.name] = tuple(size.dim_value for size in tensor.shape.dim)
    return shapes


def _constant(
    proto: onnx.ModelProto, name: str, arrays: dict[str, Array], shapes: dict[str, tuple[int, ...]]
) -> Array | None:
    """Return the value of a tensor that follows from ``arrays``, ``shapes`` and constants alone, else ``None``."""
    nodes = _makers(proto, [name])
    made = {output for node in nodes for output in node.output}
    values = {name, *(i for node in nodes if node.op_type != "Shape" for i in node.input if i)} - made
    measured = {node.input[0] for node in nodes if node.op_type == "Shape"} - made - values
    if not (values <= arrays.keys() and measured <= shapes.keys()):
        return None
    feeds = {key: arrays[key] for key in values}
    if name in feeds:
        return feeds[name]
    # Of these only the shape is read.
    feeds |= {key: np.broadcast_to(np.float32(0), shapes[key]) for key in measured}
    inputs = [helper.make_empty_tensor_value_info(key) for key in feeds]
    body = helper.make_graph(nodes, "chain", inputs, [helper.make_empty_tensor_value_info(name)])
    chain = helper.make_model(body, opset_imports=list(proto.opset_import))
    try:
        results: list[Any] = list(ReferenceEvaluator(chain).run(None, feeds))
        return np.asarray(results[0])
    except Exception:  # noqa: BLE001  it raises anything for operators it lacks; what it cannot tell is no constant
        return None


def _makers(proto: onnx.ModelProto, names: Iterable[str]) -> list[onnx.NodeProto]:
    """Return the nodes that ``names`` are computed by, in order; not those of a tensor whose shape alone is read."""
    wanted, found = set(names), []
    for node in reversed(proto.graph.node):
        if not wanted.isdisjoint(node.output):
            found.append(node)
            if node.op_type != "Shape":
                wanted.update(name for name in node.input if name)
    return found[::-1]


def _drop_unread(proto: onnx.ModelProto) -> None:
    """Remove the nodes that nothing reads."""
    readers = _readers(proto)
    nodes = proto.graph.node
    for i in reversed(range(len(nodes))):
        if not any(readers[output] for output in nodes[i].output):
            readers.subtract(_read_names(nodes[i]))
            del nodes[i]


def _readers(proto: onnx.ModelProto) -> Counter[str]:
    """Return how often each tensor is read: by nodes, also those of a branch or loop, and as output of the graph."""
    readers = Counter(name for node in proto.graph.node for name in _read_names(node))
    readers.update(output.name for output in proto.graph.output)
    return readers


def _read_names(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, and what the nodes of its branches or loops do."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            for graph in (attribute.g, *attribute.graphs):
                yield from (name for inner in graph.node for name in _read_names(inner))
                yield from (output.name for output in graph.output)


def drop_intermediate_shapes(proto: onnx.ModelProto) -> None:
    """Remove recorded shapes of intermediate tensors; runtimes infer them."""
    del proto.graph.value_info[:]
