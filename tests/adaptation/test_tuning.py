from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netadapt.adaptation.tuning import Tuner, derived_seed, inputs_of, recipe_of
from netadapt.errors import Interrupted, UsageError
from netadapt.runs.settings import LongTerm, ShortTerm
from netadapt.scores import Score
from netadapt.training.loop import Recipe


class Halves:
    """Tell positive from negative means."""

    def batches(self, seed: int) -> Iterator[Tensor]:
        for number in itertools.count():
            yield torch.randn(8, 4, generator=torch.Generator().manual_seed(seed + number))

    def size(self, batch: Tensor) -> int:
        return len(batch)

    def forward(self, model: nn.Module, batch: Tensor) -> Any:
        return model(batch)

    def loss(self, outputs: Tensor, batch: Tensor, teacher_outputs: Any | None = None) -> Tensor:
        return (outputs.squeeze(1) - batch.mean(1)).square().mean()

    def evaluate(self, model: nn.Module, split: str) -> Score:
        with torch.inference_mode():
            batch = next(self.batches(99))
            return Score(0.5, float(self.loss(model(batch), batch)), 8)


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).eval()


def test_seeds_of_units_of_work_differ_and_are_stable() -> None:
    assert derived_seed(0, "001-a") == derived_seed(0, "001-a")
    assert len({derived_seed(seed, key) for seed in (0, 1) for key in ("a", "b")}) == 4
    torch.manual_seed(derived_seed(3, "any"))  # fits where torch and numpy want a seed


def test_a_table_becomes_a_recipe_and_no_images_none() -> None:
    for from_scratch in (False, True):  # where the weights come from is no matter of the recipe
        assert recipe_of(LongTerm(epochs=3.0, lr=0.1, from_scratch=from_scratch)) == Recipe(epochs=3.0, lr=0.1)
    assert recipe_of(ShortTerm(images=0)) is None


def test_calibration_has_at_least_the_images_asked_for() -> None:
    tuner = Tuner(Halves(), None, 0, calibration_images=20)
    assert sum(len(batch) for batch in tuner.calibration) == 24
    inputs = tuner.calibration_inputs()
    assert [len(given[0]) for given in inputs] == [8, 8, 8]


def test_every_image_that_a_network_sees_is_counted() -> None:
    tuner = Tuner(Halves(), None, 0, calibration_images=20)
    tuner.refresh(net())
    tuner.score(net())
    tuner.saw(3)
    tuner.refresh(nn.Sequential(nn.Linear(4, 1)))  # has no statistics: sees no image
    assert tuner.reset() == (0, 24 + 8 + 3)
    assert tuner.reset() == (0, 0)


def test_a_task_that_can_is_asked_for_fewer_images_and_another_one_for_all() -> None:
    class Parts(Halves):
        def evaluate_part(self, model: nn.Module, images: int) -> Score:
            return Score(0.5, 1.0, images)

    for task, count in ((Parts(), 5), (Halves(), 8)):
        tuner = Tuner(task, None, 0, calibration_images=20)
        assert tuner.score_part(net(), 5).count == tuner.forward_images == count


def test_images_are_counted_apart() -> None:
    tuner = Tuner(Halves(), None, 0, calibration_images=8)
    model = net()
    assert tuner.tune(model, Recipe(images=32, lr=0.01), "a") == 32
    tuner.score(model)
    assert tuner.reset() == (32, 8)
    assert tuner.reset() == (0, 0)


def test_the_same_key_trains_the_same_and_another_key_otherwise() -> None:
    trained = []
    for key in ("a", "a", "b"):
        model = net()
        Tuner(Halves(), None, 0, calibration_images=8).tune(model, Recipe(images=32, lr=0.01), key)
        trained.append(model.state_dict()["0.weight"].clone())
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_statistics_are_refreshed() -> None:
    model = net()
    before = model[1].running_mean.clone()
    Tuner(Halves(), None, 0, calibration_images=64).refresh(model)
    assert not torch.equal(model[1].running_mean, before)
    assert not model[1].training


def test_a_stop_says_how_to_go_on() -> None:
    tuner = Tuner(Halves(), None, 0, calibration_images=8, should_stop=lambda: True)
    with pytest.raises(Interrupted, match="the same command goes on from there"):
        tuner.tune(net(), Recipe(images=64), "a")


def test_the_inputs_of_a_task_are_seen_as_the_network_gets_them() -> None:
    class ByName(Halves):
        def forward(self, model: nn.Module, batch: Tensor) -> Any:
            return model(x=batch * 2)

    batch = torch.ones(2, 4)
    (positional,) = inputs_of(Halves(), batch)
    assert positional is batch
    assert torch.equal(inputs_of(ByName(), batch)["x"], batch * 2)


def test_a_task_that_never_calls_the_network_is_refused() -> None:
    class Idle(Halves):
        def forward(self, model: nn.Module, batch: Tensor) -> Any:
            return batch

    with pytest.raises(UsageError, match="never calls the network"):
        inputs_of(Idle(), torch.ones(2, 4))
