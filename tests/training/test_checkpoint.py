from __future__ import annotations

import pytest
import torch

from netadapt.training.checkpoint import read_checkpoint, write_checkpoint


@pytest.fixture
def path(tmp_path):
    tensors = {"a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "n": torch.tensor(3)}
    write_checkpoint(tmp_path / "c", tensors, {"done": 7, "loss": 0.1 + 0.2}, {"seed": 1})
    return tmp_path / "c"


def test_numbers_come_back_bit_for_bit(path):
    tensors, numbers = read_checkpoint(path, {"seed": 1})
    assert numbers == {"done": 7, "loss": 0.1 + 0.2}
    assert tensors["n"] == 3
    assert tensors["a"].shape == (2, 3, 4, 4)


def test_there_may_be_none(tmp_path):
    assert read_checkpoint(tmp_path / "c", {}) is None


def test_another_training_is_told(path, caplog):
    assert read_checkpoint(path, {"seed": 2}) is None
    assert "is of another training" in caplog.text


@pytest.mark.parametrize("keep", [0, 4, 40, 300])
def test_a_damaged_file_is_told_and_not_used(path, caplog, keep):
    path.write_bytes(path.read_bytes()[:keep])
    assert read_checkpoint(path, {"seed": 1}) is None
    assert "is damaged" in caplog.text
