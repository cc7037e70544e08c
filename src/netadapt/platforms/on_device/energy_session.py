"""Energy of sessions on a device: its sensor, and a session with what it costs; imported only where that is asked for.

`netadapt.platforms.energy` and the errors that it raises are the only parts of netadapt in the archive.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.platforms.energy import EnergyMeter, open_sensor

Run = Callable[[float, EnergyMeter], dict[str, Any]]


def meter_of(kind: str) -> EnergyMeter:
    """Return what measures energy.

    Raises:
        PlatformError: the sensor is not here, or may not be read.
    """
    sensor = open_sensor(kind)
    assert sensor is not None  # neither `none` nor `auto` comes here
    return EnergyMeter(sensor)


def described(kind: str) -> dict[str, Any]:
    """Return the ``sensor`` of this machine, its name and channels; or why there is ``no_sensor``."""
    try:
        return _described(meter_of(kind))
    except PlatformError as error:
        return {"no_sensor": str(error)}


def _described(meter: EnergyMeter) -> dict[str, Any]:
    return {"sensor": {"name": meter.sensor.name, "channels": list(meter.sensor.channels)}}


def session(kind: str, run: Run, seconds: float) -> dict[str, Any]:
    """Run a session with its energy.

    Args:
        kind: of sensor.
        run: given the seconds to time and what records meanwhile.
        seconds: to time at least.

    Returns:
        What ``run`` returns with ``energy_mj`` and ``sensor``; or ``no_sensor``, ``lost`` (the sensor, for a moment) or
        ``unusable``, why there is none.
    """
    try:
        meter = meter_of(kind)
        return meter.session(lambda enough: run(enough, meter), seconds) | _described(meter)
    except SessionLost as error:
        return {"lost": str(error)}
    except PlatformError as error:
        return {"no_sensor": str(error)}
    except MeasurementUnusable as error:
        return {"unusable": str(error)}
