"""From the name of an operation in a runtime back to the layer of the network that it computes.

Exporters name a node by the path of its module, ``/network/blocks/blocks.0/pointwise/Conv``, and by its operation
where a function was called. A runtime keeps the name of one of the nodes that it fuses, or of what they put out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from netadapt.network.structure import Layer

_ROOT = "network."  # our exporter's name for the user's module
_MARKS = re.compile(r"(_nchwc|_token_\d+)+$")  # what runtimes append to the names of nodes and of what they put out
_OUTPUT = re.compile(r"_output_\d+$")  # what exporters append to the name of a node for what it puts out
_CALL = re.compile(r"_(\d+)$")
#: what an operation is called in ONNX, where it is not the lower case of ours
_ALIASES = {
    "reducemean": "mean",
    "globalaveragepool": "mean",
    "gemm": "linear",
    "conv": "conv2d",
    "clip": "hardtanh",
    "batchnormalization": "batch_norm",
}
_FUSED_KINDS = ("norm", "elementwise")  # of layers that runtimes fuse into the layer before


class Names:
    """Looks up layers by the names of a runtime's operations.

    Args:
        layers: of the network, in order of execution.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._owners = owners(layers)

    def __call__(self, operation: str) -> str | None:
        """Return the layer that an operation belongs to, see `owners`; ``None`` where its name does not tell."""
        parts = _OUTPUT.sub("", unmarked(operation)).strip("/").split("/")
        # Runtimes also append components: /network/stem/Conv/WithoutBiases.
        for end in range(len(parts), 0, -1):
            for candidate in _candidates(parts[:end]):
                if candidate in self._owners:
                    return self._owners[candidate]
        return None


def unmarked(operation: str) -> str:
    """Return the name of an operation as it stands in the file, without what its runtime appended."""
    return _MARKS.sub("", operation)


def owners(layers: Sequence[Layer]) -> dict[str, str]:
    """Return for every layer the one whose row it is told in: norms and activations go with what comes before them."""
    found: dict[str, str] = {}
    last = None
    for layer in layers:
        if last is None or layer.kind not in _FUSED_KINDS:
            last = layer.name
        found[layer.name] = last
    return found


def _candidates(parts: Sequence[str]) -> list[str]:
    """Return the names that a layer at a path may have: of a module, or of a function called in one."""
    *scope, last = parts
    lower = last.lower()
    stem, call = _CALL.sub("", lower), _CALL.search(last)
    ordinal = f"#{int(call[1]) + 1}" if call else ""
    operations = [lower, f"{stem}{ordinal}", f"{_ALIASES.get(stem, stem)}{ordinal}"]
    paths = [_qualified(parts), f"{_qualified([*scope, _CALL.sub('', last)])}{ordinal}"]
    return [*paths, *(_qualified([*scope, operation]) for operation in operations)]


def _qualified(parts: Sequence[str]) -> str:
    """Join the components of a path below the root; those in containers repeat its name: ``blocks/blocks.0``."""
    joined: list[str] = []
    for part in parts:
        if joined and part.startswith(f"{joined[-1]}."):
            joined.pop()
        joined.append(part)
    return ".".join(joined).removeprefix(_ROOT)
