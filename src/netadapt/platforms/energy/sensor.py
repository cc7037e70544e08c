"""What an energy sensor is, and which one a word of a platform string opens."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from netadapt.errors import PlatformError, did_you_mean

_log = logging.getLogger("netadapt")
KINDS = ("none", "auto", "rapl", "hwmon", "nvml")


class Sensor(Protocol):
    """A power meter of this machine.

    Attributes:
        name: how to ask for it, e.g. ``rapl`` or ``hwmon:ina3221``.
        channels: what it adds up, for the record.
        is_counter: whether `read` gives joules since some moment, rather than watts now.
        interval_s: how often the hardware renews its value; reading more often gives nothing new.
        shortest_s: how long a session must last for one renewal more or less not to matter.
    """

    name: str
    channels: tuple[str, ...]
    is_counter: bool
    interval_s: float
    shortest_s: float

    def read(self) -> float:
        """Return joules (never falling) or watts.

        Raises:
            SessionLost: it cannot be read now.
        """
        ...

    def close(self) -> None:
        """Release what it holds; idempotent."""
        ...


def check_kind(kind: str, kinds: Sequence[str] = KINDS) -> tuple[str, str]:
    """Return the word of ``energy=KIND`` and what follows its colon.

    Args:
        kind: as users write it.
        kinds: allowed words.

    Raises:
        PlatformError: an unknown word, or one that has nothing behind a colon.
    """
    word, colon, which = kind.partition(":")
    if word not in kinds or (colon and (not which or word not in ("hwmon", "nvml"))):
        raise PlatformError(
            f"energy={kind!r} is unknown{did_you_mean(word, list(kinds))}; allowed are {', '.join(kinds)}, "
            f"hwmon:CHIP (or its folder) and nvml:INDEX."
        )
    return word, which


def open_sensor(kind: str, root: Path | None = None) -> Sensor | None:
    """Return the sensor that ``energy=KIND`` asks for.

    Args:
        kind: ``none``; ``auto``: RAPL, else a hwmon sensor, else none (never NVML, which does not see the processor);
            ``rapl``; ``hwmon`` or ``hwmon:CHIP``; ``nvml`` or ``nvml:INDEX``.
        root: where the system's files are; by default ``$NETADAPT_SYS`` (a container may have them elsewhere) or
            ``/sys``.

    Raises:
        PlatformError: an unknown word, or a sensor that is not there, not readable, or one of several.
    """
    from netadapt.platforms.energy.hwmon import Hwmon
    from netadapt.platforms.energy.nvml import Nvml
    from netadapt.platforms.energy.rapl import Rapl

    word, which = check_kind(kind)
    root = root or Path(os.environ.get("NETADAPT_SYS", "/sys"))
    if word == "none":
        return None
    if word == "auto":
        return _first(root)
    if word == "rapl":
        return Rapl(root)
    if word == "hwmon":
        return Hwmon(root, which or None)
    return Nvml(which or "0")


def _first(root: Path) -> Sensor | None:
    """Return the first sensor that works without being named."""
    from netadapt.platforms.energy.hwmon import Hwmon
    from netadapt.platforms.energy.rapl import Rapl

    for sensor in (Rapl, Hwmon):
        try:
            return sensor(root)
        except PlatformError as error:
            if isinstance(error.__context__, PermissionError):  # it is there, and can be had
                _log.warning("%s", error)
    return None


def number(path: Path) -> int | None:
    """Return the whole number in a small file of the system, ``None`` where there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def text(path: Path) -> str | None:
    """Return the text of a small file of the system, ``None`` where there is none."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
