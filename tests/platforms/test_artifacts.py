"""Files named by their content."""

from __future__ import annotations

import hashlib

import pytest

from netadapt.errors import PlatformError
from netadapt.platforms.artifacts import artifact_of, store


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
