"""NVML through a library with the driver's functions, built here in C: there is no GPU where the tests run."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from needs import lacking

from netadapt.errors import PlatformError
from netadapt.platforms.energy.nvml import Nvml

DRIVER = """
static unsigned long long energy = 1000; static int open_count = 0;
int nvmlInit_v2(void) { open_count++; return 0; }
int nvmlShutdown(void) { open_count--; return 0; }
int opened(void) { return open_count; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index > 1) return 2;
    *device = (void *)(0x7f0000000000 + index);
    return 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    if (device == (void *)0x7f0000000001) return 3;  /* the second GPU is too old */
    if (device != (void *)0x7f0000000000) return 2;
    *millijoules = (energy += 2500) + (1ULL << 40);
    return 0;
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        lacking("there is no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(DRIVER)
    library = folder / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "driver.c"], check=True)
    return str(library)


def test_joules_since_the_driver_was_loaded(driver):
    sensor = Nvml("0", driver)
    first = sensor.read()
    assert first > 2**40 / 1000
    assert sensor.read() - first == pytest.approx(2.5)
    assert (sensor.name, sensor.channels, sensor.is_counter) == ("nvml:0", ("GPU 0",), True)
    sensor.close()
    sensor.close()
    assert sensor._library.opened() == 0


@pytest.mark.parametrize(("index", "message"), [("1", "no energy counter"), ("7", "no GPU 7"), ("x", "write the GPU")])
def test_what_a_gpu_lacks_is_told_and_the_driver_let_go(driver, index, message):
    with pytest.raises(PlatformError, match=message):
        Nvml(index, driver)
    sensor = Nvml("0", driver)
    assert sensor._library.opened() == 1
    sensor.close()


def test_a_machine_without_driver_is_told(tmp_path):
    with pytest.raises(PlatformError, match="driver is not installed"):
        Nvml("0", str(tmp_path / "libnvidia-ml.so.1"))
