"""Exports a network with `torch.export` as runtimes that convert from PyTorch need it: flat, in eval mode, hashed.

Called by `platforms/runtimes/converted.py`. Programs stay in memory: no ``.pt2`` file is ever written or read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from netadapt.digests import bytes_of
from netadapt.errors import PlatformError
from netadapt.export.onnx import FlatNetwork, flat_copy

# Converters multiply weights when they fold a batch norm; the product of two that are larger is no subnormal number.
SMALLEST = 1e-19


def to_program(model: nn.Module, example_inputs: Any) -> tuple[ExportedProgram, list[NDArray[Any]]]:
    """Return ``model`` as a program of plain tensors in and out, and its outputs on the example inputs.

    Args:
        model: left as it is; eval mode is taken from a copy, whose weights below 1e-19 become zero: processors compute
            with subnormal numbers many times slower.
        example_inputs: tensor, tuple or dict; the deployment shape, batch included.

    Raises:
        PlatformError: the network does not run, or `torch.export` cannot trace it.
    """
    try:
        flat = flat_copy(model, example_inputs)
        _flush(flat)
        with torch.no_grad():
            expected = [output.numpy() for output in flat(*flat.tensors)]
    except Exception as error:
        raise PlatformError(
            f"the network cannot be copied and run on its example inputs: {type(error).__name__}: {error}"
        ) from error
    return _exported(flat), expected


def _exported(flat: FlatNetwork) -> ExportedProgram:
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(flat, flat.tensors, strict=False)
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise PlatformError(
            f"torch.export cannot trace the network: {type(error).__name__}: {first}; "
            "try torch.export.export(model, inputs) alone for its full report."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence `torch.export`, whose failures are reported in one error instead."""
    logger = logging.getLogger("torch.fx.experimental.symbolic_shapes")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = was_disabled


def _flush(flat: FlatNetwork) -> None:
    with torch.no_grad():
        for tensor in (*flat.parameters(), *flat.buffers()):
            if tensor.is_floating_point():
                tensor.masked_fill_(tensor.abs() < SMALLEST, 0.0)


def graph_hash(program: ExportedProgram) -> str:
    """Return a hash of all that ``program`` is except the values of its tensors."""
    parts = [str(program.graph_signature)]
    for name, module in program.graph_module.named_modules():
        if isinstance(module, fx.GraphModule):
            parts += [name, module.code]
    leaves = torch.utils._pytree.tree_leaves(program.example_inputs)
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    parts += [f"{tuple(t.shape)} {t.dtype}" for t in tensors]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def content_hash(program: ExportedProgram) -> str:
    """Return a hash of ``program`` with the values of its parameters, buffers and constants."""
    digest = hashlib.sha256(graph_hash(program).encode())
    for name, tensor in sorted({**program.state_dict, **program.constants}.items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(bytes_of(tensor))
    return digest.hexdigest()
