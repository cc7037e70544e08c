"""Files that are written whole or not at all."""

from __future__ import annotations

import hashlib

import pytest

from netadapt.files import cache_folder, write_atomic


def test_the_content_and_its_hash(tmp_path):
    assert write_atomic(tmp_path / "x", b"one") == hashlib.sha256(b"one").hexdigest()
    write_atomic(tmp_path / "x", b"two")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("x", b"two")]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_atomic(tmp_path / "x", b"old")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "x", b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("x", b"old")]


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "none" / "x", b"")


def test_the_cache_folder_is_given_or_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("NETADAPT_CACHE", str(tmp_path / "there"))
    assert cache_folder() == tmp_path / "there"
    assert cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("NETADAPT_CACHE")
    assert cache_folder().parts[-2:] == (".cache", "netadapt")
