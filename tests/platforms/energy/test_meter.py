"""From sensors to joules: counters and powers, idle power, and sensors that fail while something runs."""

from __future__ import annotations

import time

import pytest

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.platforms.energy.meter import EnergyMeter


class Constant:
    """A sensor of a constant power, as watts or as a counter of joules."""

    name, channels, interval_s, shortest_s = "constant", ("all",), 0.01, 0.2

    def __init__(self, watts, is_counter, fails_after=None):
        self.watts, self.is_counter, self.fails_after, self.reads = watts, is_counter, fails_after, 0
        self.joules, self.since = 0.0, time.monotonic()

    def read(self):
        self.reads += 1
        if self.fails_after is not None and self.reads > self.fails_after:
            raise PlatformError("the sensor has gone")
        now = time.monotonic()
        self.joules, self.since = self.joules + self.watts * (now - self.since), now
        return self.joules if self.is_counter else self.watts

    def change(self, watts):
        self.read()
        self.watts = watts

    def close(self):
        pass


@pytest.mark.parametrize("is_counter", [True, False])
def test_energy_above_idle(is_counter):
    sensor = Constant(4.0, is_counter)
    meter = EnergyMeter(sensor)
    idle = meter.idle_watts()
    assert idle == pytest.approx(4.0, rel=0.05)
    sensor.change(10.0)
    with meter.recording():
        began = time.monotonic()
        time.sleep(0.2)
        ended = time.monotonic()
    assert meter.joules(began, ended) == pytest.approx(10.0 * (ended - began), rel=0.05)
    per_inference = meter.millijoules_per_inference(idle, began, ended, 100)
    assert per_inference == pytest.approx(1000 * 6.0 * (ended - began) / 100, rel=0.1)


def test_parts_of_a_recording_add_up():
    meter = EnergyMeter(Constant(2.0, False))
    with meter.recording():
        began = time.monotonic()
        time.sleep(0.1)
        middle = time.monotonic()
        time.sleep(0.1)
        ended = time.monotonic()
    assert meter.joules(began, middle) + meter.joules(middle, ended) == pytest.approx(meter.joules(began, ended))


def recorded(meter, inferences=10):
    def run(seconds):
        meter.begin()
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            time.sleep(meter.interval_s)
            meter.sample()
        ended = time.monotonic()
        meter.sample()
        return {"window_s": [began, ended], "inferences": inferences}

    return run


@pytest.mark.parametrize("is_counter", [True, False])
def test_a_session_lasts_long_enough_and_has_its_energy(is_counter):
    sensor = Constant(4.0, is_counter)
    meter, asked = EnergyMeter(sensor), []

    def run(seconds):
        asked.append(seconds)
        sensor.change(10.0)
        return recorded(meter)(seconds)

    answer = meter.session(run, 0.01)
    assert asked == [sensor.shortest_s]
    began, ended = answer["window_s"]
    assert answer["energy_mj"] == pytest.approx(1000 * 6.0 * (ended - began) / 10, rel=0.1)


def test_a_session_that_costs_nothing_is_repeated_once_and_refused():
    sensor, tries = Constant(4.0, True), []
    meter = EnergyMeter(sensor)

    def run(seconds):
        tries.append(seconds)
        sensor.change(3.0)
        answer = recorded(meter)(seconds)
        sensor.change(4.0)
        return answer

    with pytest.raises(MeasurementUnusable, match=r"energy=constant: .*no more power than the idle machine \(4"):
        meter.session(run, 0.01)
    assert len(tries) == 2


def test_a_session_that_failed_has_no_energy():
    assert EnergyMeter(Constant(4.0, True)).session(lambda _: {"error": "cannot"}, 0.01) == {"error": "cannot"}


def test_less_than_idle_is_negative_for_the_caller_to_refuse():
    sensor = Constant(4.0, True)
    meter = EnergyMeter(sensor)
    with meter.recording():
        began = time.monotonic()
        time.sleep(0.1)
        ended = time.monotonic()
    assert meter.millijoules_per_inference(5.0, began, ended, 1) < 0


def test_a_sensor_that_fails_meanwhile_is_told():
    meter = EnergyMeter(Constant(1.0, True, fails_after=3))
    with pytest.raises(PlatformError, match="has gone"):
        meter.idle_watts()


def test_moments_outside_of_the_recording_are_refused():
    meter = EnergyMeter(Constant(1.0, True))
    with meter.recording():
        began = time.monotonic()
    with pytest.raises(MeasurementUnusable, match="outside"):
        meter.joules(began, time.monotonic() + 10)
