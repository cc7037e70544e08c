"""The connection to a device: which device, what is repeated, and what arrives."""

from __future__ import annotations

import hashlib

import pytest

from netadapt.errors import MeasurementUnusable, PlatformError
from netadapt.platforms.devices.adb_client import AdbClient


def test_output_and_status_come_back(phone):
    client = AdbClient()
    assert client.shell("echo out; echo err >&2; false") == (1, "out\nerr\n")
    assert client.shell("printf 'no end of line'; (exit 3)") == (3, "no end of line")
    assert client.serial == "PHONE1"


def test_an_old_device_gives_the_status_too(phone):
    phone.faults("old")
    assert AdbClient().shell("echo out; (exit 5)") == (5, "out\n")


@pytest.mark.parametrize(
    ("devices", "serial", "message"),
    [
        ([], "", "exactly one connected device; there are: none"),
        (["A1\tdevice", "B2\tdevice"], "", "there are: A1, B2"),
        (["A1\tdevice"], "B2", "no device 'B2'; connected are: A1"),
        (["A1\tunauthorized"], "A1", "unlock it and confirm"),
        (["A1\toffline"], "", "plug it in again"),
        (["A1\tno permissions (missing udev rules? user is in the plugdev group)"], "A1", "may not open its USB port"),
        (["A1\tbootloader"], "A1", "boot loader"),
        (["A1\thost"], "A1", "must be in state device"),
    ],
)
def test_which_device_there_is(phone, devices, serial, message):
    phone.devices(*devices)
    with pytest.raises(PlatformError, match=message):
        AdbClient(serial).shell("true")


@pytest.mark.parametrize("serial", ["-d", "a b", "x;reboot", "é", "a" * 101, "a/b"])
def test_no_serial_becomes_an_option_or_a_command(serial):
    with pytest.raises(PlatformError, match="no serial of an Android device"):
        AdbClient(serial)


def test_adb_itself_may_lack(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match="adb is not installed"):
        AdbClient().shell("true")


@pytest.mark.parametrize("fault", ["closed", "dies", "vanished"])
def test_errors_of_the_connection_are_repeated(phone, fault):
    phone.faults(fault, fault)
    client = AdbClient()
    assert client.shell("echo here") == (0, "here\n")
    assert len(phone.calls()) == 4  # adb devices and three attempts
    phone.faults(fault, fault, fault)
    with pytest.raises(PlatformError, match="in 3 attempts"):
        client.shell("echo here")


def test_a_commands_own_failure_is_not_repeated(phone):
    assert AdbClient().shell("echo once; (exit 1)")[0] == 1
    assert len(phone.calls()) == 2


def test_a_device_that_withdraws_its_permission_is_told(phone):
    phone.faults("none", "unauthorized")
    client = AdbClient()
    client.shell("true")
    with pytest.raises(PlatformError, match="unlock it and confirm"):
        client.shell("true")


def test_a_slow_device_is_given_up(phone):
    phone.faults("slow")
    with pytest.raises(MeasurementUnusable, match=r"adb shell gave no answer within 0\.5 s"):
        AdbClient().shell("true", limit_s=0.5)


def test_an_endless_answer_is_refused(phone):
    phone.faults("floods")
    with pytest.raises(PlatformError, match="more than 1048576 bytes"):
        AdbClient().shell("true")


def test_a_file_is_pushed_once_and_whole(phone, tmp_path):
    path = tmp_path / "net work.param"
    path.write_bytes(b"layers" * 100)
    client = AdbClient("PHONE1")
    there = client.push(path, "/data/local/tmp/netadapt")
    assert there == f"/data/local/tmp/netadapt/{hashlib.sha256(path.read_bytes()).hexdigest()}.param"
    assert [found.read_bytes() for found in phone.pushed()] == [path.read_bytes()]
    assert client.push(path, "/data/local/tmp/netadapt") == there
    assert sum(call[2:3] == ["push"] for call in phone.calls()) == 1


def test_a_name_that_a_shell_would_read_otherwise_is_not_pushed(phone, tmp_path):
    path = tmp_path / "a.param; reboot"
    path.write_bytes(b"layers")
    with pytest.raises(PlatformError, match=r"'\.param; reboot' is not sent to a device"):
        AdbClient("PHONE1").push(path, "/data/local/tmp/netadapt")
    assert phone.pushed() == []


def test_a_damaged_file_on_the_device_is_replaced(phone, tmp_path):
    path = tmp_path / "a.param"
    path.write_bytes(b"layers")
    client = AdbClient()
    client.push(path, "/data/local/tmp/netadapt")
    phone.pushed()[0].write_bytes(b"other")
    client.push(path, "/data/local/tmp/netadapt")
    assert [found.read_bytes() for found in phone.pushed()] == [b"layers"]


def test_a_torn_file_is_not_left_behind(phone, tmp_path):
    path = tmp_path / "a.param"
    path.write_bytes(b"layers" * 100)
    phone.faults("none", "none", "torn")
    with pytest.raises(PlatformError, match="did not arrive whole"):
        AdbClient().push(path, "/data/local/tmp/netadapt")
    assert phone.pushed() == []


def test_a_full_device_is_told_at_once(phone, tmp_path):
    path = tmp_path / "a.param"
    path.write_bytes(b"layers")
    phone.faults("none", "none", "full")
    with pytest.raises(PlatformError, match="No space left"):
        AdbClient().push(path, "/data/local/tmp/netadapt")
    assert sum(call[2:3] == ["push"] for call in phone.calls()) == 1
