"""hwmon on trees in the layout of real ones: which channels of which chip, in watts or joules, and what is refused."""

from __future__ import annotations

import shutil

import pytest
import sensor_trees as trees

from netadapt.errors import PlatformError, SessionLost
from netadapt.platforms.energy.hwmon import Hwmon


@pytest.mark.parametrize(
    ("tree", "name", "channels", "value", "is_counter"),
    [
        (trees.orin_nano, "hwmon:ina3221", ("VDD_IN",), 4.976 * 1.120, False),
        (trees.jetson_nano, "hwmon:ina3221x", ("POM_5V_IN",), 2.540, False),
        (trees.board, "hwmon:ina226", ("power1_input",), 3.25, False),
        (trees.epyc, "hwmon:amd_energy", ("Esocket0",), 3.0, True),
    ],
)
def test_boards(tmp_path, tree, name, channels, value, is_counter):
    tree(tmp_path)
    sensor = Hwmon(tmp_path)
    assert (sensor.name, sensor.channels, sensor.is_counter) == (name, channels, is_counter)
    assert sensor.read() == pytest.approx(value)


def test_rails_are_added_up_where_none_holds_the_others(tmp_path):
    folder = trees.orin_nano(tmp_path)
    trees.write(folder, in1_label="VDD_GPU_SOC")
    sensor = Hwmon(tmp_path)
    assert sensor.channels == ("VDD_GPU_SOC", "VDD_CPU_GPU_CV", "VDD_SOC")
    assert sensor.read() == pytest.approx(4.976 * 1.120 + 4.976 * 0.240 + 4.968 * 0.320)


def test_sessions_last_twenty_renewals_and_half_a_second_at_least(tmp_path):
    folder = trees.orin_nano(tmp_path)
    assert (Hwmon(tmp_path).interval_s, Hwmon(tmp_path).shortest_s) == (0.002, 0.5)
    trees.write(folder, update_interval=140)
    assert Hwmon(tmp_path).shortest_s == pytest.approx(2.8)
    (folder / "update_interval").unlink()
    assert Hwmon(tmp_path).shortest_s == pytest.approx(2.0)


def test_sensors_of_other_parts_are_never_taken_unasked(tmp_path):
    trees.desktop(tmp_path)
    with pytest.raises(PlatformError, match=r"no power sensor.*amdgpu, BAT0"):
        Hwmon(tmp_path)
    assert Hwmon(tmp_path, "amdgpu").read() == pytest.approx(23.0)


def test_of_several_chips_one_must_be_named(tmp_path):
    trees.board(tmp_path)
    trees.epyc(tmp_path)
    with pytest.raises(PlatformError, match=r"name one, energy=hwmon:CHIP, of ina226, amd_energy"):
        Hwmon(tmp_path)
    assert Hwmon(tmp_path, "ina226").name == "hwmon:ina226"
    with pytest.raises(PlatformError, match=r"no chip 'ina3221'.*ina226"):
        Hwmon(tmp_path, "ina3221")


def test_a_board_without_sensors_is_told(tmp_path):
    with pytest.raises(PlatformError, match=r"with power sensors: none"):
        Hwmon(tmp_path)


def test_a_sensor_that_has_gone_is_told(tmp_path):
    folder = trees.board(tmp_path)
    sensor = Hwmon(tmp_path)
    (folder / "power1_input").unlink()
    with pytest.raises(SessionLost, match="can no longer be read"):
        sensor.read()


def test_of_several_chips_of_one_name_the_folder_tells(tmp_path):
    first = trees.board(tmp_path)
    second = first.with_name("hwmon9")
    shutil.copytree(first, second)
    trees.write(second, power1_input=1_000_000)
    with pytest.raises(PlatformError, match=rf"write energy=hwmon:{first.name} or energy=hwmon:hwmon9"):
        Hwmon(tmp_path, "ina226")
    assert Hwmon(tmp_path, "hwmon9").read() == pytest.approx(1.0)
    assert Hwmon(tmp_path, "hwmon9").name == "hwmon:hwmon9"  # what it is measured with can be asked for again
    with pytest.raises(PlatformError, match=rf"of {first.name}, hwmon9"):
        Hwmon(tmp_path)
    assert Hwmon(tmp_path, first.name).read() == pytest.approx(3.25)
