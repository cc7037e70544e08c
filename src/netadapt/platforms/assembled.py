"""A platform made of a runtime and a device; `registry.py` assembles what a platform string names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.errors import PlatformError
from netadapt.platforms.base import Artifact, OperationTime, Reading
from netadapt.platforms.parts import Device, Runtime

if TYPE_CHECKING:
    from torch import nn

    from netadapt.network import Network


class AssembledPlatform:
    """``device/runtime?threads=N``: files come from the runtime, timings from the device.

    Args:
        runtime: owned from now on.
        device: owned from now on.
    """

    deployable = True

    def __init__(self, runtime: Runtime, device: Device) -> None:
        self.runtime, self.device = runtime, device
        parameters = {"threads": device.threads, **device.options, **runtime.options}
        self.name = f"{device.name}/{runtime.name}?" + "&".join(f"{key}={value}" for key, value in parameters.items())
        self.resources = device.resources
        self.exclusive = device.exclusive
        self.costly: bool = getattr(runtime, "costly", False)

    def fingerprint(self) -> Mapping[str, str | int]:
        """Return processor, runtime, version, threads, dtype, the form of our files, and the options of both parts."""
        identity = self.device.identity(self.runtime)
        return {
            "device": identity["device"],
            "runtime": self.runtime.name,
            "version": identity["version"],
            "threads": self.device.threads,
            "dtype": identity.get("dtype", self.runtime.dtype),
            "form": self.runtime.form,
            **self.device.options,
            **self.runtime.options,
        }

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write the file of ``model`` as it stands into ``folder``.

        Raises:
            PlatformError: the network cannot be converted, or the file does not compute what the network does.
        """
        return self.runtime.compile(model, example_inputs, folder)

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write the file of ``network`` with the first ``widths`` units of each group; for timing only.

        Raises:
            PlatformError: an unknown group, a width out of range, or a network that cannot be converted.
        """
        return self.runtime.compile_widths(network, checked_widths(network, widths), folder)

    def session(self, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Time ``artifact`` in a fresh session for about ``seconds`` after ``warmups`` inferences.

        Raises:
            PlatformError: the runtime cannot run the file.
            SessionLost: the session died.
            MeasurementUnusable: the session took longer than the limit.
        """
        return self.device.session(self.runtime, artifact, seconds=seconds, warmups=warmups)

    def profile(self, artifact: Artifact, *, seconds: float) -> tuple[OperationTime, ...] | None:
        """Return what each operation takes, in order of execution; ``None`` without a profiler.

        Raises:
            PlatformError: the runtime cannot run the file.
            SessionLost: the session died.
            MeasurementUnusable: the session took longer than the limit.
        """
        profile = getattr(self.device, "profile", None)
        found: tuple[OperationTime, ...] | None = profile and profile(self.runtime, artifact, seconds=seconds)
        return found

    def environment(self) -> Mapping[str, Any]:
        """Return a snapshot of the device's state."""
        return self.device.environment(self.runtime)

    def close(self) -> None:
        """Close both parts; idempotent."""
        self.device.close()
        self.runtime.close()


def checked_widths(network: Network, widths: Mapping[str, int]) -> dict[str, int]:
    """Return the widths of all groups after checking names and ranges; groups not named keep their width.

    Raises:
        PlatformError: a group that does not exist or a width that it cannot have.
    """
    original, least = network.widths, {group.name: group.narrowest for group in network.groups}
    for name, width in widths.items():
        if name not in original:
            raise PlatformError(f"the network has no channel group {name!r}; it has {', '.join(original)}.")
        if not least[name] <= width <= original[name]:
            raise PlatformError(f"width {width} of {name!r}: allowed are {least[name]} to {original[name]}.")
    return {name: int(widths.get(name, width)) for name, width in original.items()}
