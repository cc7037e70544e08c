"""Files named by their content."""

from __future__ import annotations

import hashlib
import json

import pytest

from netadapt.errors import PlatformError
from netadapt.platforms import Artifact
from netadapt.platforms.artifacts import artifact_of, manifest_of, size_mb, store, store_several


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


def several(folder):
    return store_several({".param": b"graph", ".bin": b"weights"}, folder, {"inputs": []})


def test_several_files_are_named_by_one_hash(tmp_path):
    artifact = several(tmp_path / "a")
    assert [path.read_bytes() for path in artifact.companions] == [b"graph", b"weights"]
    assert artifact.files == (artifact.path, *artifact.companions)
    assert manifest_of(artifact.path)["inputs"] == []
    assert artifact_of(artifact.path) == artifact
    assert size_mb(artifact) == sum(path.stat().st_size for path in artifact.path.parent.iterdir()) / 1e6
    other = store_several({".param": b"graph", ".bin": b"other weights"}, tmp_path / "b", {"inputs": []})
    assert several(tmp_path / "b").sha256 == artifact.sha256 != other.sha256


@pytest.mark.parametrize("suffix", [".BIN", ".weights_of_the_first-half.v2", "." + "x" * 63])
def test_what_is_written_can_be_read(tmp_path, suffix):
    artifact = store_several({suffix: b"weights"}, tmp_path, {})
    assert artifact_of(artifact.path).companions == (tmp_path / (hashlib.sha256(b"weights").hexdigest() + suffix),)


@pytest.mark.parametrize("suffix", ["", "bin", ".", ".a..b", "./x", ".b n", ".bin\n", ".\u00fc", "." + "x" * 64])
def test_a_suffix_that_no_manifest_may_name_is_not_written(tmp_path, suffix):
    with pytest.raises(PlatformError, match=r"is no suffix for a file of a network; allowed is a dot"):
        store_several({".param": b"graph", suffix: b"weights"}, tmp_path, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"x")])
def test_a_missing_or_damaged_companion_is_told(tmp_path, damage):
    artifact = several(tmp_path)
    damage(artifact.companions[1])
    with pytest.raises(PlatformError, match="missing or damaged"):
        artifact_of(artifact.path)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a.bin", "0" * 64 + ".bin/../x.bin", "0" * 64 + ".param", "0" * 63 + "A.bin", 3]
)
def test_a_manifest_names_only_files_beside_it(tmp_path, name):
    artifact = several(tmp_path)
    manifest = json.loads(artifact.path.read_bytes())
    manifest["files"][".bin"] = name
    artifact.path.write_text(json.dumps(manifest))
    with pytest.raises(PlatformError, match="does not name the files"):
        artifact_of(artifact.path)


def test_a_manifest_names_no_suffix_that_is_never_written(tmp_path):
    artifact = several(tmp_path)
    manifest = json.loads(artifact.path.read_bytes())
    manifest["files"] = {".b n": "0" * 64 + ".b n"}
    artifact.path.write_text(json.dumps(manifest))
    with pytest.raises(PlatformError, match="does not name the files"):
        manifest_of(artifact.path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\x00\xff", b'{"format": 1}', b" " * (1 << 20) + b"{}"])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    path = tmp_path / "x.network.json"
    path.write_bytes(content)
    with pytest.raises(PlatformError, match="does not name the files"):
        manifest_of(path)
