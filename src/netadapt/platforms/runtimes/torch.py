"""PyTorch itself, eager or compiled, on the processor or on a GPU: for networks that are served from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.errors import PlatformError
from netadapt.platforms.artifacts import store
from netadapt.platforms.base import Artifact

if TYPE_CHECKING:
    from torch import nn

    from netadapt.network import Network


class Torch:
    """Writes programs for PyTorch; see `torch_program.py`.

    Batch norms are not folded, and tensors keep the layout that the module gives them: as eager mode has it.

    Args:
        compiled: time `torch.compile` with its defaults instead of eager mode; needs a C++ compiler there.
        cuda: on the first GPU, timed with its events; memory is still that of the process, not of the GPU.
    """

    name = "torch"
    description = "PyTorch, eager or compiled, on the processor or with CUDA"
    requires: Mapping[str, str] = {"torch": "torch"}
    distributions = ("torch",)
    form = 1
    dtype = "float32"

    def __init__(self, *, compiled: bool = False, cuda: bool = False) -> None:
        chosen = {"compiled": compiled, "cuda": cuda}
        self.options: Mapping[str, str | int] = {name: "true" for name, value in chosen.items() if value}
        self.costly = compiled  # in every session anew

    def accelerator(self) -> str | None:
        """Return the name of the GPU of this machine, or ``None`` if the processor computes.

        Raises:
            PlatformError: a GPU is asked for and there is none.
        """
        if "cuda" not in self.options:
            return None
        import torch

        from netadapt.platforms.on_device.engine_torch import require_gpu

        try:
            require_gpu()
        except RuntimeError as error:
            raise PlatformError(f"platform 'torch' cannot be used here: {error}.") from error
        return torch.cuda.get_device_name(0)

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write the program of ``model`` as it stands.

        Raises:
            PlatformError: the network cannot be exported, or the program does not compute what the network does.
        """
        from netadapt.platforms.runtimes.torch_program import to_program

        return store(to_program(model, example_inputs), folder, ".safetensors")

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write the program of ``network`` with the first ``widths`` units of each group; for timing only.

        Raises:
            PlatformError: the network cannot be exported.
        """
        kept = {name: range(width) for name, width in widths.items()}
        return self.compile(network.shrink(kept), network.example_inputs, folder)

    def close(self) -> None:
        """Do nothing: nothing is kept."""
