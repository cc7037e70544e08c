"""RAPL on a tree in the layout of real ones: what is added up, wrap-arounds, and what is refused."""

from __future__ import annotations

import os

import pytest
import sensor_trees as trees

from netadapt.errors import PlatformError, SessionLost
from netadapt.platforms.energy.rapl import Rapl


def test_packages_and_their_memory_are_added_up_once(tmp_path):
    zones = trees.rapl(tmp_path)
    sensor = Rapl(tmp_path)
    assert sensor.channels == (
        "package-0 (intel-rapl:0)", "dram (intel-rapl:0:0)", "package-1 (intel-rapl:1)", "dram (intel-rapl:1:0)"
    )  # fmt: skip
    assert sensor.read() == 0
    for zone, home in zones.items():
        before = int((home / "energy_uj").read_text())
        trees.write(home, energy_uj=before + (1_000_000 if zone.startswith("intel-rapl:") else 77_000_000))
    assert sensor.read() == pytest.approx(4.0)


def test_a_counter_that_wraps_goes_on(tmp_path):
    package = trees.rapl(tmp_path)["intel-rapl:0"]
    limit = int((package / "max_energy_range_uj").read_text())
    trees.write(package, energy_uj=limit - 1_000_000)
    sensor = Rapl(tmp_path)
    for energy, joules in ((limit - 500_000, 0.5), (2_000_000, 3.0), (3_000_000, 4.0)):
        trees.write(package, energy_uj=energy)
        assert sensor.read() == pytest.approx(joules)


def test_a_machine_without_counters_is_told(tmp_path):
    with pytest.raises(PlatformError, match="no energy counters"):
        Rapl(tmp_path)


def test_a_counter_for_root_only_names_the_command_that_opens_it(tmp_path, monkeypatch):
    package = trees.rapl(tmp_path)["intel-rapl:0"]
    (package / "energy_uj").chmod(0)
    if os.access(package / "energy_uj", os.R_OK):  # root may read everything: let the system refuse instead
        read = type(package).read_text

        def refuse(path, *arguments, **options):
            if path == package / "energy_uj":
                raise PermissionError(13, "Permission denied")
            return read(path, *arguments, **options)

        monkeypatch.setattr(type(package), "read_text", refuse)
    with pytest.raises(PlatformError, match=r"sudo chmod a\+r .*energy_uj"):
        Rapl(tmp_path)


def test_a_counter_that_cannot_be_read_is_told(tmp_path):
    package = trees.rapl(tmp_path)["intel-rapl:0"]
    sensor = Rapl(tmp_path)
    (package / "energy_uj").unlink()
    with pytest.raises(SessionLost, match="can no longer be read"):
        sensor.read()
    with pytest.raises(PlatformError, match="cannot be read"):
        Rapl(tmp_path)


def test_without_its_range_a_wrap_could_not_be_told(tmp_path):
    (trees.rapl(tmp_path)["intel-rapl:1"] / "max_energy_range_uj").unlink()
    with pytest.raises(PlatformError, match="max_energy_range_uj is missing"):
        Rapl(tmp_path)
