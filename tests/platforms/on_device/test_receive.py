"""Files come in whole or not at all; run as a program, as on a device, in a home folder of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import until

from netadapt.platforms import on_device
from netadapt.platforms.devices.archive import receiver_source

SCRIPT = Path(on_device.__file__).with_name("receive.py")
CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def home(tmp_path):
    return tmp_path


def start(home, *arguments):
    return subprocess.Popen(
        [sys.executable, "-I", "-c", receiver_source().decode(), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"HOME": str(home)},
    )


def receive(home, *arguments, content=b""):
    process = start(home, *arguments)
    output, errors = process.communicate(content)
    return json.loads(output) if process.returncode == 0 else errors.decode()


def kept(home):
    folder = home / ".cache/netadapt/device"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_file_is_pushed_once(home):
    assert receive(home, SHA256, ".bin", 0) == {"path": None}
    path = receive(home, SHA256, ".bin", len(CONTENT), content=CONTENT)["path"]
    assert Path(path).read_bytes() == CONTENT
    assert kept(home) == [f"{SHA256}.bin"]
    assert receive(home, SHA256, ".bin", 0) == {"path": path}
    assert Path(path).parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("suffix", ["", ".PARAM", ".weights_of-2.bin", "." + "x" * 63])
def test_suffixes_are_kept(home, suffix):
    assert Path(receive(home, SHA256, suffix, len(CONTENT), content=CONTENT)["path"]).name == SHA256 + suffix


def test_a_damaged_file_is_asked_for_again(home):
    path = Path(receive(home, SHA256, ".bin", len(CONTENT), content=CONTENT)["path"])
    path.write_bytes(CONTENT[:-1] + b"x")
    assert receive(home, SHA256, ".bin", 0) == {"path": None}
    assert receive(home, SHA256, ".bin", len(CONTENT), content=CONTENT) == {"path": str(path)}
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[: len(CONTENT) // 2], b"", CONTENT[:-1] + b"x"])
def test_what_does_not_arrive_whole_leaves_nothing(home, content):
    assert "bytes arrived" in receive(home, SHA256, ".bin", len(CONTENT), content=content)
    assert kept(home) == []


def test_a_killed_push_leaves_no_file_under_the_name_and_its_rest_is_swept(home):
    process = start(home, SHA256, ".bin", len(CONTENT))
    process.stdin.write(CONTENT[:300_000])
    process.stdin.flush()
    until(lambda: kept(home))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [part] = kept(home)
    assert part.endswith(".part")
    receive(home, SHA256, ".bin", len(CONTENT), content=CONTENT)
    assert kept(home) == sorted([part, f"{SHA256}.bin"])  # it may be somebody's who still pushes
    os.utime(home / ".cache/netadapt/device" / part, (0, 0))
    receive(home, hashlib.sha256(b"y").hexdigest(), ".bin", 1, content=b"y")
    assert part not in kept(home)


@pytest.mark.parametrize(
    ("sha256", "suffix"),
    [
        ("../../../etc/passwd", ""),
        (SHA256.upper(), ".bin"),
        (SHA256, "/../x"),
        (SHA256, ".a/b"),
        (SHA256, "x"),
        (SHA256, ".b\n"),
    ],
)
def test_names_that_are_not_ours_are_refused(home, sha256, suffix):
    assert "ValueError" in receive(home, sha256, suffix, 1, content=b"x")
    assert kept(home) == []


def test_the_files_that_were_used_longest_ago_make_room(home, monkeypatch):
    source = receiver_source().decode().replace("MOST_BYTES = 1 << 30", "MOST_BYTES = 250")
    assert "MOST_BYTES = 250" in source
    monkeypatch.setitem(globals(), "receiver_source", source.encode)
    names = []
    for age, letter in ((3, b"a"), (2, b"b"), (1, b"c")):
        content = letter * 100
        digest = hashlib.sha256(content).hexdigest()
        path = receive(home, digest, ".bin", 100, content=content)["path"]
        os.utime(path, (time.time() - 1000 * age,) * 2)
        names.append(Path(path).name)
    assert kept(home) == sorted(names[1:])
    receive(home, names[1][:64], ".bin", 0)  # used again
    other = hashlib.sha256(b"d" * 100).hexdigest()
    receive(home, other, ".bin", 100, content=b"d" * 100)
    assert kept(home) == sorted([names[1], f"{other}.bin"])
