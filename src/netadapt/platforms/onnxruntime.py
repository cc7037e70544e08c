"""onnxruntime on this machine's processor, with threads and cores fixed: the embedded default platform."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.errors import PlatformError
from netadapt.platforms.artifacts import store
from netadapt.platforms.base import Artifact, Reading
from netadapt.platforms.environment import available_cores, package_version, processor, snapshot
from netadapt.platforms.session_client import SessionClient

if TYPE_CHECKING:
    from torch import nn

    from netadapt.export.slicing import SlicingTemplate
    from netadapt.network import Network

_log = logging.getLogger("netadapt")
#: of the exported files; to be raised whenever the same network gives another file, so that old samples are left alone
_FORM = 2


class OnnxRuntime:
    """onnxruntime's CPU provider; measures latency and memory.

    Args:
        threads: of one inference; the session is bound to the last so many cores that this process may use.
        limit_s: seconds after which a session is given up.

    Raises:
        PlatformError: onnxruntime is not installed, or this machine has too few cores.
    """

    requires = "onnxruntime"
    description = "onnxruntime on this machine's processor"
    resources: tuple[str, ...] = ("latency", "memory")

    def __init__(self, threads: int = 1, limit_s: float = 300.0) -> None:
        if find_spec("onnxruntime") is None:
            raise PlatformError("onnxruntime is not installed; run: pip install onnxruntime")
        if not hasattr(os, "fork"):
            raise PlatformError("local/onnxruntime needs a system that can fork processes (Linux, macOS).")
        cores = available_cores()
        if not 1 <= threads <= len(cores):
            raise PlatformError(f"threads={threads}: allowed are 1 to {len(cores)}, the cores this process may use.")
        if not limit_s > 0:
            raise PlatformError(f"limit_s={limit_s:g}: allowed are seconds above 0.")
        self._threads = threads
        self.name = f"local/onnxruntime?threads={threads}"
        self._client = SessionClient(threads=threads, cores=cores[-threads:], limit_s=limit_s)
        # The template of the network asked for last; None where it cannot be sliced.
        self._template: tuple[Network, SlicingTemplate | None] | None = None

    def fingerprint(self) -> Mapping[str, str | int]:
        """Return processor, runtime, version, threads, dtype and the form of our exports."""
        return {
            "device": processor(),
            "runtime": "onnxruntime",
            "version": package_version("onnxruntime"),
            "threads": self._threads,
            "dtype": "float32",
            "form": _FORM,
        }

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write the ONNX file of ``model`` as it stands into ``folder``.

        Raises:
            PlatformError: the network cannot be exported, or the file does not compute what the network does.
        """
        from netadapt.export.onnx import to_proto

        return store(to_proto(model, example_inputs).SerializeToString(), folder, ".onnx")

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write the ONNX file of ``network`` with the first ``widths`` units of each group; for timing only.

        Raises:
            PlatformError: an unknown group, a width out of range, or a network that cannot be exported.
        """
        kept = {name: range(width) for name, width in checked_widths(network, widths).items()}
        template = self._template_of(network)
        if template is None:
            return self.compile(network.shrink(kept), network.example_inputs, folder)
        return store(template.slice(kept).SerializeToString(), folder, ".onnx")

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

    def session(self, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Time ``artifact`` in a fresh process for about ``seconds`` after ``warmups`` inferences.

        Raises:
            PlatformError: the runtime cannot run the file, or the process died.
            MeasurementUnusable: the session took longer than the limit.
        """
        return self._client.run(artifact.path, seconds=seconds, warmups=warmups)

    def environment(self) -> Mapping[str, Any]:
        """Return a snapshot of this machine's state."""
        return snapshot(("onnxruntime", "onnx", "numpy", "torch"))

    def close(self) -> None:
        """End the session server; idempotent."""
        self._client.close()
        self._template = None


def checked_widths(network: Network, widths: Mapping[str, int]) -> dict[str, int]:
    """Return ``widths`` after checking names and ranges.

    Raises:
        PlatformError: a group that does not exist or a width that it cannot have.
    """
    original = network.widths
    for name, width in widths.items():
        if name not in original:
            raise PlatformError(f"the network has no channel group {name!r}; it has {', '.join(original)}.")
        if not 1 <= width <= original[name]:
            raise PlatformError(f"width {width} of {name!r}: allowed are 1 to {original[name]}.")
    return {name: int(width) for name, width in widths.items()}
