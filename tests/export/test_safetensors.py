"""Copying a variant."""

from __future__ import annotations

import pytest

from netadapt.errors import ModelError
from netadapt.export import copy_variant


@pytest.fixture
def variant(tmp_path):
    folder = tmp_path / "variant"
    folder.mkdir()
    for name in ("architecture.json", "weights.safetensors", "load.py"):
        (folder / name).write_text(name)
    return folder


def test_all_files_are_copied(variant, tmp_path):
    copy = copy_variant(variant, tmp_path / "deep" / "copy")
    assert {p.name: p.read_text() for p in copy.iterdir()} == {p.name: p.read_text() for p in variant.iterdir()}


def test_what_is_no_variant_is_refused(variant, tmp_path):
    (variant / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="it has no weights"):
        copy_variant(variant, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_folder_in_use_is_refused(variant, tmp_path):
    with pytest.raises(ModelError, match="not empty"):
        copy_variant(variant, tmp_path)


def test_links_are_refused(variant, tmp_path):
    (variant / "secret").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="links"):
        copy_variant(variant, tmp_path / "copy")
