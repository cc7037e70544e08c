from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from netadapt.baselines.annealing import anneal, options
from netadapt.network.structure import ChannelGroup


def group(width: int, multiple: int = 1) -> ChannelGroup:
    return ChannelGroup(name="a", width=width, layers=("a",), axes=(), multiple=multiple)


def test_options_rise_to_the_width_of_the_group_which_need_not_be_a_multiple() -> None:
    assert options(group(35), 8, 16).tolist() == [16, 24, 32, 35]
    assert options(group(35), 8, 16, least=24).tolist() == [24, 32, 35]
    assert options(group(8), 8, 8).tolist() == [8]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.2, 0.9))
def test_it_finds_the_least_cost_though_groups_depend_on_each_other(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    choices = [np.arange(8, 8 * random.integers(3, 7), 8) for _ in range(3)]
    prices, pull = random.uniform(0.1, 1, 3), random.uniform(-1, 1, (3, 3))

    def cost(widths: np.ndarray) -> np.ndarray:
        x = widths / 8
        return (x @ pull * x).sum(-1) - 5.0

    def feasible(widths: np.ndarray) -> np.ndarray:
        return widths @ prices <= share * sum(c[-1] * p for c, p in zip(choices, prices, strict=True))

    first = np.array([c[0] for c in choices])
    assume(feasible(first[None])[0])
    rows = np.stack(np.meshgrid(*choices, indexing="ij"), -1).reshape(-1, 3)
    least = cost(rows)[feasible(rows)].min()
    found = anneal(choices, first, cost, feasible, rounds=240, seed=seed)
    assert feasible(found[None])[0]
    assert cost(found[None])[0] == pytest.approx(least)


def test_what_is_alone_feasible_is_returned() -> None:
    choices = [np.array([8, 16]), np.array([8, 16])]
    first = np.array([8, 8])
    found = anneal(
        choices, first, lambda w: -w.sum(-1).astype(float), lambda w: (w == first).all(-1), rounds=20, seed=0
    )
    assert found.tolist() == [8, 8]
