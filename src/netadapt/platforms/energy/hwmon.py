"""hwmon: power and energy sensors in ``/sys/class/hwmon``, and the INA3221 monitors of NVIDIA's Jetson boards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from netadapt.errors import PlatformError, SessionLost
from netadapt.platforms.energy.sensor import number, text

#: rails that hold all others of their chip
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN", "5V_IN", "power total")
#: chips that see a part of the machine on which no processor runs
_ELSEWHERE = ("amdgpu", "nouveau", "i915", "xe", "radeon", "nvme", "BAT")
_UPDATES = 20  # of the sensor in a session: one more or less is 5 % at the most
_USUAL_INTERVAL_S = 0.1


@dataclass(frozen=True)
class _Channel:
    """One value of a chip: joules of a counter, or watts."""

    label: str
    is_counter: bool
    read: Callable[[], float | None]


@dataclass(frozen=True)
class _Chip:
    name: str
    folder: Path
    channels: tuple[_Channel, ...]


class Hwmon:
    """Adds up the channels of one chip: the rail of the whole board where it has one, else counters, else all powers.

    Args:
        root: where the system's files are.
        chip: its name, where there are several; of several with one name its folder, e.g. ``hwmon3``.

    Raises:
        PlatformError: no chip has a power sensor, several have and none was named, or none of that name does.
    """

    def __init__(self, root: Path, chip: str | None = None) -> None:
        chips = list(_chips(root))
        found = _choose(chips, chip, root)
        interval_ms = number(found.folder / "update_interval")
        self.name = f"hwmon:{_word(found, chips)}"
        self._channels = found.channels
        self.channels = tuple(channel.label for channel in found.channels)
        self.is_counter = found.channels[0].is_counter
        self.interval_s = interval_ms / 1000 if interval_ms else _USUAL_INTERVAL_S
        self.shortest_s = max(0.5, _UPDATES * self.interval_s)

    def read(self) -> float:
        """Return joules or watts of all channels.

        Raises:
            SessionLost: a channel cannot be read now.
        """
        total = 0.0
        for channel in self._channels:
            value = channel.read()
            if value is None:
                raise SessionLost(f"energy={self.name}: {channel.label} can no longer be read.")
            total += value
        return total

    def close(self) -> None:
        """Do nothing: no file is held open."""


def _choose(chips: list[_Chip], name: str | None, root: Path) -> _Chip:
    """Return the chip of a name, or the only one that sees the processor."""
    names = ", ".join(_word(chip, chips) for chip in chips) or "none"
    named = [chip for chip in chips if name in (chip.name, chip.folder.name)]
    usable = named if name else [chip for chip in chips if not chip.name.startswith(_ELSEWHERE)]
    if len(usable) == 1:
        return usable[0]
    if len(usable) > 1 and name is None:
        raise PlatformError(f"energy=hwmon: several chips measure power; name one, energy=hwmon:CHIP, of {names}.")
    asked = f"chip {name!r} with a power sensor" if name else "power sensor of this board or its processor"
    if len(usable) > 1:
        folders = " or ".join(f"energy=hwmon:{_word(chip, chips)}" for chip in usable)
        raise PlatformError(f"energy=hwmon: several chips are called {name!r}; write {folders}.")
    what = f"there is no {asked} in {root}/class/hwmon"
    raise PlatformError(f"energy=hwmon: {what} (with power sensors: {names}). Use another sensor, or leave energy out.")


def _word(chip: _Chip, chips: list[_Chip]) -> str:
    """Return what a chip is asked for by: its name, or its folder's where others have that name."""
    return chip.name if [other.name for other in chips].count(chip.name) == 1 else chip.folder.name


def _chips(root: Path) -> Iterator[_Chip]:
    """Yield all chips with a channel of power or energy; each once, however many ways lead to it."""
    places = [root / "class/hwmon", *sorted(root.glob("bus/i2c/drivers/ina3221*/*/hwmon"))]
    folders = [folder for place in places for folder in sorted(place.glob("hwmon*"))]
    folders += sorted(root.glob("bus/i2c/drivers/ina3221*/*/iio:device*"))
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        channels = _selected(list(_channels(folder)))
        if channels:
            yield _Chip(text(folder / "name") or folder.name, folder, channels)


def _selected(channels: list[_Channel]) -> tuple[_Channel, ...]:
    """Return the channels that add up to the chip's whole, none counted twice."""
    whole = [channel for channel in channels if channel.label in _WHOLE_BOARD]
    counters = [channel for channel in channels if channel.is_counter]
    sockets = [channel for channel in counters if channel.label.startswith("Esocket")]  # they hold their cores
    return tuple(whole[:1] or sockets or counters or channels)


def _channels(folder: Path) -> Iterator[_Channel]:
    """Yield what a chip measures: energy, power, or voltage times current (INA3221), in any of its dialects."""
    yield from _plain(folder, "energy*_input", is_counter=True, scale=1e-6)
    powers = list(_plain(folder, "power*_input", is_counter=False, scale=1e-6))
    powers = powers or list(_plain(folder, "power*_average", is_counter=False, scale=1e-6))
    yield from powers or _products(folder)
    # older Jetsons: in_power0_input in milliwatts, rail_name_0
    for file in sorted(folder.glob("in_power*_input")):
        index = file.name.removeprefix("in_power").removesuffix("_input")
        yield _Channel(text(folder / f"rail_name_{index}") or file.name, False, _scaled(file, 1e-3))


def _plain(folder: Path, pattern: str, *, is_counter: bool, scale: float) -> Iterator[_Channel]:
    for file in sorted(folder.glob(pattern)):
        if number(file) is not None:
            label = text(folder / f"{file.name.partition('_')[0]}_label") or file.name
            yield _Channel(label, is_counter, _scaled(file, scale))


def _products(folder: Path) -> Iterator[_Channel]:
    """Yield watts of rails with a label, a voltage in millivolts and a current in milliamperes."""
    for current in sorted(folder.glob("curr*_input")):
        index = current.name.removeprefix("curr").removesuffix("_input")
        volts, label = folder / f"in{index}_input", text(folder / f"in{index}_label")
        if label is not None and number(volts) is not None and number(current) is not None:
            yield _Channel(label, False, _product(volts, current))


def _scaled(file: Path, scale: float) -> Callable[[], float | None]:
    def read() -> float | None:
        value = number(file)
        return None if value is None else value * scale

    return read


def _product(volts: Path, current: Path) -> Callable[[], float | None]:
    def read() -> float | None:
        millivolts, milliamperes = number(volts), number(current)
        return None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e6

    return read
