"""The snapshot of the machine: readable anywhere, JSON, and nothing is changed."""

from __future__ import annotations

import json
import os

from netadapt.platforms import environment


def test_a_snapshot_is_json_and_names_the_machine():
    seen = environment.snapshot(("numpy", "no-such-package"))
    assert json.loads(json.dumps(seen, allow_nan=False)) == seen
    assert seen["processor"] == environment.processor() != ""
    assert seen["cores"] == len(environment.available_cores()) >= 1
    assert seen["versions"]["no-such-package"] == "not installed"
    assert seen["versions"]["numpy"][0].isdigit()


def test_cores_are_those_that_this_process_may_use():
    if hasattr(os, "sched_getaffinity"):
        assert set(environment.available_cores()) == os.sched_getaffinity(0)


def test_unreadable_files_are_left_out(tmp_path):
    assert environment._read(tmp_path / "missing") is None
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    assert environment._read(tmp_path / "binary") is None


def test_channels_come_in_whole_vectors():
    assert [environment.whole_vectors(count, 8) for count in (0, 1, 8, 9)] == [0, 8, 8, 16]
