"""A stand-in Android phone: an `adb` program first in PATH, and a folder that it treats as the device."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

STAND_IN = Path(__file__).parents[1] / "platforms/devices/stand_in_adb"
TASKSET = '#!/bin/sh\nSTAND_IN_MASK="$1"; export STAND_IN_MASK; shift; exec "$@"\n'
GETPROP = '#!/bin/sh\ncat "$STAND_IN_ROOT/properties/$1"\n'
# Four small processors, three middle ones, a fast one.
CLOCKS = (1800000, 1800000, 1800000, 1800000, 2400000, 2400000, 2400000, 2800000)
ZONES = {"battery": "61000", "cpu-0-0-usr": "38200", "cpu-1-0-usr": "41300", "soc": "87", "gpuss": "-274000"}


class Phone:
    """The folder behind the stand-in `adb`; see there for what its files mean."""

    def __init__(self, home: Path) -> None:
        self.home, self.root = home, home / "root"
        self.tools = self.root / "data/local/tmp/netadapt"
        self.tools.mkdir(parents=True)
        self.devices("PHONE1\tdevice")
        for name in ("benchmark_model", "benchncnn"):
            shutil.copy(STAND_IN / name, self.tools / name)
        for name, text in {"taskset": TASKSET, "getprop": GETPROP}.items():
            self.write(f"bin/{name}", text).chmod(0o755)
        properties = {"ro.product.model": "Pixel 5", "ro.board.platform": "lito", "ro.build.version.release": "13"}
        for name, text in properties.items():
            self.write(f"properties/{name}", text + "\n")
        for core, clock in enumerate(CLOCKS):
            self.write(f"sys/devices/system/cpu/cpu{core}/cpufreq/cpuinfo_max_freq", f"{clock}\n")
        for zone, (kind, degrees) in enumerate(ZONES.items()):
            self.write(f"sys/class/thermal/thermal_zone{zone}/type", f"{kind}\n")
            self.write(f"sys/class/thermal/thermal_zone{zone}/temp", f"{degrees}\n")
        self.write("proc/loadavg", "1.52 1.33 1.21 3/1500 4242\n")

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def devices(self, *lines: str) -> None:
        """Set the lines of `adb devices`: serial, tab, state."""
        (self.home / "devices").write_text("".join(f"{line}\n" for line in lines))

    def faults(self, *words: str) -> None:
        """Let the next calls fail, one word each; `none` lets one pass."""
        (self.home / "faults").write_text("\n".join(words))

    def behave(self, word: str) -> None:
        """Let the benchmark programs print something else."""
        self.write("behaviour", word)

    def ran(self) -> list[str]:
        """Return what the benchmark programs were asked for."""
        return (self.root / "ran").read_text().splitlines()

    def calls(self) -> list[list[str]]:
        """Return the arguments of all calls of `adb`."""
        path = self.home / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def pushed(self) -> list[Path]:
        """Return the networks that lie on the device."""
        others = [path for path in self.tools.iterdir() if path.name != "running"]
        return sorted(path for path in others if not path.stat().st_mode & stat.S_IXUSR)

    def stuck(self) -> bool:
        """Tell whether the benchmark program that hung is still there."""
        return "benchmark_model" in _command(int((self.root / "stuck").read_text()))


def _command(pid: int) -> str:
    """Return the command line of a process; empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def environment(home: Path) -> dict[str, str]:
    """Return the variables with which the stand-in is found and knows its folder."""
    return {"PATH": f"{STAND_IN}:{os.environ['PATH']}", "NETADAPT_STAND_IN": str(home)}
