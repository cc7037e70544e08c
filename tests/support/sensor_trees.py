"""Writes sensor trees in the layout of real machines, by hand; energy and power go up and down as a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    return folder


def rapl(root: Path) -> dict[str, Path]:
    """A two-socket Xeon with memory counted apart, parts of packages, the mmio copy, and a platform domain."""
    zones = {
        "intel-rapl:0": ("package-0", 262143328850, 1000),
        "intel-rapl:0:0": ("dram", 65712999613, 500),
        "intel-rapl:0:1": ("core", 262143328850, 400),
        "intel-rapl:1": ("package-1", 262143328850, 2000),
        "intel-rapl:1:0": ("dram", 65712999613, 700),
        "intel-rapl:2": ("psys", 262143328850, 9000),
        "intel-rapl-mmio:0": ("package-0", 262143328850, 1000),
    }
    power = root / "class/powercap"
    write(power / "intel-rapl", enabled=1)
    return {
        zone: write(power / zone, name=name, max_energy_range_uj=limit, energy_uj=energy)
        for zone, (name, limit, energy) in zones.items()
    }


def orin_nano(root: Path) -> Path:
    """Jetson Orin Nano (JetPack 6): one INA3221, voltage and current of three rails, reached by two ways."""
    rails = {"1": ("VDD_IN", 4976, 1120), "2": ("VDD_CPU_GPU_CV", 4976, 240), "3": ("VDD_SOC", 4968, 320)}
    folder = root / "devices/platform/bus@0/c240000.i2c/i2c-1/1-0040/hwmon/hwmon1"
    write(folder, name="ina3221", update_interval=2)
    for index, (label, millivolts, milliamperes) in rails.items():
        files = {f"in{index}_label": label, f"in{index}_input": millivolts, f"curr{index}_input": milliamperes}
        write(folder, **files, **{f"in{int(index) + 3}_input": 5})  # in4 to in6 are shunt voltages
    write(folder, curr4_input=1680, in7_input=15, in7_label="sum of shunt voltages")
    for way in ("class/hwmon/hwmon1", "bus/i2c/drivers/ina3221/1-0040"):
        (root / way).parent.mkdir(parents=True, exist_ok=True)
        (root / way).symlink_to(folder if "class" in way else folder.parents[1], target_is_directory=True)
    return folder


def jetson_nano(root: Path) -> Path:
    """The first Jetson Nano (JetPack 4): the older driver, milliwatts of three rails."""
    folder = root / "bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    rails = {"0": ("POM_5V_IN", 2540), "1": ("POM_5V_GPU", 120), "2": ("POM_5V_CPU", 720)}
    write(folder, name="ina3221x")
    for index, (label, milliwatts) in rails.items():
        write(folder, **{f"rail_name_{index}": label, f"in_power{index}_input": milliwatts})
    return folder


def board(root: Path) -> Path:
    """A board with an INA226 of one power, beside temperatures and fans that measure none."""
    write(root / "class/hwmon/hwmon0", name="cpu_thermal", temp1_input=48312)
    return write(root / "class/hwmon/hwmon1", name="ina226", power1_input=3250000, in1_input=5100, curr1_input=637)


def epyc(root: Path) -> Path:
    """An AMD EPYC with amd_energy: cores and a socket that holds them."""
    folder = write(root / "class/hwmon/hwmon2", name="amd_energy")
    for index, label in enumerate(("Ecore000", "Ecore001", "Esocket0"), start=1):
        write(folder, **{f"energy{index}_input": index * 1_000_000, f"energy{index}_label": label})
    return folder


def desktop(root: Path) -> None:
    """A desktop whose graphics card and battery alone measure power."""
    write(root / "class/hwmon/hwmon0", name="amdgpu", power1_average=23000000)
    write(root / "class/hwmon/hwmon1", name="BAT0", power1_input=7000000)
    write(root / "class/hwmon/hwmon2", name="nct6775", in0_input=816, fan1_input=900)


class Board:
    """A recorded RAPL tree whose counters go up as time passes: 5 watts, and more while it is said to be ``running``.

    Args:
        root: where the system's files are.
        load_watts: of a session.
        runs: asked whether one runs, where nobody sets ``running``.
    """

    def __init__(self, root: Path, load_watts: float, runs: Callable[[], bool] | None = None) -> None:
        self.home = rapl(root)["intel-rapl:0"]
        self.idle_watts, self.load_watts, self.running = 5.0, load_watts, False
        self._runs = runs or (lambda: self.running)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._count)

    def __enter__(self) -> Board:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _count(self) -> None:
        microjoules, before = 1e6, time.monotonic()
        while not self._done.wait(0.002):
            watts, now = self.idle_watts + self._runs() * self.load_watts, time.monotonic()
            microjoules += 1e6 * watts * (now - before)
            before = now
            fresh = self.home / "energy_uj.new"
            fresh.write_text(f"{round(microjoules)}\n")
            fresh.replace(self.home / "energy_uj")
