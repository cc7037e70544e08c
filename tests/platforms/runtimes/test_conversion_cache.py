"""The cache of converted files: what it gives back, what it refuses, what it deletes."""

from __future__ import annotations

import os

from netadapt.platforms.runtimes.conversion_cache import ConversionCache


def names(folder):
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def test_what_was_put_is_found_by_another_cache(tmp_path):
    ConversionCache(tmp_path / "new", ".x").put("aa", b"one")
    cache = ConversionCache(tmp_path / "new", ".x")
    assert cache.get("aa") == b"one"
    assert cache.get("bb") is None


def test_other_suffixes_are_other_files(tmp_path):
    ConversionCache(tmp_path, ".x").put("aa", b"one")
    assert ConversionCache(tmp_path, ".y").get("aa") is None


def test_a_damaged_file_is_deleted_and_told(tmp_path, caplog):
    cache = ConversionCache(tmp_path, ".x")
    cache.put("aa", b"one")
    next(tmp_path.iterdir()).write_bytes(b"0ne")
    assert cache.get("aa") is None
    assert "damaged" in caplog.text
    assert not list(tmp_path.iterdir())


def test_what_was_used_longest_ago_goes_first(tmp_path):
    cache = ConversionCache(tmp_path, ".x", limit_bytes=25)
    for age, key in ((30, "aa"), (20, "bb")):
        cache.put(key, bytes(10))
        path = next(tmp_path.glob(f"{key}-*"))
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    assert cache.get("aa") == bytes(10)  # is now the one used last
    cache.put("cc", bytes(10))
    assert names(tmp_path) == ["aa", "cc"]


def test_a_file_beyond_the_limit_is_not_kept(tmp_path):
    cache = ConversionCache(tmp_path, ".x", limit_bytes=5)
    cache.put("aa", bytes(10))
    assert cache.get("aa") is None


def test_a_folder_that_cannot_be_made_costs_a_warning(tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    cache = ConversionCache(tmp_path / "file" / "folder", ".x")
    cache.put("aa", b"one")
    assert "cannot be kept" in caplog.text
    assert cache.get("aa") is None
