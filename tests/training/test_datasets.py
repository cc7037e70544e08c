from __future__ import annotations

import pytest

from netadapt.errors import DataError
from netadapt.training.datasets import resolve_task
from netadapt.training.images import IMAGENET, SYMMETRIC
from netadapt.training.task import Task


def test_digits_are_not_mirrored():
    task = resolve_task("digits", resolution=16, batch_size=8, selection=None)
    assert task.augment.mirror is False
    assert task.normalisation == SYMMETRIC
    assert task.train.size == (16, 16)
    assert task.batch_size == 8
    assert len(task.selection_indices) == 100


def test_the_text_wins_over_the_options():
    text = (
        "digits?resolution=12&selection=0.5&augment=0&mean=0,0,0&std=1,1,1&distillation=0.5&seed=3&label_smoothing=0.1"
    )
    task = resolve_task(text, resolution=16, selection=7, mean=(0.5, 0.5, 0.5))
    assert task.train.size == (12, 12)
    assert len(task.selection_indices) == pytest.approx(1397 / 2, abs=10)
    assert task.augment is None
    assert task.normalisation.mean == (0, 0, 0)
    assert (task.distillation, task.label_smoothing) == (0.5, 0.1)


def test_parquet_and_its_environment_variable(tmp_path, encoded, write_parquet, monkeypatch):
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", [encoded()] * 6, [0, 1] * 3)
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    task = resolve_task("parquet:${SOME_DATA}", selection=1, resolution=8)
    assert task.classes == ("a", "b")
    assert task.normalisation == IMAGENET
    assert task.augment.mirror
    assert task.train.size == (8, 8)
    assert resolve_task("parquet:${SOME_DATA}?selection=1&crop=1,1,5,5").train.size == (4, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "digit",
            'unknown task "digit" \\(did you mean "digits"\\?\\); a TASK is digits, parquet:DIR, folder:DIR or file.py',
        ),
        (
            "digits?batchsize=3",
            'digits has no argument "batchsize" \\(did you mean "batch_size"\\?\\); its arguments: res',
        ),
        ("digits?mean=1,2", "mean=1,2 is not allowed: 3 numbers are, separated by commas"),
        ("digits?selection=some", "selection=some is not allowed: images per class or a fraction below 1 is"),
        ("parquet:/no/such", '"/no/such" is not a folder: write parquet:DIR'),
        ("folder:/no/such", '"/no/such" is not a folder: write folder:DIR'),
        ("mine.py:task", 'mine.py" in "mine.py:task" is not a file'),
    ],
)
def test_mistakes_are_one_clear_error(text, message):
    with pytest.raises(DataError, match=message):
        resolve_task(text)


USER = """
class Mine:
    def __init__(self, batch_size): self.batch_size = batch_size
    def batches(self, seed): ...
    def size(self, batch): ...
    def forward(self, model, batch): ...
    def loss(self, outputs, batch, teacher_outputs=None): ...
    def evaluate(self, model, split): ...
def task(batch_size: int = 4): return Mine(batch_size)
class Half:
    def batches(self, seed): ...
    def loss(self, outputs, batch): ...
def half(): return Half()
"""


def test_a_users_task(tmp_path):
    (tmp_path / "mine.py").write_text(USER)
    task = resolve_task(f"{tmp_path}/mine.py:task", batch_size=9, selection=3)
    assert isinstance(task, Task)
    assert task.batch_size == 9
    assert resolve_task(f"{tmp_path}/mine.py:task?batch_size=5", batch_size=9).batch_size == 5
    with pytest.raises(
        DataError, match='half" returned a Half without size, forward, evaluate: it must return an object'
    ):
        resolve_task(f"{tmp_path}/mine.py:half")
