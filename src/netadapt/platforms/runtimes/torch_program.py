"""Writes a network as a program for PyTorch: the operations that eager mode runs, and the weights, in one safetensors.

PyTorch's own file of an exported network is no choice: `torch.export.load` unpickles what it finds, so such a file can
execute anything. Ours is data; `platforms/on_device/engine_torch.py` reads it. Called by `torch.py` beside this.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import operator
import warnings
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from netadapt.errors import PlatformError
from netadapt.export.onnx import TOLERANCE, FlatNetwork, difference, flat_copy
from netadapt.platforms.on_device.engine_torch import KEY, VERSION, read_program


def to_program(model: nn.Module, example_inputs: Any) -> bytes:
    """Return the program of ``model`` as it stands, in eval mode, checked by values.

    Batch norms stay, as in eager mode; the memory layout of weights and inputs (channels last, say) stays too.

    Args:
        model: left as it is.
        example_inputs: tensor, tuple or dict; the deployment shape, batch included.

    Raises:
        PlatformError: the network cannot be run or exported, uses operations that are not PyTorch's own, or the
            program does not compute what the network does.
    """
    try:
        flat = flat_copy(model, example_inputs)
        content = _Writer(_exported(flat), flat.tensors).content()
        with torch.no_grad():
            expected = flat(*_copies(flat.tensors))
    except PlatformError:
        raise
    except Exception as error:
        raise PlatformError(
            f"the network cannot be run and exported by torch.export: {type(error).__name__}: "
            f"{' '.join(str(error).strip().splitlines()[:3])}"
        ) from error
    _check(content, flat, expected)
    return content


def _exported(flat: FlatNetwork) -> ExportedProgram:
    """Export without gradients, as the network is used, and without the exporter's chatter."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(flat, flat.tensors, strict=False)


def _check(content: bytes, flat: FlatNetwork, expected: tuple[Tensor, ...]) -> None:
    """Run the program once and compare.

    Raises:
        PlatformError: it does not run, or gives other values.
    """
    try:
        with torch.no_grad():
            outputs = read_program(io.BytesIO(content)).module(*_copies(flat.tensors))
    except Exception as error:
        raise PlatformError(f"the exported program does not run: {type(error).__name__}: {error}") from error
    worst = max((_distance(got, wanted) for got, wanted in zip(outputs, expected, strict=True)), default=0.0)
    if not worst <= TOLERANCE:
        raise PlatformError(
            f"the exported program and the network differ by {worst:.1e} of the largest output; "
            "a network whose result is random cannot be compared."
        )


def _copies(inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Return inputs for one inference: it may overwrite them."""
    return [tensor.clone() for tensor in inputs]


def _distance(got: Tensor, wanted: Tensor) -> float:
    """Return the largest difference relative to the largest value; infinite where only closeness is not enough."""
    exact = not (wanted.is_floating_point() or wanted.is_complex())
    if got.shape != wanted.shape or got.dtype != wanted.dtype or (exact and not torch.equal(got, wanted)):
        return math.inf
    return 0.0 if exact else difference(_array(got), _array(wanted))


def _array(tensor: Tensor) -> np.ndarray:
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor.to(torch.float64)).numpy()


class _Writer:
    """Turns an exported network into the content of a file.

    Args:
        exported: a program without gradients.
        inputs: the example's tensors.
    """

    def __init__(self, exported: ExportedProgram, inputs: tuple[Tensor, ...]) -> None:
        self._exported, self._inputs = exported, inputs
        self._weights: dict[str, Tensor] = {}
        self._places: dict[torch.fx.Node, dict[str, Any]] = {}
        self._name_inputs()

    def _name_inputs(self) -> None:
        """Give every placeholder its place; tensors that are one and the same (tied weights) are stored once."""
        nodes = {node.name: node for node in self._exported.graph.nodes if node.op == "placeholder"}
        tensors = {**self._exported.constants, **self._exported.state_dict}
        names: dict[Any, str] = {}
        count = 0
        for spec in self._exported.graph_signature.input_specs:
            node = nodes[spec.arg.name]
            if spec.kind == InputKind.USER_INPUT and isinstance(spec.arg, TensorArgument):
                self._places[node] = {"input": count}
                count += 1
            elif isinstance(tensor := tensors.get(str(spec.target)), Tensor):
                if node.users:
                    name = names.setdefault(_identity(tensor, str(spec.target)), str(spec.target))
                    self._weights[name] = tensor.detach()
                    self._places[node] = {"weight": name}
            else:
                raise PlatformError(
                    f"the network holds {spec.arg.name!r}, which is no tensor; the runtime torch cannot store it."
                )

    def content(self) -> bytes:
        """Return the file."""
        program = {
            "version": VERSION,
            "inputs": [_description(tensor) for tensor in self._inputs],
            "channels_last": [name for name, tensor in self._weights.items() if _channels_last(tensor)],
            "operations": self._operations(),
            "outputs": self._outputs(),
        }
        stored = {
            name: _flushed(tensor).clone(memory_format=torch.contiguous_format)
            for name, tensor in self._weights.items()
        }
        return safetensors.torch.save(stored, {KEY: json.dumps(program, allow_nan=False)})

    def _operations(self) -> list[Any]:
        found: list[Any] = []
        for node in self._exported.graph.nodes:
            if node.op != "call_function" or (not node.users and str(node.target).startswith("aten._assert")):
                continue  # eager mode asserts nothing
            self._places[node] = {"result": len(found)}
            kwargs = {key: self._value(value) for key, value in node.kwargs.items()}
            found.append([_operation(node), [self._value(value) for value in node.args], kwargs])
        return found

    def _outputs(self) -> list[Any]:
        results = next(node for node in self._exported.graph.nodes if node.op == "output").args[0]
        specs = self._exported.graph_signature.output_specs
        return [self._value(v) for v, spec in zip(results, specs, strict=True) if spec.kind == OutputKind.USER_OUTPUT]

    def _value(self, value: Any) -> Any:
        """Return an argument as JSON; the reader's `_Values` is the other half."""
        if isinstance(value, torch.fx.Node):
            return self._places[value]
        if isinstance(value, (list, tuple)):
            return [self._value(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"float": str(value)}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, torch.device):
            return {"device": ""}
        for kind in ("dtype", "layout", "memory_format"):
            if isinstance(value, getattr(torch, kind)):
                return {kind: str(value).removeprefix("torch.")}
        raise PlatformError(f"the network's operations use {value!r}, which the runtime torch cannot store.")


def _operation(node: torch.fx.Node) -> str:
    """Return the name of an operation.

    Raises:
        PlatformError: it is not one of PyTorch's own.
    """
    if node.target is operator.getitem:
        return "getitem"
    if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten":
        return str(node.target)
    raise PlatformError(
        f"the network uses {node.target}, which is not one of PyTorch's own operations (aten); "
        "the runtime torch runs no others, choose another runtime."
    )


def _identity(tensor: Tensor, name: str) -> Any:
    """Return what is equal for two names of one tensor."""
    return (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) if tensor.numel() else name


def _channels_last(tensor: Tensor) -> bool:
    """Tell whether a tensor of images or filters is laid out with channels last, and not also the usual way."""
    return tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)


def _description(tensor: Tensor) -> dict[str, Any]:
    known = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
    return known | ({"channels_last": True} if _channels_last(tensor) else {})


def _flushed(tensor: Tensor) -> Tensor:
    """Return a weight with subnormal numbers set to zero: processors compute with them many times slower."""
    if not tensor.is_floating_point():
        return tensor
    return torch.where(tensor.abs() < torch.finfo(tensor.dtype).tiny, torch.zeros_like(tensor), tensor)
