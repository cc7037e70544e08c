"""An Android device behind a stand-in `adb`: conformance with ncnn, pinning, cooling, and what goes wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from needs import needs
from processes import until

from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.platforms import resolve_platform
from netadapt.platforms.artifacts import store, store_several
from netadapt.platforms.devices import adb, adb_client
from netadapt.platforms.devices.adb import Adb
from netadapt.testing import PlatformSuite

LITERT = SimpleNamespace(name="litert", options={}, dtype="float32", form=1)
NCNN = SimpleNamespace(name="ncnn", options={}, dtype="float32", form=1)


class TestAdbWithNcnn(PlatformSuite):
    @pytest.fixture(autouse=True)
    def connected(self, phone):
        needs("ncnn", "pnnx")

    def make_platform(self):
        return resolve_platform("adb://PHONE1/ncnn")

    def assert_same_network(self, first, second):
        kinds = [[line.split()[0] for line in a.companions[0].read_text().splitlines()[2:]] for a in (first, second)]
        assert kinds[0] == kinds[1]


@pytest.mark.slow
@pytest.mark.needs("litert_torch", "ai_edge_litert")
class TestAdbWithLiteRt(PlatformSuite):
    @pytest.fixture(autouse=True)
    def connected(self, phone, converted, monkeypatch):
        monkeypatch.setenv("NETADAPT_CACHE", str(converted))

    def make_platform(self):
        return resolve_platform("adb://PHONE1/litert")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """What takes seconds to convert is shared by the tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def network(tmp_path):
    return store(b"TFL3" + b"x" * 1000, tmp_path, ".tflite")


@pytest.fixture
def graph(tmp_path):
    inputs = [{"name": "in0", "shape": [1, 3, 8, 8], "batch_axis": 0}]
    param = b"7767517\n2 2\nInput in0 0 1 in0\nConvolution c 1 1 in0 out0 0=16 6=2000\n"
    return store_several({".param": param, ".bin": b""}, tmp_path, {"inputs": inputs})


def session(device, runtime, artifact):
    try:
        return device.session(runtime, artifact, seconds=0.05, warmups=2).latency_ms
    finally:
        device.close()


def test_a_litert_session(phone, network):
    device = Adb("//PHONE1", threads=2)
    assert device.session(LITERT, network, seconds=0.05, warmups=2).latency_ms == (0.602,)
    assert phone.ran() == ["benchmark_model threads=2 mask=c0 seconds=0.05 warmups=2"]
    assert len(phone.pushed()) == 1
    device.close()
    device.close()
    assert phone.pushed() == []


def test_an_ncnn_session_is_as_long_as_asked(phone, graph):
    device = Adb()
    first = device.session(NCNN, graph, seconds=0.05, warmups=2)
    again = device.session(NCNN, graph, seconds=0.05, warmups=2)
    device.close()
    assert first.latency_ms == again.latency_ms == (0.25,)
    wanted = "threads=1 powersave=2 gpu=-1 shape=[8,8,3]"
    assert phone.ran() == [f"benchncnn loops={loops} {wanted}" for loops in (8, 200, 200)]


@pytest.mark.parametrize(("cores", "threads", "mask"), [("big", 1, "80"), ("little", 3, "e"), ("all", 8, "")])
def test_processors_are_chosen_by_their_clocks(phone, network, cores, threads, mask):
    session(Adb(cores=cores, threads=threads), LITERT, network)
    assert phone.ran() == [f"benchmark_model threads={threads} mask={mask} seconds=0.05 warmups=2"]


def test_too_few_processors_are_told(phone, network):
    with pytest.raises(PlatformError, match="has 4 big cores of 8"):
        session(Adb(threads=5), LITERT, network)


def test_what_it_is(phone):
    platform = resolve_platform("adb/ncnn?cores=little")
    assert platform.name == "adb/ncnn?threads=1&cores=little"
    assert not platform.exclusive
    fingerprint = platform.fingerprint()
    assert fingerprint["device"] == "Pixel 5 (lito, Android 13, little cores)"
    assert fingerprint["version"].startswith("benchncnn ")
    assert fingerprint["dtype"] == "float16"  # benchncnn's own choice
    seen = platform.environment()
    assert (seen["temperature_c"], seen["load_1_min"]) == (41.3, 1.52)
    platform.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adb://PHONE1/onnxruntime", "runs litert, ncnn, not 'onnxruntime'"),
        ("adb://10.0.0.2:5555/ncnn", "open to everybody"),
        ("adb://-x/ncnn", "no serial"),
        ("adb://PHONE1/ncnn?threads=0", "threads=0"),
        ("adb://PHONE1/ncnn?cores=huge", "allowed are big, little, all"),
        ("adb://PHONE1/ncnn?below_c=0", "below_c=0"),
        ("adb://PHONE1/ncnn?limit_s=nan", "limit_s=nan"),
    ],
)
def test_what_is_wrong_is_told(text, message):
    needs("ncnn", "pnnx")
    with pytest.raises(PlatformError, match=message):
        resolve_platform(text)


@pytest.mark.parametrize("text", ["adb/ncnn", "adb:///ncnn", "adb://ncnn"])
def test_the_only_device_needs_no_serial(text):
    needs("ncnn", "pnnx")
    assert resolve_platform(text).name == "adb/ncnn?threads=1"


def test_a_missing_program_comes_with_instructions(phone, network):
    (phone.tools / "benchmark_model").chmod(0o644)
    with pytest.raises(PlatformError, match=r"push benchmark_model /data/local/tmp/netadapt/benchmark_model"):
        session(Adb(), LITERT, network)


def test_the_makers_usual_place_will_do(phone, network):
    (phone.tools / "benchmark_model").rename(phone.tools.parent / "benchmark_model")
    assert session(Adb(), LITERT, network) == (1.104,)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [("silent", "did not print"), ("killed", "status 137"), ("nan", "a time above 0"), ("twice", "one line")],
)
def test_a_program_that_fails_or_babbles(phone, network, behaviour, message):
    phone.behave(behaviour)
    with pytest.raises(PlatformError, match=message) as raised:
        session(Adb(), LITERT, network)
    assert isinstance(raised.value, SessionLost) == (behaviour == "killed")


def test_a_program_that_lost_its_connection_is_ended_before_the_next(phone, network):
    device = Adb()
    device.session(LITERT, network, seconds=0.05, warmups=2)
    phone.behave("stuck once")
    phone.faults("none", "none", "cut")  # looks for the file, reads the temperature, and runs
    assert device.session(LITERT, network, seconds=0.05, warmups=2).latency_ms == (1.104,)
    assert until(lambda: not phone.stuck())
    device.close()


def test_a_program_that_takes_too_long_is_ended(phone, network):
    phone.behave("stuck once")
    with pytest.raises(MeasurementUnusable, match="no answer within 10 s"):
        session(Adb(limit_s=10), LITERT, network)
    assert until(lambda: not phone.stuck())


def test_a_program_whose_user_interrupts_us_is_ended(phone, network, monkeypatch):
    device = Adb()
    phone.behave("stuck once")
    run = subprocess.run

    def interrupted(command, **options):
        if "benchmark_model --" in command[-1]:
            options["timeout"] = 10
            with pytest.raises(subprocess.TimeoutExpired):
                run(command, **options)
            raise KeyboardInterrupt
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session(device, LITERT, network)
    assert until(lambda: not phone.stuck())


def test_another_runtimes_program_that_is_left_is_ended_too(phone, network, graph):
    left = Adb()
    left.session(LITERT, network, seconds=0.05, warmups=2)
    phone.behave("stuck once")
    phone.faults("none", "none", "cut")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adb_client, "ATTEMPTS", 1)
        patch.setattr(adb, "_END", "true")  # as if the device were out of reach by then
        with pytest.raises(PlatformError, match="did not get through"):
            left.session(LITERT, network, seconds=0.05, warmups=2)
    assert phone.stuck()
    assert session(Adb(), NCNN, graph)
    assert until(lambda: not phone.stuck())


@pytest.mark.parametrize("behaviour", ["silent", "unknown layer", "mixed up"])
def test_benchncnn_that_fails_or_babbles(phone, graph, behaviour):
    phone.behave(behaviour)
    with pytest.raises(PlatformError, match="benchncnn printed"):
        session(Adb(), NCNN, graph)


def test_a_device_that_dies_while_measuring(phone, network):
    device = Adb()
    device.session(LITERT, network, seconds=0.05, warmups=2)
    # sha256sum of the network, temperature, then the program
    phone.faults("none", "none", "dies")
    assert device.session(LITERT, network, seconds=0.05, warmups=2).latency_ms == (1.104,)
    phone.faults("none", "none", "dies", "vanished", "vanished")
    with pytest.raises(PlatformError, match=r"in 3 attempts .* device 'PHONE1' not found"):
        device.session(LITERT, network, seconds=0.05, warmups=2)
    device.close()


def test_a_hot_device_is_waited_for(phone, network, monkeypatch):
    phone.write("sys/class/thermal/thermal_zone2/temp", "62000\n")

    def cool(seconds):
        phone.write("sys/class/thermal/thermal_zone2/temp", "45000\n")

    monkeypatch.setattr(adb, "time", SimpleNamespace(sleep=cool, monotonic=lambda: 0.0))
    assert session(Adb(), LITERT, network) == (1.104,)


def test_a_device_that_stays_hot_is_unusable(phone, network):
    phone.write("sys/class/thermal/thermal_zone2/temp", "62000\n")
    with pytest.raises(MeasurementUnusable, match="still has 62 C"):
        session(Adb(cool_s=0.01), LITERT, network)


def test_a_device_without_thermometer_is_told_once(phone, network, caplog):
    for zone in (1, 2):
        (phone.root / f"sys/class/thermal/thermal_zone{zone}/type").write_text("x\n")
    device = Adb()
    for _ in range(2):
        device.session(LITERT, network, seconds=0.05, warmups=2)
    device.close()
    assert sum("does not tell its temperature" in message for message in caplog.messages) == 1


HOLDER = """
import sys
from netadapt.platforms.devices.adb import Adb
with Adb("//PHONE1")._lock().hold("another run"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_user_at_a_time(phone, network):
    other = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        device = Adb()
        lock = device._lock()
        with pytest.raises(MeasurementUnusable, match="another run"), lock.hold("x", limit_s=0.2):
            pass
        assert lock.holder()["pid"] == other.pid != os.getpid()
    finally:
        other.communicate("")
    assert session(Adb(), LITERT, network) == (1.104,)
