"""The run folder: who may write it, what lies where, what a crash leaves."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from netadapt.errors import ConfigError, Interrupted, RunDamaged
from netadapt.files import write_atomic
from netadapt.runs.config import load_config, make_config
from netadapt.runs.folder import RunFolder, inside
from netadapt.runs.journal import read_records


def config(**search):
    return make_config({
        "model": {"source": "resnet20"}, "budget": {"latency": "50%"}, "task": {"source": "digits"}, "search": search,
    })  # fmt: skip


def test_a_new_folder_holds_the_resolved_config(tmp_path):
    with RunFolder(tmp_path / "a" / "b", config()) as run:
        assert not run.resumed
        run.append("start", {})
    assert load_config(tmp_path / "a" / "b" / "config.toml") == config()
    assert len(read_records(tmp_path / "a" / "b" / "journal.jsonl")) == 1


def test_the_same_config_resumes(tmp_path):
    with RunFolder(tmp_path, config()) as run:
        run.append("start", {})
    with RunFolder(tmp_path, config()) as run:
        assert run.resumed
        assert [record.type for record in run.journal.records] == ["start"]


def test_other_settings_are_refused_with_the_keys(tmp_path):
    with RunFolder(tmp_path, config()) as run:
        run.append("start", {})
    with pytest.raises(ConfigError) as caught:
        RunFolder(tmp_path, config(decay=0.9, multiple=4))
    assert "search.decay: 0.96 -> 0.9\n  search.multiple: 8 -> 4\n" in str(caught.value)
    RunFolder(tmp_path, config()).close()  # the refusal gave the lock back


def test_before_the_first_record_settings_may_change(tmp_path):
    RunFolder(tmp_path, config()).close()
    with RunFolder(tmp_path, config(decay=0.9)) as run:
        run.append("start", {})
    assert load_config(tmp_path / "config.toml").search.decay == 0.9


def test_a_folder_of_something_else_is_refused_untouched(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"not the folder of a run: it holds thesis\.tex"):
        RunFolder(tmp_path, config())
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        RunFolder(tmp_path / "run", config())


def test_a_read_only_folder_is_refused_first(tmp_path):
    """As another user, for root may write anything."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o555)
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_mode & 0o055 != 0o055:
            parent.chmod(0o755)
    code = f"""
import os, sys
from netadapt.errors import ConfigError
from netadapt.runs.config import make_config
from netadapt.runs.folder import RunFolder
tables = {{"model": {{"source": "resnet20"}}, "budget": {{"latency": "50%"}}, "task": {{"source": "digits"}}}}
config = make_config(tables)
if os.getuid() == 0:
    os.setuid(65534)
try:
    RunFolder({str(folder)!r}, config)
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"{folder} cannot be written: it is read-only for you" in done.stdout, done.stderr
    assert list(folder.iterdir()) == []


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="symbolic link"):
        RunFolder(tmp_path / "link", config())


def test_too_little_room_is_told_before_the_start(tmp_path):
    with pytest.raises(ConfigError, match="MB free"):
        RunFolder(tmp_path, config(), needed_mb=1e12)


def test_a_second_writer_is_refused(tmp_path):
    with RunFolder(tmp_path, config()), pytest.raises(ConfigError, match=f"process {os.getpid()}"):
        RunFolder(tmp_path, config())


def test_a_journal_without_config_is_damaged(tmp_path):
    with RunFolder(tmp_path, config()) as run:
        run.append("start", {})
    (tmp_path / "config.toml").unlink()
    with pytest.raises(RunDamaged, match=r"no config\.toml"):
        RunFolder(tmp_path, config())


def test_files_are_written_whole_and_hashed(tmp_path):
    with RunFolder(tmp_path, config()) as run:
        digest = run.write("variants/001/measurement.json", b"{}")
        assert digest == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
        run.write_json("environment.json", {"a": 1})
        with pytest.raises(ValueError, match="JSON"):
            run.write_json("environment.json", {"a": float("inf")})
        assert run.variant(7) == tmp_path / "variants" / "007"
        assert run.variant(7, tuned=True).is_dir()
    assert (tmp_path / "environment.json").read_text() == '{\n "a": 1\n}\n'


def test_what_a_crash_left_is_removed(tmp_path):
    with RunFolder(tmp_path, config()) as run:
        run.append("start", {})
        run.variant(1)
    leftover = tmp_path / "variants" / "001" / ".weights.safetensors.abc.tmp"
    leftover.write_bytes(b"half")
    RunFolder(tmp_path, config()).close()
    assert not leftover.exists()


def test_a_full_disk_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    with RunFolder(tmp_path, config()) as run:
        run.write("a.json", b"old")

        def full(file):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch, pytest.raises(Interrupted, match="No space left"):
            patch.setattr("os.fsync", full)
            run.write("a.json", b"new")
        assert (tmp_path / "a.json").read_bytes() == b"old"
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.json", "config.toml", "journal.jsonl", "lock"]


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\\..\\x", "a\0b"])
def test_paths_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(RunDamaged, match="not a path inside"):
        inside(tmp_path, name)


def test_links_inside_are_refused(tmp_path):
    (tmp_path / "variants").symlink_to("/etc")
    with pytest.raises(RunDamaged, match="symbolic link"):
        inside(tmp_path, "variants/passwd")


def test_the_curve_is_rewritten_from_the_journal(make_run):
    rows = list(csv.DictReader((make_run(steps=3) / "curve.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows] == ["000", "001", "002", "003"]
    assert float(rows[0]["latency_ms"]) == 0.999
    assert rows[1]["accuracy_test"] == ""
    assert float(rows[3]["accuracy_test"]) == 0.647


def test_atomic_writing_keeps_no_temporary_file(tmp_path: Path):
    write_atomic(tmp_path / "x", b"1")
    write_atomic(tmp_path / "x", b"2")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("x", b"2")]
