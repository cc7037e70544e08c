"""Energy of this machine: sensors that Linux and NVIDIA's driver offer, and their integration over a session.

`devices/local.py` opens one with ``?energy=``, `on_device/measure_once.py` on a device: nothing here needs more than
Python's own library, 3.9 or later. Readers of files take the root of the file system as a parameter; they
were tested on trees written by hand in the real layout only.
"""

from __future__ import annotations

from netadapt.platforms.energy.meter import EnergyMeter
from netadapt.platforms.energy.sensor import KINDS, Sensor, check_kind, open_sensor

__all__ = ["KINDS", "EnergyMeter", "Sensor", "check_kind", "open_sensor"]
