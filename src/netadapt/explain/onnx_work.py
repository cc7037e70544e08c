"""What the nodes of an ONNX file have to do, and which of them an operation of a runtime stands for; for `files.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from netadapt.errors import UsageError
from netadapt.explain.naming import unmarked
from netadapt.explain.onnx_products import Products, Shape, products

_OPEN = -1  # a size that the file does not tell
_UNKNOWN: Shape = (_OPEN,)  # of a value whose rank it does not tell either
_MOST_BYTES = (1 << 31) - 1  # that protobuf reads
#: ONNX's types of what runtimes compute together with the operation before
_FUSED_TYPES = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Tanh", "Add", "Mul"}
_FUSED_TYPES |= {"Sub", "Div", "BatchNormalization", "Identity", "Cast"}


@dataclass(frozen=True)
class NodeWork(Products):
    """What a node does with its channels; ``fan_in`` is 0 for nodes without multiply-accumulates.

    Attributes:
        elements: values read and written, weights included.
        known: whether the file tells all sizes; else channels that it does not tell are 0, and nothing is counted.
    """

    elements: int
    known: bool = True


class OnnxFile:
    """The nodes of a file that get a row of their own.

    Args:
        path: of the file; weights beside it are not read.

    Raises:
        UsageError: it is no ONNX file, or one that cannot be used.

    Attributes:
        works: by the name of the node, in order of execution.
    """

    def __init__(self, path: Path) -> None:
        model = _read(path)
        shapes, weights = _shapes(model.graph), {tensor.name for tensor in model.graph.initializer}
        self.works: dict[str, NodeWork] = {}
        self._owners: dict[str, str] = {}
        places: dict[str, int] = {}
        for number, node in enumerate(model.graph.node):
            name = node.name or f"{node.op_type}_{number}"
            before = [self._owners[source] for source in node.input if source in self._owners]
            if node.op_type in _FUSED_TYPES and before:
                name = max(before, key=places.__getitem__)  # fused with what is computed last
            elif node.input:
                self.works[name] = _work(node, shapes)
                places.setdefault(name, len(places))
            else:  # a constant
                continue
            # the module that holds the weights is what some runtimes go by
            holders = [source.rpartition(".")[0] for source in node.input if source in weights]
            self._owners |= dict.fromkeys(filter(None, [node.name, *node.output, *holders]), name)

    def __call__(self, operation: str) -> str | None:
        """Return the node that an operation of a runtime belongs to; ``None`` where its name does not tell."""
        parts = unmarked(operation).split("/")
        for end in range(len(parts), 0, -1):  # runtimes append components: /stem/Conv/WithoutBiases
            if (found := self._owners.get("/".join(parts[:end]))) is not None:
                return found
        return None


def _read(path: Path) -> onnx.ModelProto:
    """Return the model in a file with the sizes of its values, for a batch of one where it leaves the batch open."""
    model = _decoded(path, _content(path))
    _close_batch(model.graph)
    try:
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise UsageError(
            f"{path} is an ONNX file, but the sizes in it cannot be worked out ({type(error).__name__}: {error}); "
            "see what onnx.checker.check_model says of it."
        ) from error


def _content(path: Path) -> bytes:
    """Return what is in a file that protobuf can read."""
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise UsageError(
                f"{path} has {size / 2**30:.2f} GiB, and an ONNX file less than 2; keep the weights beside it: "
                "onnx.save(model, path, save_as_external_data=True)."
            )
        return path.read_bytes()
    except (OSError, MemoryError) as error:
        raise UsageError(f"{path} cannot be read ({type(error).__name__}: {error}); give two ONNX files.") from error


def _decoded(path: Path, content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own, which has no types
        raise UsageError(f"{path} is no ONNX file, or a damaged one ({error}); give two ONNX files.") from error
    if not model.ir_version:  # an empty file decodes, and so does what is protobuf for something else
        raise UsageError(f"{path} is no ONNX file: it names no version of ONNX; give two ONNX files.")
    return model


def _close_batch(graph: onnx.GraphProto) -> None:
    """Set the free first sizes of the inputs to 1, as a session does, and all sizes of the same name."""
    shapes = [value.type.tensor_type.shape.dim for value in (*graph.input, *graph.value_info, *graph.output)]
    free = [shape[0] for shape in shapes[: len(graph.input)] if shape and shape[0].dim_value < 1]
    names = {size.dim_param for size in free} - {""}
    for size in (*free, *(size for shape in shapes for size in shape if size.dim_param in names)):
        size.dim_value = 1


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Return the shapes of all values whose rank is known."""
    found: dict[str, Shape] = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            found[value.name] = tuple(s.dim_value if s.HasField("dim_value") else _OPEN for s in kind.shape.dim)
    return found | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _work(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> NodeWork:
    """Return what a node with inputs does."""
    names = [name for name in (*node.input, *node.output[:1]) if name]  # an input that is left out has no name
    source, result = (shapes.get(name, _UNKNOWN) for name in (node.input[0], node.output[0]))
    if any(_OPEN in shapes.get(name, _UNKNOWN) for name in names):
        return NodeWork(_channels(source), _channels(result), 0, 0, 0, known=False)
    elements = sum(math.prod(shapes[name]) for name in names)
    found = products(node, [shapes.get(name, ()) for name in node.input], result)
    if found is None:
        return NodeWork(_channels(source), _channels(result), 0, 0, elements)
    return NodeWork(**vars(found), elements=elements)


def _channels(shape: Sequence[int]) -> int:
    return max(0, shape[1] if len(shape) > 2 else shape[-1] if shape else 1)
