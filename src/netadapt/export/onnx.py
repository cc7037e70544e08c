"""Exports a network to ONNX as its users deploy it: eval mode, fixed shapes, folded, checked by values.

The TorchScript exporter goes first (0.3 s instead of 4), the new one where it fails. Every file is run once by
onnxruntime and compared with PyTorch before anybody sees it. Called by `platforms/runtimes/`, ``netadapt export``.
"""

from __future__ import annotations

import copy
import logging
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from netadapt.errors import PlatformError
from netadapt.export import graph
from netadapt.network.fast_paths import without_fast_paths

_log = logging.getLogger("netadapt")
OPSET = 18
TOLERANCE = 1e-3  # of the largest output; float32 networks of 100 layers differ by less than 1e-4
_PREFIX = "network."


class FlatNetwork(nn.Module):
    """A network whose inputs and outputs are plain sequences of tensors, which is all that ONNX knows.

    Args:
        network: the user's module.
        example_inputs: tensor, tuple or dict as given by the user; nested values and constants may occur.
    """

    def __init__(self, network: nn.Module, example_inputs: Any) -> None:
        super().__init__()
        self.network = network
        if isinstance(example_inputs, dict):
            call: tuple[tuple[Any, ...], dict[str, Any]] = ((), dict(example_inputs))
        elif isinstance(example_inputs, (tuple, list)):
            call = (tuple(example_inputs), {})
        else:
            call = ((example_inputs,), {})
        leaves, self._spec = pytree.tree_flatten(call)
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._slots = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.tensors = tuple(_telling(leaves[i].detach().cpu()) for i in self._slots)
        self.input_names = _input_names(example_inputs, len(self.tensors))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the network and return the tensors among its outputs."""
        leaves = list(self._leaves)
        for slot, tensor in zip(self._slots, tensors, strict=True):
            leaves[slot] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        outputs = pytree.tree_leaves(self.network(*args, **kwargs))
        return tuple(output for output in outputs if isinstance(output, Tensor))


def _telling(example: Tensor) -> Tensor:
    """Return an input that shows a difference between two networks: zeros may come out alike from both."""
    if not example.is_floating_point() or example.any():
        return example
    return torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example.dtype)


def _input_names(example_inputs: Any, count: int) -> list[str]:
    if isinstance(example_inputs, dict) and all(isinstance(v, Tensor) for v in example_inputs.values()):
        return [re.sub(r"\W", "_", str(key)) for key in example_inputs]
    return ["input"] if count == 1 else [f"input_{i}" for i in range(count)]


def flat_copy(model: nn.Module, example_inputs: Any) -> FlatNetwork:
    """Return a copy of ``model`` on the CPU in eval mode, ready for export; the original stays untouched."""
    copied = copy.deepcopy(model).cpu()
    copied.requires_grad_(False)
    return FlatNetwork(copied, example_inputs).eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters: what they warn of (a value taken for a constant) is checked by values afterwards.

    Fused attention is off: no exporter knows it.
    """
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with without_fast_paths(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _script(flat: FlatNetwork, *, plain: bool) -> onnx.ModelProto:
    """Export with the TorchScript exporter; ``plain`` keeps batch norms, parameter names and shapes as computed."""
    with _quiet(), torch.no_grad(), tempfile.TemporaryDirectory(prefix="netadapt-") as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            flat,
            flat.tensors,
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=flat.input_names,
            training=torch.onnx.TrainingMode.PRESERVE if plain else torch.onnx.TrainingMode.EVAL,
            do_constant_folding=not plain,
        )
        return onnx.load(path)


def _dynamo(flat: FlatNetwork) -> onnx.ModelProto:
    """Export with the exporter on top of `torch.export`."""
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            flat, flat.tensors, dynamo=True, verbose=False, opset_version=OPSET, input_names=flat.input_names
        )
    assert program is not None
    return program.model_proto


def named_proto(flat: FlatNetwork) -> onnx.ModelProto:
    """Export so that every initializer that is a parameter or buffer keeps its name; nothing is folded.

    Raises:
        Exception: whatever the exporter raises; the caller has another way.
    """
    proto = _script(flat, plain=True)
    for tensor in proto.graph.initializer:
        tensor.name = tensor.name.removeprefix(_PREFIX)
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = name.removeprefix(_PREFIX)
    return proto


def to_proto(model: nn.Module, example_inputs: Any) -> onnx.ModelProto:
    """Export ``model`` as it stands, batch of the example included, and check it by values.

    Args:
        model: left as it is; eval mode is taken from a copy.
        example_inputs: tensor, tuple or dict.

    Raises:
        PlatformError: neither exporter gives a file that computes what the network does.
    """
    try:
        flat = flat_copy(model, example_inputs)
        with torch.no_grad():
            expected = [output.numpy() for output in flat(*flat.tensors)]
    except Exception as error:
        raise PlatformError(
            f"the network cannot be copied and run on its example inputs: {type(error).__name__}: {error}"
        ) from error
    problems = []
    exporters: dict[str, Callable[[FlatNetwork], onnx.ModelProto]] = {
        "TorchScript": partial(_script, plain=False),
        "dynamo": _dynamo,
    }
    for name, exporter in exporters.items():
        try:
            proto = finished(exporter(flat))
            check(proto, flat, expected)
        except Exception as error:  # noqa: BLE001  exporters raise anything; all of it is reported
            problems.append(f"{name} exporter: {type(error).__name__}: {_first_lines(error)}")
            _log.info("%s", problems[-1])
        else:
            return proto
    raise PlatformError("the network cannot be exported to ONNX.\n" + "\n".join(problems))


def finished(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``proto`` in its deployment form, the one that every file has."""
    graph.set_initializers(proto, graph.deployment_form(proto, graph.initializers(proto)))
    return proto


def _first_lines(error: Exception, count: int = 3) -> str:
    return " ".join(str(error).strip().splitlines()[:count])


def run_proto(content: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Run a serialised file once with onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, feeds)
    return outputs


def check(proto: onnx.ModelProto, flat: FlatNetwork, expected: list[np.ndarray]) -> float:
    """Compare the file with the network on the example inputs and return the largest difference, relative.

    Args:
        proto: a finished graph.
        flat: gives the inputs.
        expected: the network's outputs.

    Raises:
        PlatformError: the outputs differ.
    """
    names = [entry.name for entry in proto.graph.input]
    feeds = {name: tensor.numpy() for name, tensor in zip(flat.input_names, flat.tensors, strict=True) if name in names}
    return compare(run_proto(proto.SerializeToString(), feeds), expected)


def compare(outputs: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """Return the largest difference between the outputs of a file and those of the network, relative.

    Raises:
        PlatformError: they differ by more than `TOLERANCE`, or in number, shape or whole numbers.
    """
    if len(outputs) != len(expected):
        raise PlatformError(f"the exported file has {len(outputs)} outputs where the network has {len(expected)}.")
    worst = 0.0
    for got, wanted in zip(outputs, expected, strict=True):
        if got.shape != wanted.shape:
            raise PlatformError(f"the exported file gives shape {got.shape} where the network gives {wanted.shape}.")
        if wanted.size and wanted.dtype.kind == "f":
            worst = max(worst, difference(got, wanted))
        elif not np.array_equal(got, wanted):
            raise PlatformError("the exported file and the network differ in an output of whole numbers.")
    if not worst <= TOLERANCE:
        raise PlatformError(f"the exported file and the network differ by {worst:.1e} of the largest output.")
    return worst


def difference(got: np.ndarray, wanted: np.ndarray) -> float:
    """Return the largest difference relative to the largest finite value; infinite where only one is finite."""
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(got)):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(wanted[finite]).max()) or 1.0
    return float(np.abs(got[finite].astype(np.float64) - wanted[finite]).max()) / scale


def export_onnx(model: nn.Module, example_inputs: Any, path: Path) -> Path:
    """Write ``model`` as an ONNX file that computes the same (checked) and return its path.

    Args:
        model: left as it is.
        example_inputs: tensor, tuple or dict; the deployment shape, batch included.
        path: of the file; folders are created.

    Raises:
        PlatformError: the network cannot be exported.
    """
    content = to_proto(model, example_inputs).SerializeToString()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    temporary.replace(path)
    return path
