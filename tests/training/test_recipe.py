from __future__ import annotations

import math

import pytest

from netadapt.errors import UsageError
from netadapt.training.recipe import Recipe


def test_rates():
    cosine = Recipe(images=100, lr=2.0)
    assert [round(cosine.rate(done, 100), 6) for done in (0, 50, 100)] == [2.0, 1.0, 0.0]
    assert Recipe(images=100, lr=2.0, schedule="constant").rate(99, 100) == 2.0
    warm = Recipe(images=1000, lr=1.0, warmup=0.1)
    assert warm.rate(0, 1000) == pytest.approx(0.01)
    assert warm.rate(100, 1000) == pytest.approx(0.5 * (1 + math.cos(0.1 * math.pi)))


@pytest.mark.parametrize("wrong", [{}, {"images": 1, "epochs": 1}])
def test_a_recipe_has_one_length(wrong):
    with pytest.raises(UsageError, match="a recipe needs images or epochs, not both: images="):
        Recipe(**wrong)


def test_epochs_are_counted_in_images(task):
    assert Recipe(epochs=1.5).total_images(task) == 112
    assert Recipe(images=7).total_images(task) == 7
