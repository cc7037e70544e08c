"""How fast this machine is with a network."""

from __future__ import annotations

from itertools import islice

import torch

from netadapt.check.speed import Noise, measure_speed
from netadapt.network import trace
from netadapt.training.datasets import resolve_task


def test_noise_has_the_shape_of_the_example_and_the_batch_asked_for() -> None:
    example = {"images": torch.zeros(2, 3, 4, 4), "ids": torch.tensor([[1], [2]]), "flag": True}
    first, second = islice(Noise(example, 5).batches(0), 2)
    assert first["images"].shape == (5, 3, 4, 4)
    assert first["ids"].flatten().tolist() == [1, 1, 1, 2, 2]
    assert first["flag"] is True
    assert not torch.equal(first["images"], second["images"])


def test_all_speeds_are_measured(tiny) -> None:
    speed = measure_speed(trace(*tiny), None)
    assert min(speed.forward, speed.training, speed.refit_s) > 0
    assert speed.outputs == 5


def test_a_task_gives_the_batches(tiny) -> None:
    model, example = tiny
    model.head = torch.nn.Linear(16, 10)
    task = resolve_task("digits", resolution=8)
    assert measure_speed(trace(model, example), task).outputs == 10
