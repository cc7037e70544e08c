"""What runtimes share whose files are converted from PyTorch, each network in full: check by values, and a cache.

A conversion takes seconds. It runs in a process of its own (`conversion_client.py`), and its file is kept on disk
(`conversion_cache.py`): by content for networks as they stand, by structure and widths for those that are only timed.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.errors import PlatformError
from netadapt.files import cache_folder
from netadapt.platforms.artifacts import store
from netadapt.platforms.base import Artifact
from netadapt.platforms.environment import package_version
from netadapt.platforms.runtimes.conversion_cache import ConversionCache
from netadapt.platforms.runtimes.conversion_client import ConversionClient

if TYPE_CHECKING:
    from torch import nn

    from netadapt.network import Network


class Converted(ABC):
    """Writes converted files; a subclass names its converter, `converters/converter_NAME.py`, and its suffix."""

    name: str
    suffix: str
    distributions: tuple[str, ...]
    form: int
    costly = True

    def __init__(self) -> None:
        self._client = ConversionClient(self.name)
        self._cache = ConversionCache(cache_folder() / "converted" / self.name, self.suffix)
        # The traced graph, as a hash, of the network asked for last.
        self._graph: tuple[Network, str] | None = None

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write the file of ``model`` as it stands.

        Raises:
            PlatformError: the network cannot be converted, or the file does not compute what the network does.
        """
        from netadapt.export.program import content_hash, to_program

        program, expected = to_program(model, example_inputs)
        key = self._key(content=content_hash(program))
        content = self._cache.get(key)
        if content is None:
            content = self._convert(program, expected)
            self._cache.put(key, content)
        return store(content, folder, self.suffix)

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write the file of ``network`` with the first ``widths`` units of each group; for timing only.

        The weights are those of the network of this structure that was converted first: they do not matter here.

        Raises:
            PlatformError: the network cannot be converted.
        """
        from netadapt.export.program import to_program

        key = self._key(structure=self._structure(network), widths=dict(sorted(widths.items())))
        content = self._cache.get(key)
        if content is None:
            shrunk = network.shrink({name: range(width) for name, width in widths.items()})
            content = self._convert(*to_program(shrunk, network.example_inputs))
            self._cache.put(key, content)
        return store(content, folder, self.suffix)

    def _convert(self, program: Any, expected: list[Any]) -> bytes:
        """Convert and compare by values."""
        from netadapt.export.onnx import compare

        content, outputs = self._client.convert(program)
        try:
            compare(outputs, expected)
        except PlatformError as error:
            raise PlatformError(f"{self.name} does not compute what the network does: {error}") from error
        return content

    def _structure(self, network: Network) -> str:
        """Return a hash of the groups, the layers and the whole graph of ``network``, for all weights the same."""
        from netadapt.export.program import graph_hash, to_program

        if self._graph is None or self._graph[0] is not network:
            program, _ = to_program(network.model, network.example_inputs)
            self._graph = (network, graph_hash(program))
        return f"{network.structure_hash()} {self._graph[1]}"

    def _key(self, **subject: Any) -> str:
        """Return the name of a file in the cache; all that the file depends on beside ``subject`` is in it."""
        versions = {name: package_version(name) for name in (*self.distributions, "torch")}
        text = json.dumps({"runtime": self.name, "form": self.form, "versions": versions, **subject}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def close(self) -> None:
        """End the converter's process and forget the network; idempotent."""
        self._client.close()
        self._graph = None
