"""Compares an exported file with the network it came from, on inputs that are not all zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from netadapt.errors import PlatformError
from netadapt.export.onnx import TOLERANCE, flat_copy, run_proto


def largest_difference(path: Path, network: nn.Module, example_inputs: Any, *, seed: int = 0) -> tuple[float, float]:
    """Return the largest absolute difference of the outputs, and the largest output.

    Args:
        path: an ONNX file made from ``network``.
        network: left as it is.
        example_inputs: their shapes and types are used; numbers are drawn anew.
        seed: of the numbers.

    Raises:
        PlatformError: the file does not compute what the network does.
    """
    import onnx

    generator = torch.Generator().manual_seed(seed)

    def drawn(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            return leaf
        return torch.randn(leaf.shape, generator=generator).to(leaf)

    flat = flat_copy(network, tree_map(drawn, example_inputs))
    with torch.no_grad():
        expected = [output.double() for output in flat(*flat.tensors)]
    content = path.read_bytes()
    used = {entry.name for entry in onnx.load_from_string(content).graph.input}
    feeds = {name: t.numpy() for name, t in zip(flat.input_names, flat.tensors, strict=True) if name in used}
    got = [torch.from_numpy(output).double() for output in run_proto(content, feeds)]
    difference = max(float((a - b).abs().max()) for a, b in zip(got, expected, strict=True))
    scale = max(float(output.abs().max()) for output in expected)
    if not difference <= TOLERANCE * max(scale, 1e-30):
        raise PlatformError(
            f"{path} and the network differ by {difference:.2g} (outputs up to {scale:.3g}); do not use this file."
        )
    return difference, scale
