"""RAPL: the energy counters of Intel and AMD processors, in ``/sys/class/powercap``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from netadapt.errors import PlatformError, SessionLost
from netadapt.platforms.energy.sensor import number, text


@dataclass
class _Zone:
    """One counter, which starts again at 0 after ``limit_uj``."""

    name: str
    file: Path
    limit_uj: int
    last_uj: int
    total_uj: int = 0

    def advance(self) -> int:
        """Read the counter and return microjoules since it was opened."""
        now = number(self.file)
        if now is None:
            raise SessionLost(f"energy=rapl: {self.file} can no longer be read.")
        self.total_uj += now - self.last_uj if now >= self.last_uj else now + self.limit_uj - self.last_uj
        self.last_uj = now
        return self.total_uj


class Rapl:
    """Adds up the packages of this machine and their memory where it is counted apart.

    Cores and graphics are parts of a package, and ``psys`` holds the packages: they are left out.

    Args:
        root: where the system's files are.

    Raises:
        PlatformError: there are no counters, or they may not be read.
    """

    name = "rapl"
    is_counter = True
    interval_s = 0.001
    shortest_s = 0.5

    def __init__(self, root: Path) -> None:
        folder = root / "class/powercap"
        homes = [home for home in sorted(folder.glob("intel-rapl:*")) if _counts(text(home / "name"))]
        if not homes:
            raise PlatformError(
                f"energy=rapl: there are no energy counters in {folder} (a virtual machine or a processor without). "
                f"Use another sensor, or leave energy out."
            )
        self._zones = [_open(home) for home in homes]
        self.channels = tuple(zone.name for zone in self._zones)

    def read(self) -> float:
        """Return joules since this object was made; to be called once a minute or more, lest a counter wrap twice."""
        return sum(zone.advance() for zone in self._zones) / 1e6

    def close(self) -> None:
        """Do nothing: no file is held open."""


def _counts(name: str | None) -> bool:
    return name is not None and (name.startswith("package") or name == "dram")


def _open(home: Path) -> _Zone:
    file, limit = home / "energy_uj", number(home / "max_energy_range_uj")
    try:
        now = int(file.read_text())
    except PermissionError:
        raise PlatformError(
            f"energy=rapl: {file} may be read by root only. "
            f"Allow it with: sudo chmod a+r {file} (lasts until the next start)."
        ) from None
    except (OSError, ValueError) as error:
        raise PlatformError(f"energy=rapl: {file} cannot be read ({error}). Leave energy out.") from None
    if not limit:
        raise PlatformError(f"energy=rapl: {home}/max_energy_range_uj is missing, so a wrap-around cannot be told.")
    return _Zone(f"{text(home / 'name')} ({home.name})", file, limit, now)
