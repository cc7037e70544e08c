"""PyTorch's side of a session: reads the programs that `runtimes/torch_program.py` writes and runs them.

A program is a safetensors file: the weights, and in its metadata the list of operations as JSON. Unlike what
`torch.export.load` reads, such a file cannot execute anything. netadapt itself reads each program once after writing
it, to compare its results with the network's.
"""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any

import numpy  # noqa: F401  what is forked later finds it imported
import torch
import torch.fx

KEY, VERSION = "program", 1
LARGEST_HEADER = 100_000_000  # bytes, as in the safetensors library
OPERATION = re.compile(r"aten\.[a-z_0-9]+\.[A-Za-z_0-9]+")
#: where operations take words; no other argument may be one, so that no file name reaches any
WORDS = (
    "approximate", "equation", "indexing", "interpolation", "mode", "norm", "ord", "pad_mode", "padding",
    "padding_side", "reduce", "rounding_mode", "side",
)  # fmt: skip
STORED = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
# y = relu(x) on one float: what the runtime itself costs in memory is measured with it.
EMPTY_PROGRAM = {
    "version": VERSION,
    "inputs": [{"shape": [1], "dtype": "float32"}],
    "operations": [["aten.relu.default", [{"input": 0}], {}]],
    "outputs": [{"result": 0}],
}


@dataclass(frozen=True)
class Program:
    """A network read from a file.

    Attributes:
        module: a `torch.fx.GraphModule`; gives a tuple of tensors.
        inputs: ``shape``, ``dtype`` and perhaps ``channels_last`` of each of its inputs.
    """

    module: Any
    inputs: Sequence[Mapping[str, Any]]


class Inference:
    """One inference on fixed inputs.

    Args:
        module: gets the inputs.
        inputs: on the module's device.
        cuda: whether that is a GPU, whose clock tells more than ours.
    """

    def __init__(self, module: Callable[..., Any], inputs: Sequence[Any], *, cuda: bool) -> None:
        self.module, self.inputs, self.cuda = module, inputs, cuda

    def __call__(self) -> Any:
        """Return the outputs."""
        with torch.inference_mode():
            return self.module(*self.inputs)


def version() -> str:
    """Return the runtime's version; nothing here starts a thread or touches a GPU, so that forks are safe."""
    return str(torch.__version__)


def open_model(path: str | None, threads: int, options: dict[str, Any]) -> Inference:
    """Load a program as PyTorch's users run a module: in inference mode, eagerly unless ``compiled`` is asked for.

    Args:
        path: of the file, ``None`` for the smallest program there is.
        threads: within one operation; operations run one after the other.
        options: ``compiled`` for `torch.compile` with its defaults, ``cuda`` for the first GPU. On a GPU float32
            means float32: TF32 is off.

    Raises:
        ValueError: the file is no program of ours.
        RuntimeError: there is no GPU.
    """
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    cuda = bool(options.get("cuda"))
    if cuda:
        require_gpu()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = "cuda" if cuda else "cpu"
    if path is None:
        program = _program(EMPTY_PROGRAM, {}, device)
    else:
        with open(path, "rb") as file:  # noqa: PTH123  on a device it is a plain string
            program = read_program(file, device)
    module: Callable[..., Any] = program.module
    if options.get("compiled"):
        from torch._inductor import config

        config.compile_threads = 1  # else worker processes stay, beside what is timed
        module = torch.compile(program.module, dynamic=False)
    run = Inference(module, [_example(entry).to(device) for entry in program.inputs], cuda=cuda)
    run()
    return run


def require_gpu() -> None:
    """Check that PyTorch can compute on a GPU.

    Raises:
        RuntimeError: it cannot, with the reason.
    """
    if torch.version.cuda is None and torch.version.hip is None:
        raise RuntimeError(f"cuda=true, but torch {torch.__version__} is a build without CUDA; install one with CUDA")
    if not torch.cuda.is_available():
        raise RuntimeError("cuda=true, but PyTorch finds no usable GPU and driver here; leave cuda out")


def elapsed_ms(run: Inference, repeats: int) -> float:
    """Return the milliseconds that ``repeats`` inferences take: by the GPU's events where one computes."""
    if not run.cuda:
        import session_timing

        return float(session_timing.elapsed_ms(run, repeats))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def _example(entry: Mapping[str, Any]) -> Any:
    """Return a random input; see `session_timing.random_array`."""
    import session_timing

    dtype = _named(torch.dtype, entry["dtype"])
    values = session_timing.random_array(entry["shape"], "float32" if dtype.is_floating_point else "int64")
    layout = torch.channels_last if entry.get("channels_last") else torch.contiguous_format
    return torch.from_numpy(values).to(dtype).contiguous(memory_format=layout)


def read_program(file: BufferedIOBase, device: str = "cpu") -> Program:
    """Return the program in a file; nothing in it is executed, and only PyTorch's own operations are accepted.

    Args:
        file: open for reading.
        device: where the weights go and new tensors are made.

    Raises:
        ValueError: it is no program, or a damaged one.
    """
    header, start = _header(file)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or KEY not in metadata:
        raise ValueError("this safetensors file holds weights only; compile the network for the torch runtime")
    weights = {name: _weight(file, name, entry, start) for name, entry in header.items()}
    try:
        return _program(json.loads(metadata[KEY]), weights, device)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"the program in this file is damaged: {type(error).__name__}: {error}") from error


def _header(file: BufferedIOBase) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where its tensors begin."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise ValueError("this is not a safetensors file, or it is cut off")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("this is not a safetensors file: its header is no JSON object")
    return header, 8 + length


def _weight(file: BufferedIOBase, name: str, entry: Any, start: int) -> Any:
    """Read one tensor into memory of its own, aligned as PyTorch aligns it."""
    try:
        dtype, shape = _named(torch.dtype, STORED[entry["dtype"]]), entry["shape"]
        begin, end = entry["data_offsets"]
        count = math.prod(shape)
        right = all(type(size) is int and size >= 0 for size in shape) and end - begin == count * dtype.itemsize
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"weight {name!r} is described wrongly: {error}") from error
    if not right or begin < 0 or start + end > file.seek(0, os.SEEK_END):
        raise ValueError(f"weight {name!r} has {end - begin} bytes, which do not fit its shape {shape} or the file")
    bare = torch.empty(end - begin, dtype=torch.uint8)
    file.seek(start + begin)
    if file.readinto(bare.numpy().data) != end - begin:
        raise ValueError(f"the file ends within weight {name!r}")
    return bare.view(dtype).reshape(shape)


def _program(content: Mapping[str, Any], weights: Mapping[str, Any], device: str) -> Program:
    """Build the module of a parsed file."""
    if content["version"] != VERSION:
        raise ValueError(f"the program has version {content['version']}, this netadapt reads {VERSION}; compile again")
    names, root = {name: f"weight_{i}" for i, name in enumerate(weights)}, torch.nn.Module()
    for name, tensor in weights.items():
        layout = torch.channels_last if name in content.get("channels_last", ()) else torch.contiguous_format
        root.register_buffer(names[name], tensor.to(device).contiguous(memory_format=layout))
    graph = torch.fx.Graph()
    inputs = [graph.placeholder(f"input_{i}") for i in range(len(content["inputs"]))]
    values = _Values(inputs, {name: graph.get_attr(own) for name, own in names.items()}, torch.device(device))
    for name, args, kwargs in content["operations"]:
        operation = _operation(name)
        _check_arguments(operation, args, kwargs)
        given = {key: values.decode(value) for key, value in kwargs.items()}
        values.results.append(graph.call_function(operation, tuple(map(values.decode, args)), given))
    graph.output(tuple(values.decode(content["outputs"])))
    return Program(torch.fx.GraphModule(root, graph).eval(), content["inputs"])


def _operation(name: str) -> Any:
    """Return one of PyTorch's own operations on tensors, or `operator.getitem`.

    Raises:
        ValueError: there is no such operation. Those of TorchScript, which write files, are none.
    """
    if name == "getitem":
        return operator.getitem
    if OPERATION.fullmatch(name):
        _, packet, overload = name.split(".")
        found = getattr(getattr(torch.ops.aten, packet, None), overload, None)
        full = f"aten::{packet}" + ("" if overload == "default" else f".{overload}")
        if isinstance(found, torch._ops.OpOverload) and torch._C._dispatch_has_kernel(full):
            return found
    raise ValueError(f"this PyTorch ({torch.__version__}) has no operation {name!r}")


def _check_arguments(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the operation has not, as their names become code, and words that could name a file."""
    if operation is operator.getitem:
        if kwargs or len(args) != 2 or type(args[1]) is not int:
            raise ValueError("getitem takes a result and a position")
        return
    names = [argument.name for argument in operation._schema.arguments]
    named = dict(zip(names, args)) | dict(kwargs)
    if len(args) > len(names) or not named.keys() <= set(names):
        raise ValueError(f"{operation} has the arguments {names}, not {list(named)}")
    for name, value in named.items():
        if _has_word(value) and name not in WORDS:
            raise ValueError(f"{operation}: argument {name!r} may not be the word {value!r}")


def _has_word(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and any(map(_has_word, value)))


@dataclass
class _Values:
    """Turns JSON into arguments: what is written ``{"weight": NAME}``, ``{"result": 3}``, ``{"dtype": NAME}``, ..."""

    inputs: list[Any]
    weights: dict[str, Any]
    device: torch.device
    results: list[Any] = field(default_factory=list)

    def decode(self, value: Any) -> Any:
        """Return the argument that ``value`` stands for.

        Raises:
            ValueError: it refers to what is not there.
        """
        if isinstance(value, list):
            return list(map(self.decode, value))
        if not isinstance(value, dict):
            return value
        [(kind, content)] = value.items()
        if kind in ("input", "result"):
            return _at(self.inputs if kind == "input" else self.results, content)
        if kind == "weight":
            return self.weights[content]
        if kind == "float":
            return float(content)
        if kind in ("dtype", "layout", "memory_format"):
            return _named(getattr(torch, kind), content)
        if kind == "device":
            return self.device
        raise ValueError(f"the program has a value of unknown kind {kind!r}")


def _at(values: Sequence[Any], position: Any) -> Any:
    if type(position) is not int or not 0 <= position < len(values):
        raise ValueError(f"the program refers to number {position!r} of {len(values)}")
    return values[position]


def _named(kind: type, name: str) -> Any:
    """Return the ``torch.NAME`` of a kind.

    Raises:
        ValueError: it is not of that kind.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, kind):
        raise ValueError(f"{name!r} is no {kind.__name__} of PyTorch")
    return found
