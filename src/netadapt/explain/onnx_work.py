"""What the nodes of an ONNX file have to do, and which of them an operation of a runtime stands for; for `files.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from netadapt.errors import UsageError
from netadapt.explain.naming import unmarked

Shape = tuple[int, ...]
#: ONNX's types of what runtimes compute together with the operation before
_FUSED_TYPES = {"Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Tanh", "Add", "Mul"}
_FUSED_TYPES |= {"Sub", "Div", "BatchNormalization", "Identity", "Cast"}


@dataclass(frozen=True)
class NodeWork:
    """What a node does with its channels.

    Attributes:
        inputs, outputs: channels.
        fan_in: channels summed over by one output; 0 for nodes without multiply-accumulates.
        area: multiply-accumulates per pair of an output and a channel summed over.
        elements: values read and written, weights included.
    """

    inputs: int
    outputs: int
    fan_in: int
    area: int
    elements: int


class OnnxFile:
    """The nodes of a file that get a row of their own.

    Args:
        path: of the file; weights beside it are not read.

    Raises:
        UsageError: it is no ONNX file.

    Attributes:
        works: by the name of the node, in order of execution.
    """

    def __init__(self, path: Path) -> None:
        try:
            model = onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))
        except Exception as error:
            raise UsageError(f"{path} is no ONNX file ({type(error).__name__}); give two .onnx files.") from error
        shapes, weights = _shapes(model.graph), {tensor.name for tensor in model.graph.initializer}
        self.works: dict[str, NodeWork] = {}
        self._owners: dict[str, str] = {}
        for number, node in enumerate(model.graph.node):
            name = node.name or f"{node.op_type}_{number}"
            before = [self._owners[source] for source in node.input if source in self._owners]
            if node.op_type in _FUSED_TYPES and before:
                name = max(before, key=list(self.works).index)  # fused with what is computed last
            elif (work := _work(node, shapes)) is not None:
                self.works[name] = work
            else:
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


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Return the shapes that are known; a free size counts as 1."""
    found: dict[str, Shape] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        found[value.name] = tuple(size.dim_value or 1 for size in value.type.tensor_type.shape.dim)
    return found


def _work(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> NodeWork | None:
    """Return what a node does, ``None`` where it reads only constants or shapes are not known."""
    if not node.input or node.input[0] not in shapes or node.output[0] not in shapes:
        return None
    known = [shapes[name] for name in node.input if name in shapes]
    source, result = shapes[node.input[0]], shapes[node.output[0]]
    elements = sum(map(math.prod, [*known, result]))
    if node.op_type == "Conv" and len(known) > 1:
        kernel = known[1]
        area = math.prod(kernel[2:]) * math.prod(result) // result[1]
        return NodeWork(source[1], result[1], kernel[1], area, elements)
    if node.op_type in ("Gemm", "MatMul") and source and result:
        return NodeWork(source[-1], result[-1], source[-1], math.prod(result) // result[-1], elements)
    return NodeWork(_channels(source), _channels(result), 0, 0, elements)


def _channels(shape: Sequence[int]) -> int:
    return shape[1] if len(shape) > 2 else shape[-1] if shape else 1
