"""What runtimes that start from an ONNX file share: export once, slice for every candidate, then convert the bytes."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.platforms.base import Artifact

if TYPE_CHECKING:
    from torch import nn

    from netadapt.export.slicing import SlicingTemplate
    from netadapt.network import Network

_log = logging.getLogger("netadapt")


class OnnxBased(ABC):
    """Writes files made from ONNX; subclasses say how in `store`."""

    def __init__(self) -> None:
        # The template of the network asked for last; None where it cannot be sliced.
        self._template: tuple[Network, SlicingTemplate | None] | None = None

    @abstractmethod
    def store(self, onnx_file: bytes, folder: Path) -> Artifact:
        """Write what the runtime loads for an ONNX file into ``folder``.

        Raises:
            PlatformError: the runtime cannot convert it.
        """

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write the file of ``model`` as it stands.

        Raises:
            PlatformError: the network cannot be exported, or the file does not compute what the network does.
        """
        from netadapt.export.onnx import to_proto

        return self.store(to_proto(model, example_inputs).SerializeToString(), folder)

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write the file of ``network`` with the first ``widths`` units of each group; for timing only.

        Raises:
            PlatformError: the network cannot be exported.
        """
        kept = {name: range(width) for name, width in widths.items()}
        template = self._template_of(network)
        if template is None or not all(widths.values()):  # without a whole block it is another graph
            return self.compile(network.shrink(kept), network.example_inputs, folder)
        return self.store(template.slice(kept).SerializeToString(), folder)

    def _template_of(self, network: Network) -> SlicingTemplate | None:
        """Return the verified template of ``network``, or ``None`` where each width needs a full export."""
        from netadapt.export.slicing import NotSliceable, SlicingTemplate

        if self._template is None or self._template[0] is not network:
            template: SlicingTemplate | None
            try:
                template = SlicingTemplate(network)
                template.verify(network)
            except NotSliceable as error:
                _log.info("each width of this network is exported in full: %s", error)
                template = None
            self._template = (network, template)
        return self._template[1]

    def close(self) -> None:
        """Forget the template; idempotent."""
        self._template = None
