"""``command:`` with real programs: one that times with onnxruntime, one with a meter, and several that misbehave."""

from __future__ import annotations

import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from needs import needs
from onnx_outputs import assert_same_onnx
from torch import nn

import netadapt
from netadapt.errors import MeasurementUnusable, PlatformError, SessionLost
from netadapt.network import trace
from netadapt.platforms import StopwatchProtocol, list_platforms, measure_files, resolve_platform
from netadapt.platforms.artifacts import artifact_of
from netadapt.testing.platform_suite import _IMAGES, PlatformSuite, SmallNetwork

EXAMPLE = Path(__file__).parents[3] / "examples/measure_command.py"


def with_python(path):
    """The example run by this Python, which has onnxruntime."""
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the programs of these tests do not read it")
    return path


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(body, name="measure.sh"):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def session(text, model, seconds=0.01, warmups=1):
    platform = resolve_platform(text)
    try:
        return platform.session(artifact_of(model), seconds=seconds, warmups=warmups)
    finally:
        platform.close()


class TestCommand(PlatformSuite):
    def make_platform(self):
        return resolve_platform(f"command:{with_python(EXAMPLE)}")

    def assert_same_network(self, first, second):
        assert_same_onnx(first, second)


#: a program that takes a millisecond for each byte of a file
BY_SIZE = 'case "$1" in *.%s) printf "{\\"latency_ms\\": %%s}" "$(wc -c < "$1")";; *) exit 3;; esac'


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "needed"), [("tflite", ("litert_torch", "ai_edge_litert")), ("pte", ("executorch",))])
def test_files_of_other_formats(script, tmp_path, monkeypatch, kind, needed):
    needs(*needed)
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "cache"))
    script(BY_SIZE % kind)
    platform = resolve_platform(f"command:./measure.sh?format={kind}")
    assert platform.costly
    assert platform.name == f"command:./measure.sh?format={kind}&resources=latency"
    network = trace(SmallNetwork(), _IMAGES, prove=False)
    small = platform.compile_widths(network, {group.name: 8 for group in network.groups}, tmp_path)
    whole = platform.compile(SmallNetwork(), _IMAGES, tmp_path)
    fast, slow = measure_files([small.path, whole.path], platform, protocol=StopwatchProtocol(sessions=1))
    assert (fast.median_ms, slow.median_ms) == (small.path.stat().st_size, whole.path.stat().st_size)
    assert fast.median_ms < slow.median_ms
    platform.close()


def test_the_whole_way_through_the_stopwatch(tmp_path):
    measured = netadapt.measure(
        SmallNetwork(), _IMAGES, f"command:{with_python(EXAMPLE)}", protocol=StopwatchProtocol(sessions=2)
    )
    assert measured.count >= 6
    assert measured.environment["program"][0] == sys.executable


COUNTER = """
import os, sys, time
start = time.monotonic()
while True:
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(int((time.monotonic() - start) ** 2 * 5e6)))  # a power that rises: busy comes after idle
    os.replace(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(0.002)
"""


def test_a_program_that_reads_a_power_meter(tmp_path):
    counter = tmp_path / "energy_uj"
    meter = subprocess.Popen([sys.executable, "-c", COUNTER, str(counter)])
    try:
        while not counter.exists():
            time.sleep(0.01)
        text = f"command:{with_python(EXAMPLE)} --energy-counter {counter}?resources=latency,energy"
        platform = resolve_platform(text)
        artifact = platform.compile(SmallNetwork(), _IMAGES, tmp_path)
        [measured] = measure_files([artifact.path], platform, protocol=StopwatchProtocol(sessions=1))
        assert platform.resources == ("latency", "energy")
        assert measured.energy_mj > 0
        assert measured.environment["recorded"]["idle_w"] > 0
        platform.close()
    finally:
        meter.kill()
        meter.wait()


def test_all_resources_and_a_record(script, model):
    script('echo "{\\"latency_ms\\": [2, 3], \\"energy_mj\\": 4.5, \\"memory_mb\\": 6, \\"board\\": \\"b7\\"}"')
    platform = resolve_platform("command:./measure.sh?resources=memory,latency,energy")
    assert platform.name == "command:./measure.sh?format=onnx&resources=latency,energy,memory"
    assert "recorded" not in platform.environment()
    reading = platform.session(artifact_of(model), seconds=0.01, warmups=1)
    assert (reading.latency_ms, reading.energy_mj, reading.memory_mb) == ((2.0, 3.0), 4.5, 6.0)
    assert platform.environment()["recorded"] == {"board": "b7"}


def test_one_number_and_what_the_program_is_given(script, model):
    script('test "$#$1" = "2--serial=x y" && test -r "$2" || exit 9\n'
           'test "$NETADAPT_SECONDS $NETADAPT_WARMUPS" = "0.25 4" || exit 8\n'
           'echo "{\\"latency_ms\\": 7}"')  # fmt: skip
    reading = session("command:./measure.sh '--serial=x y'", model, seconds=0.25, warmups=4)
    assert reading.latency_ms == (7.0,)


def test_nothing_of_the_string_reaches_a_shell(script, model, tmp_path):
    script('echo "{\\"latency_ms\\": 7}"')
    assert session("command:./measure.sh ; touch pwned $(touch pwned) `touch pwned`", model).latency_ms
    assert not (tmp_path / "pwned").exists()


def test_the_folder_of_the_start_counts(script, model, tmp_path, monkeypatch):
    script('test -f measure.sh && echo "{\\"latency_ms\\": 7}"')
    platform = resolve_platform("command:./measure.sh")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert platform.session(artifact_of(model), seconds=0.01, warmups=1).latency_ms == (7.0,)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo nonsense", r"must print one JSON object.*nonsense"),
        ("true", "must print one JSON object"),
        ("echo '{\"latency_ms\": -1}'", "latency_ms.*is wrong"),
        ("echo '{\"latency_ms\": []}'", "latency_ms.*is wrong"),
        ('echo \'{"latency_ms": 1, "energy_mj": 0}\'', "no energy above 0"),
        ('echo \'{"latency_ms": 1, "energy_mj": -3}\'', "no energy above 0"),
        ("echo '{\"latency_ms\": 1}'", "gave no energy above 0"),
        ("echo '{\"latency_ms\": NaN}'", "NaN is no number"),
        ("echo first; echo the meter is off >&2; exit 3", r"failed on model.onnx with status 3\.\nthe meter is off"),
        ("kill -9 $$", "with status -9"),
        ("yes", r"more than 1048576 bytes"),
    ],
)
def test_what_misbehaves_is_told(script, model, body, message):
    script(body)
    with pytest.raises(PlatformError, match=message) as raised:
        session("command:./measure.sh?resources=latency,energy", model)
    assert isinstance(raised.value, SessionLost) == ("with status" in message)  # it may have lost its board


def test_one_that_hangs_is_ended(script, model):
    script("echo waiting for the board >&2; sleep 600")
    with pytest.raises(MeasurementUnusable, match=r"within 1 s.*limit_s=SECONDS.*\nwaiting for the board"):
        session("command:./measure.sh?limit_s=1", model)


def test_a_script_without_a_first_line_is_told(script, model, tmp_path):
    path = script("x")
    path.write_text("echo no first line")
    with pytest.raises(PlatformError, match="#!/bin/sh"):
        session("command:./measure.sh", model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command:", "names no program"),
        ("command:'./x", "quote it"),
        ("command:./missing.sh", "there is no program ./missing.sh"),
        ("command:no-such-program-at-all", "write ./no-such-program-at-all"),
        ("command:./plain.sh", r"chmod \+x ./plain.sh"),
        ("command:./measure.sh?format=onnxx", 'did you mean "onnx"'),
        ("command:./measure.sh?resources=latency,power", "'power' is unknown"),
        ("command:./measure.sh?resources=energy", "lacks latency"),
        ("command:./measure.sh?limit_s=0", "above 0"),
        ("command:./measure.sh?resource=energy", 'did you mean "resources"'),
    ],
)
def test_a_wrong_string_is_told(script, tmp_path, text, message):
    script("true")
    (tmp_path / "plain.sh").write_text("true")
    with pytest.raises(PlatformError, match=message):
        resolve_platform(text)


def test_names_are_canonical(script):
    script("true", name="my measure.sh")
    platform = resolve_platform("command:'./my measure.sh'?exclusive=false&limit_s=5")
    assert platform.name == "command:'./my measure.sh'?format=onnx&resources=latency&exclusive=false"
    assert platform.exclusive is False
    assert resolve_platform(platform.name).name == platform.name


def test_an_edited_program_is_another_platform(script):
    script("echo 1")
    platform = resolve_platform("command:./measure.sh")
    first = platform.fingerprint()
    script("echo 2")
    assert platform.fingerprint() != first
    assert resolve_platform("command:./measure.sh x").fingerprint() != platform.fingerprint()


def test_it_is_listed():
    [info] = [info for info in list_platforms() if info.name == "command"]
    assert info.state == "ready"
    assert info.parameters == {"format": "onnx", "resources": "latency", "limit_s": 300.0, "exclusive": True}


def test_a_module_that_cannot_be_converted_is_refused(script, tmp_path):
    script("true")
    with pytest.raises(PlatformError):
        resolve_platform("command:./measure.sh").compile(nn.LSTM(4, 4, bidirectional=True), "no tensor", tmp_path)
