"""Energy of this machine: sensors that Linux and NVIDIA's driver offer, and their integration over a session.

`devices/local.py` opens one with ``?energy=``. Readers of files take the root of the file system as a parameter; they
were tested on trees written by hand in the real layout only.
"""

from __future__ import annotations

from netadapt.platforms.energy.meter import EnergyMeter
from netadapt.platforms.energy.sensor import KINDS, Sensor, open_sensor

__all__ = ["KINDS", "EnergyMeter", "Sensor", "open_sensor"]
