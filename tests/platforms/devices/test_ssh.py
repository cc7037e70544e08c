"""``ssh://`` against a real ssh server on loopback: conformance, and devices that die, lie, hang or lack something."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import sensor_trees as trees
from ncnn_outputs import assert_same_ncnn
from onnx import TensorProto, helper
from onnx_outputs import assert_same_onnx
from processes import until
from sensor_trees import Board
from sshd import command_of, kill

import netadapt
from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.network import trace
from netadapt.platforms import StopwatchProtocol, list_platforms, resolve_platform
from netadapt.platforms.artifacts import artifact_of
from netadapt.platforms.devices import ssh, ssh_connection
from netadapt.testing.platform_suite import _IMAGES, PlatformSuite, SmallNetwork


def write(path, nodes, shape=(1, 4), initializers=()):
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", values, results, list(initializers))
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path)
    return artifact_of(path)


@pytest.fixture
def relu(tmp_path):
    return write(tmp_path / "relu.onnx", [helper.make_node("Relu", ["x"], ["y"])])


@pytest.fixture
def endless(tmp_path):
    """A chain of products of matrices that takes minutes."""
    size = 1500
    weight = onnx.numpy_helper.from_array(np.eye(size, dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", [f"m{i - 1}" if i else "x", "w"], [f"m{i}"]) for i in range(4000)]
    nodes.append(helper.make_node("Relu", ["m3999"], ["y"]))
    return write(tmp_path / "endless.onnx", nodes, (size, size), [weight])


@pytest.fixture
def opened(sshd):
    """Give a function that opens platforms and close them in the end."""
    platforms = []

    def resolve(python=sys.executable, runtime="onnxruntime", **parameters):
        query = "&".join(f"{key}={value}" for key, value in {"python": python, **parameters}.items())
        platforms.append(resolve_platform(f"{sshd.address}/{runtime}?{query}"))
        return platforms[-1]

    yield resolve
    for platform in platforms:
        platform.close()


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(ssh_connection, "BACKOFF_S", (0.1,))


def time_it(platform, artifact):
    return platform.session(artifact, seconds=0.02, warmups=1)


def sessions(sshd):
    """The processes on the device that belong to measuring, nearest to the server first."""
    return [pid for pid in sshd.connections() if ".pyz" in command_of(pid)]


def kept(sshd):
    return sorted(path.name for path in (sshd.home / ".cache/netadapt/device").iterdir())


class OverSsh(PlatformSuite):
    runtime: str

    @pytest.fixture(autouse=True)
    def _server(self, sshd, converted, monkeypatch):
        self.sshd = sshd
        monkeypatch.setenv("NETADAPT_CACHE", str(converted))

    def make_platform(self):
        return resolve_platform(f"{self.sshd.address}/{self.runtime}?python={sys.executable}")


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """What takes seconds to convert is shared by the tests."""
    return tmp_path_factory.mktemp("cache")


class TestSsh(OverSsh):
    runtime = "onnxruntime"

    def assert_same_network(self, first, second):
        assert_same_onnx(first, second)


@pytest.mark.slow
@pytest.mark.needs("openvino")
class TestOpenVinoOverSsh(TestSsh):
    runtime = "openvino"


@pytest.mark.slow
@pytest.mark.needs("ncnn", "pnnx")
class TestNcnnOverSsh(OverSsh):
    runtime = "ncnn"

    def assert_same_network(self, first, second):
        assert_same_ncnn(first, second)


@pytest.mark.slow
class TestTorchOverSsh(OverSsh):
    runtime = "torch"


@pytest.mark.slow
@pytest.mark.needs("litert_torch", "ai_edge_litert")
class TestLiteRtOverSsh(OverSsh):
    runtime = "litert"


@pytest.mark.slow
@pytest.mark.needs("executorch")
class TestExecuTorchOverSsh(OverSsh):
    runtime = "executorch"


def test_energy_is_measured_there(sshd, opened, relu):
    platform = opened(energy="rapl")
    assert platform.resources == ("latency", "memory", "energy")
    assert platform.name.endswith("&energy=rapl")
    # The device counts 5 watts, and 10 more while it has forked a session, as soon as the test sees that.
    with Board(sshd.sensors, load_watts=10.0, runs=lambda: len(sessions(sshd)) > 1):
        reading = time_it(platform, relu)
        environment = platform.environment()
    assert 1 / 3 < reading.energy_mj / (10.0 * np.mean(reading.latency_ms)) < 3
    assert environment["energy"] == {"sensor": "rapl", "channels": environment["energy"]["channels"]}
    assert environment["energy"]["channels"][0] == "package-0 (intel-rapl:0)"
    assert platform.fingerprint()["energy"] == "rapl"


def test_a_sensor_there_that_does_not_see_the_network_is_refused(sshd, opened, relu):
    platform = opened(energy="rapl")
    with (
        Board(sshd.sensors, load_watts=-3.0, runs=lambda: len(sessions(sshd)) > 1),
        pytest.raises(MeasurementUnusable, match="no more power than the idle"),
    ):
        time_it(platform, relu)


def test_a_sensor_that_goes_in_the_midst_ends_the_session(sshd, opened, endless):
    counter = trees.rapl(sshd.sensors)["intel-rapl:0"] / "energy_uj"
    platform = opened(energy="rapl")
    platform.fingerprint()
    gone = threading.Thread(target=lambda: until(lambda: len(sessions(sshd)) > 1) and counter.unlink())
    gone.start()
    with pytest.raises(SessionLost, match="can no longer be read"):
        time_it(platform, endless)
    gone.join()
    assert until(lambda: not sessions(sshd))


def test_a_sensor_that_sees_less_than_before_is_told(sshd, opened):
    board = sshd.sensors / "class/hwmon/hwmon0"
    trees.write(board, name="ina226", power1_input=1, power1_label="CPU", power2_input=1, power2_label="GPU")
    platform = opened(energy="hwmon")
    assert platform.fingerprint()["energy"] == "hwmon:ina226"
    (board / "power2_input").unlink()
    with pytest.raises(PlatformError, match=r"with hwmon:ina226 \(CPU, GPU\) and now with hwmon:ina226 \(CPU\)"):
        platform.environment()


@pytest.mark.parametrize("kind", ["rapl", "hwmon:ina226"])
def test_a_device_without_the_sensor_is_told(sshd, opened, relu, kind):
    platform = opened(energy=kind)
    for ask in (platform.fingerprint, lambda: time_it(platform, relu)):
        with pytest.raises(PlatformError, match=f"energy={kind.partition(':')[0]}: .*another sensor"):
            ask()


@pytest.mark.parametrize("kind", ["auto", "battery", "rapl:0", "none:", "hwmon:"])
def test_which_sensor_must_be_said(opened, kind):
    with pytest.raises(PlatformError, match=r"is unknown.*allowed are none, rapl, hwmon, nvml"):
        opened(energy=kind)


def test_the_whole_way_through_the_stopwatch(sshd, opened):
    platform = opened()
    protocol = StopwatchProtocol(sessions=2, seconds=0.02)
    measured = netadapt.measure(SmallNetwork(), _IMAGES, platform, protocol=protocol)
    assert measured.count >= 6
    assert measured.memory_mb is not None
    assert measured.environment["architecture"] == os.uname().machine
    assert measured.environment["versions"]["onnxruntime"] == platform.fingerprint()["version"]
    assert platform.name == f"{sshd.address}/onnxruntime?threads=1&python={sys.executable}"
    assert resolve_platform(platform.name).name == platform.name
    # The scripts and the file have come once, by their content, and nothing else was left.
    names = [name for name in kept(sshd) if not name.endswith(".lock")]
    assert sorted(Path(name).suffix for name in names) == [".onnx", ".pyz"]
    for name in names:
        content = (sshd.home / ".cache/netadapt/device" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == Path(name).stem
    assert (sshd.folder / "log").read_text().count("Accepted publickey") == 1


@pytest.mark.needs("ncnn", "pnnx")
def test_a_network_of_several_files_comes_whole_and_only_what_lacks_comes_again(sshd, opened, tmp_path):
    platform = opened(runtime="ncnn")
    network = trace(SmallNetwork().eval(), _IMAGES)
    artifact = platform.compile_widths(network, {network.groups[0].name: 4}, tmp_path)
    assert time_it(platform, artifact).latency_ms
    device = sshd.home / ".cache/netadapt/device"
    assert {path.name for path in artifact.files} < set(kept(sshd)) and len(artifact.files) == 3
    damaged, whole = (next(path.name for path in artifact.files if path.suffix == end) for end in (".bin", ".param"))
    (device / damaged).write_bytes(b"damaged")
    before = (device / whole).stat().st_ino
    assert time_it(platform, artifact).latency_ms
    assert hashlib.sha256((device / damaged).read_bytes()).hexdigest() == damaged[:64]
    assert (device / whole).stat().st_ino == before


def test_a_suffix_goes_along_or_is_told(sshd, opened, relu, tmp_path):
    platform, unusual = opened(), ".Of_a-network" * 3
    for suffix in (unusual, ".of a network", "." + "x" * 64):
        shutil.copy(relu.path, tmp_path / f"relu{suffix}")
    assert time_it(platform, artifact_of(tmp_path / f"relu{unusual}")).latency_ms
    before = kept(sshd)
    assert relu.sha256 + ".Of_a-network" in before  # the last one: a file of the user's may have any dots in its name
    for suffix in (".of a network", "." + "x" * 64):
        with pytest.raises(PlatformError, match=rf"'{suffix}' is not sent to a device; .* Rename the file"):
            time_it(platform, artifact_of(tmp_path / f"relu{suffix}"))
    assert kept(sshd) == before


def test_loopback_is_this_machine_and_other_hosts_are_not(sshd, opened):
    assert opened().exclusive is True
    with (sshd.folder / "config").open("a") as file:
        file.write("Host pi\n  HostName 192.0.2.7\n")
    assert resolve_platform("ssh://pi/onnxruntime").exclusive is False


@pytest.mark.slow
def test_files_and_scripts_that_were_removed_come_again(sshd, opened, relu):
    platform = opened()
    time_it(platform, relu)
    (sshd.home / f".cache/netadapt/device/{relu.sha256}.onnx").write_bytes(b"damaged")
    assert time_it(platform, relu).latency_ms
    shutil.rmtree(sshd.home / ".cache/netadapt")
    assert time_it(platform, relu).latency_ms  # this one had pushed them
    shutil.rmtree(sshd.home / ".cache/netadapt")
    assert time_it(opened(), relu).latency_ms


def test_the_runtimes_own_message_reaches_the_user(opened, tmp_path, relu):
    bad = write(tmp_path / "bad.onnx", [helper.make_node("NoSuchOperation", ["x"], ["y"])])
    platform = opened()
    with pytest.raises(PlatformError, match=r"cannot run bad.onnx.*NoSuchOperation"):
        time_it(platform, bad)
    assert time_it(platform, relu).latency_ms


@pytest.mark.slow
def test_a_home_that_needs_quotes(sshd, opened, relu, tmp_path):
    home = sshd.folder / "it's a $HOME; touch pwned"
    home.mkdir()
    sshd.die()
    config = sshd.folder / "sshd_config"
    config.write_text(config.read_text().replace(f"SetEnv HOME={sshd.home}", f'SetEnv "HOME={home}"'))
    sshd.start()
    assert time_it(opened(), relu).latency_ms
    assert (home / f".cache/netadapt/device/{relu.sha256}.onnx").is_file()
    assert not list(sshd.folder.rglob("pwned"))


@pytest.mark.slow
def test_a_python_in_the_home_folder(sshd, opened, relu):
    shutil.copy(sshd.python("python", 'exec $real "$@"'), sshd.home / "python")
    assert time_it(opened(python="~/python"), relu).latency_ms


def test_a_session_that_takes_too_long_is_given_up(sshd, opened, endless, relu):
    platform = opened(limit_s=2)
    with pytest.raises(MeasurementUnusable, match=r"within 2 s"):
        time_it(platform, endless)
    assert time_it(platform, relu).latency_ms
    assert until(lambda: not sessions(sshd))


def test_a_killed_session_is_reported_and_not_repeated(sshd, opened, endless, relu, caplog):
    platform = opened()
    time_it(platform, relu)

    done = threading.Event()

    def kill_forks():
        while not done.wait(0.1):
            for pid in sessions(sshd)[1:]:  # what the script forks, for the empty runtime and for the file
                kill(pid)

    killer = threading.Thread(target=kill_forks)
    killer.start()
    with pytest.raises(SessionLost, match="died with status -9"):
        time_it(platform, endless)
    done.set()
    killer.join()
    assert "is repeated" not in caplog.text
    assert time_it(platform, relu).latency_ms


def test_a_device_that_dies_while_it_measures(sshd, opened, endless, relu, hasty, caplog):
    platform = opened()
    time_it(platform, relu)

    def die():
        assert until(lambda: sessions(sshd))
        time.sleep(0.5)
        sshd.die()

    killer = threading.Thread(target=die)
    killer.start()
    with caplog.at_level(logging.WARNING), pytest.raises(PlatformError, match="see that the device is on"):
        time_it(platform, endless)
    killer.join()
    assert "is repeated" in caplog.text
    sshd.start()
    assert time_it(platform, relu).latency_ms


@pytest.mark.slow
def test_a_session_ends_when_the_connection_does(sshd, opened, endless, relu, hasty):
    platform = opened()
    time_it(platform, relu)
    errors = []

    def measure():
        try:
            time_it(platform, endless)
        except PlatformError as error:
            errors.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    assert until(lambda: len(sessions(sshd)) == 2)
    below = sessions(sshd)
    sshd._process.kill()  # no new connections
    sshd._process.wait()
    kill(platform.device._connection._process.pid)
    thread.join()
    assert errors
    assert until(lambda: not any(".pyz" in command_of(pid) for pid in below))


ORPHAN = """
import sys
from pathlib import Path
from netadapt.platforms import resolve_platform
from netadapt.platforms.artifacts import artifact_of
resolve_platform(sys.argv[1]).session(artifact_of(Path(sys.argv[2])), seconds=0.01, warmups=1)
"""


def test_a_session_ends_when_we_die(sshd, endless):
    text = f"{sshd.address}/onnxruntime?python={sys.executable}"
    owner = subprocess.Popen([sys.executable, "-c", ORPHAN, text, str(endless.path)])
    try:
        assert until(lambda: owner.poll() is not None or len(sessions(sshd)) == 2)
        assert owner.poll() is None
    finally:
        owner.kill()
        owner.wait()
    assert until(lambda: not sessions(sshd))


ANSWERS = [
    ("echo nonsense", r"gave not one JSON object.*nonsense"),
    ('echo Welcome to my board; exec $real "$@"', r"Welcome to my board.*\.bashrc"),
    ("echo '{\"path\": 5}'", r"path is wrong"),
    ('echo \'{"path": null, "run": "x"}\'', r"run is wrong"),
    ("yes", r"answered more than \d+ bytes"),
    ("echo out of order >&2; exit 3", r"failed with status 3\.\nout of order"),
    ("echo '{\"path\": null}'", r"did not store the measuring scripts"),
]


def test_a_device_that_never_answers_is_given_up(sshd, opened, relu, monkeypatch):
    monkeypatch.setattr(ssh, "_GRACE_S", 1.0)
    python = sshd.python("sleepy", 'test "$1" = -I && exec $real "$@"\nexec sleep 600')
    with pytest.raises(MeasurementUnusable, match="gave no answer within 1 s"):
        time_it(opened(python=python), relu)


@pytest.mark.parametrize(("body", "message"), ANSWERS)
def test_a_device_that_answers_garbage(sshd, opened, relu, body, message):
    with pytest.raises(PlatformError, match=message):
        time_it(opened(python=sshd.python("garbage", body)), relu)


LIES = [
    ({"latency_ms": [-1.0]}, r"latency_ms.*is wrong"),
    pytest.param({"latency_ms": "[1.0]"}, r"latency_ms.*is wrong", marks=pytest.mark.slow),
    pytest.param({"latency_ms": []}, r"latency_ms.*is wrong", marks=pytest.mark.slow),
    pytest.param({}, "without latencies", marks=pytest.mark.slow),
    pytest.param({"latency_ms": [1.0], "memory_mb": -4.0}, "memory_mb.*is wrong", marks=pytest.mark.slow),
    pytest.param({"latency_ms": [1.0], "energy_mj": 0.0}, "energy_mj.*is wrong", marks=pytest.mark.slow),
    pytest.param({"latency_ms": [1.0], "command": "x"}, "command is wrong", marks=pytest.mark.slow),
    ({"latency_ms": [1.0], "version": "0.0.1"}, r"is 0\.0\.1 now; timings of both do not compare"),
    pytest.param({"missing": ["x"]}, "lost relu.onnx as soon as it had it", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("answer", "message"), LIES)
def test_a_device_that_lies_about_a_session(sshd, opened, relu, answer, message):
    """Its Python runs the scripts, but a session's answer is made up."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[1:]; import measure_once, onnxruntime; "
        f"answer = {answer!r}; "
        "measure_once.measure = lambda request: {'version': onnxruntime.__version__, **answer}; measure_once.main()"
    )
    python = sshd.python("liar", f'test "$1" = -I && exec $real "$@"\nexec $real -c "{code}" "$1"')
    with pytest.raises(PlatformError, match=message):
        time_it(opened(python=python), relu)


def test_a_device_that_becomes_another_one(sshd, opened, relu):
    code = (
        "import platform, runpy, sys; platform.machine = lambda: 'armv7l'; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    mark = sshd.folder / "changed"
    python = sshd.python(
        "turncoat", f'test -e {mark} && test "$1" != -I || exec $real "$@"\nexec $real -c "{code}" "$@"'
    )
    platform = opened(python=python)
    assert time_it(platform, relu).latency_ms
    mark.touch()
    with pytest.raises(PlatformError, match=r"is now .*\(armv7l\).*do not compare"):
        time_it(platform, relu)
    # Who meets it now for the first time has another platform, whose samples are its own.
    other = opened(python=python)
    assert time_it(other, relu).latency_ms
    assert "armv7l" in other.fingerprint()["device"]
    assert other.fingerprint() != platform.fingerprint()


def test_without_the_runtime_the_hint_is_exact(sshd, opened, relu):
    bare = sshd.python("bare", 'exec $real -S "$@"')
    with pytest.raises(PlatformError, match=rf"has no numpy, .*; run there: {sys.executable} -m pip install numpy\n"):
        time_it(opened(python=bare), relu)


def test_a_python_that_is_not_there(opened, relu):
    with pytest.raises(PlatformError, match=r"cannot run /no/python3; name its Python 3: python=PATH"):
        time_it(opened(python="/no/python3"), relu)


def test_an_old_python_is_told(sshd, opened, relu):
    code = "import runpy, sys; sys.version_info = (3, 6); runpy.run_path(sys.argv[1], run_name='__main__')"
    old = sshd.python("old", f'test "$1" = -I && exec $real "$@"\nexec $real -c "{code}" "$1"')
    with pytest.raises(PlatformError, match=r"needs Python 3\.9 or later on a device"):
        time_it(opened(python=old), relu)


def test_too_many_threads_are_refused(opened, relu):
    with pytest.raises(PlatformError, match="allowed are 1 to"):
        time_it(opened(threads=4096), relu)


def test_an_interrupted_push_leaves_no_half_file(sshd, opened, tmp_path, relu):
    platform = opened()
    time_it(platform, relu)
    before = kept(sshd)
    big = os.urandom(4_000_000)
    digest = hashlib.sha256(big).hexdigest()
    device = platform.device
    line = f'{{"do": "put", "sha256": "{digest}", "suffix": ".onnx", "size": {len(big)}}}\n'.encode()
    thread = threading.Thread(
        target=lambda: device._connection.run(
            f"exec {device._python} '{device._script}'", line + big[: len(big) // 2], limit_s=8.0
        )
    )
    thread.start()
    assert until(lambda: any(name.endswith(".part") for name in kept(sshd)))
    thread.join()
    assert until(lambda: kept(sshd) == before)


def test_two_clients_at_once_take_turns(sshd, opened, relu, monkeypatch, caplog):
    monkeypatch.setattr(ssh, "WAIT_S", 0.2)
    first, second = opened(), opened()
    readings = []
    threads = [
        threading.Thread(target=lambda p=p: readings.extend(time_it(p, relu) for _ in range(3)))
        for p in (first, second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(readings) == 6
    # A third one that measures all the time: the others are told, and wait.
    with (sshd.home / ".cache/netadapt/device/measuring.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=lambda: readings.append(time_it(first, relu)))
        with caplog.at_level(logging.WARNING):
            waiting.start()
            assert until(lambda: "waiting for others who measure on ssh://" in caplog.text)
        assert len(readings) == 6
        fcntl.flock(lock, fcntl.LOCK_UN)
        waiting.join()
    assert len(readings) == 7


def test_others_who_measure_for_ever_are_told(sshd, opened, relu, monkeypatch):
    monkeypatch.setattr(ssh, "WAIT_S", 0.1)
    monkeypatch.setattr(ssh, "BUSY_S", 0.5)
    platform = opened()
    time_it(platform, relu)
    with (sshd.home / ".cache/netadapt/device/measuring.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(MeasurementUnusable, match=r"lock file .*measuring\.lock there"):
            time_it(platform, relu)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ssh:///onnxruntime", "is no address"),
        ("ssh://-oProxyCommand=touch/onnxruntime", "is no address"),
        ("ssh://-l@host/onnxruntime", "is no address"),
        ("ssh://me@-host/onnxruntime", "is no address"),
        ("ssh://me@host;ls/onnxruntime", "is no address"),
        ("ssh://me@host $(ls)/onnxruntime", "is no address"),
        ("ssh://host:0/onnxruntime", "is no address"),
        ("ssh://host:65536/onnxruntime", "is no address"),
        ("ssh://host:22x/onnxruntime", "is no address"),
        ("ssh://host/onnxruntime?python=-c", "is no path of a Python"),
        ("ssh://host/onnxruntime?python=", "is no path of a Python"),
        ("ssh://host/onnxruntime?python=a;b", "is no path of a Python"),
        ("ssh://host/onnxruntime?threads=0", "threads=0"),
        ("ssh://host/onnxruntime?limit_s=0", "above 0"),
        ("ssh://host/onnxruntime?treads=2", 'did you mean "threads"'),
    ],
)
def test_a_wrong_string_is_told(text, message):
    with pytest.raises(PlatformError, match=message):
        resolve_platform(text)


@pytest.mark.parametrize(
    "address",
    [
        "ssh://host",
        "ssh://me@host",
        "ssh://me@host.local:2222",
        "ssh://[fe80::1%eth0]:22",
        "ssh://_gw",
        "ssh://1.2.3.4",
    ],
)
def test_addresses_and_names(sshd, address):
    platform = resolve_platform(f"{address}/onnxruntime?threads=4")
    assert platform.name == f"{address}/onnxruntime?threads=4"


def test_it_is_listed():
    [info] = [info for info in list_platforms() if info.name == "ssh"]
    assert info.state == "ready"
    assert info.parameters == {"threads": 1, "python": "python3", "limit_s": 300.0, "energy": "none"}
