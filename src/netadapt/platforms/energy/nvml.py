"""NVML: the energy counter that NVIDIA's driver keeps of a GPU (Volta and later), through its own library."""

from __future__ import annotations

import ctypes

from netadapt.errors import PlatformError, SessionLost

LIBRARY = "libnvidia-ml.so.1"
_NOT_SUPPORTED = 3


class Nvml:
    """The energy of one GPU since the driver was loaded.

    Args:
        index: of the GPU, as ``nvidia-smi`` counts.
        library: of the driver.

    Raises:
        PlatformError: there is no driver, no such GPU, or it has no counter.
    """

    is_counter = True
    interval_s = 0.1
    shortest_s = 2.0  # twenty renewals

    def __init__(self, index: str = "0", library: str = LIBRARY) -> None:
        if not index.isdigit():
            raise PlatformError(f"energy='nvml:{index}': write the GPU's number, e.g. nvml:0.")
        self.name = f"nvml:{index}"
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            raise PlatformError(f"energy=nvml: NVIDIA's driver is not installed here ({error}).") from error
        self._check(self._library.nvmlInit_v2(), "cannot be started")
        self._open = True
        self._device = ctypes.c_void_p()
        found = self._library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(index)), ctypes.byref(self._device))
        try:
            self._check(found, f"has no GPU {index}")
            self.read()
        except PlatformError:
            self.close()
            raise
        self.channels: tuple[str, ...] = (f"GPU {index}",)

    def read(self) -> float:
        """Return joules since the driver was loaded.

        Raises:
            PlatformError: the GPU has no counter.
            SessionLost: it cannot be read now.
        """
        value = ctypes.c_ulonglong()
        status = self._library.nvmlDeviceGetTotalEnergyConsumption(self._device, ctypes.byref(value))
        if status == _NOT_SUPPORTED:
            self._check(status, "has no energy counter")
        self._check(status, "does not tell the energy", SessionLost)
        return value.value / 1000

    def _check(self, status: int, what: str, error: type[PlatformError] = PlatformError) -> None:
        if status:
            raise error(
                f"energy={self.name}: the driver {what} (NVML error {status}). "
                f"See nvidia-smi -q -d POWER; use another sensor, or leave energy out."
            )

    def close(self) -> None:
        """Let go of the driver; idempotent."""
        if self._open:
            self._open = False
            self._library.nvmlShutdown()
