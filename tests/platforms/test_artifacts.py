"""Files named by their content."""

from __future__ import annotations

import hashlib

import pytest

from netadapt.errors import PlatformError
from netadapt.platforms import Artifact
from netadapt.platforms.artifacts import artifact_of, size_mb, store


def test_a_file_is_named_by_its_content(tmp_path):
    artifact = store(b"abc", tmp_path / "deep" / "folder", ".onnx")
    assert artifact.sha256 == hashlib.sha256(b"abc").hexdigest()
    assert artifact.path.name == f"{artifact.sha256}.onnx"
    assert artifact_of(artifact.path) == artifact


def test_storing_twice_leaves_one_file(tmp_path):
    assert store(b"abc", tmp_path, ".x") == store(b"abc", tmp_path, ".x")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_file_is_the_users_error(tmp_path):
    with pytest.raises(PlatformError, match="no file"):
        artifact_of(tmp_path / "missing")


def test_sizes_are_those_of_files_and_of_all_files_in_a_folder(tmp_path):
    file = store(b"x" * 2000, tmp_path / "a", ".bin")
    store(b"y" * 500, tmp_path / "a/b", ".bin")
    assert size_mb(file) == 0.002
    assert size_mb(Artifact(tmp_path / "a", file.sha256)) == 0.0025
