from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from netadapt.baselines import one_shot
from netadapt.baselines.one_shot import LossCurve, OneShotChooser, loss_curve, sampled_widths
from netadapt.errors import NonFinite
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import allowed_widths


def group(name: str, width: int, multiple: int = 1, block: str = "") -> ChannelGroup:
    return ChannelGroup(name=name, width=width, layers=(name,), axes=(), multiple=multiple, block=block)


class Weighted:
    """A resource known exactly: a staircase of widths rounded up, with a price for each group."""

    def __init__(self, prices: list[float], lanes: int = 1, sigma: float = 0.0) -> None:
        self.prices, self.lanes, self.sigma = np.array(prices), lanes, sigma

    def fit(self, widths: np.ndarray, values: np.ndarray) -> None: ...

    def estimate(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = -(-widths // self.lanes) * self.lanes
        return (padded * self.prices).sum(-1) + 1.0, np.full(len(widths), self.sigma)


def chooser(
    groups: list[ChannelGroup], estimators: dict[str, Weighted], curves: dict[str, LossCurve]
) -> OneShotChooser:
    return OneShotChooser(groups, estimators, curves, multiple=8, minimum=8, seed=0)


@given(width=st.integers(1, 300), multiple=st.sampled_from([1, 4, 8]), minimum=st.integers(1, 32))
def test_a_curve_is_sampled_at_few_allowed_widths_down_to_the_narrowest(
    width: int, multiple: int, minimum: int
) -> None:
    sampled = sampled_widths(group("a", width), multiple, minimum)
    allowed = allowed_widths(group("a", width), width, multiple, minimum).tolist()
    assert set(sampled) <= set(allowed)
    assert sampled == sorted(sampled, reverse=True)
    assert len(sampled) <= 5
    assert not allowed or sampled[-1] == allowed[0]


def test_a_curve_of_a_group_that_fills_a_block_goes_down_to_no_unit() -> None:
    assert sampled_widths(group("a", 64, block="b"), 8, 8) == [48, 32, 24, 16, 8, 0]
    assert sampled_widths(group("a", 8, block="b"), 8, 8) == [0]


def test_a_block_goes_where_it_is_worth_less_than_it_costs() -> None:
    groups = [group("a", 32, block="x"), group("b", 32, block="y"), group("c", 32)]
    curves = {
        "a": LossCurve((0, 8, 32), (0.01, 0.01, 0.0)),
        "b": LossCurve((0, 8, 32), (5.0, 1.0, 0.0)),
        "c": LossCurve((8, 16, 32), (1.0, 0.5, 0.0)),
    }
    [best, *_] = chooser(groups, {"latency": Weighted([1, 1, 1])}, curves).proposals(
        {"a": 32, "b": 32, "c": 32}, {"latency": 97.0}, {"latency": 66.0}
    )
    assert best.widths == {"a": 0, "b": 32, "c": 32}


def test_where_no_uniform_network_is_fast_enough_blocks_go() -> None:
    groups = [group("a", 32, block="x"), group("b", 32)]
    curves = {"a": LossCurve((0, 8, 32), (1.0, 0.5, 0.0)), "b": LossCurve((8, 32), (1.0, 0.0))}
    found = chooser(groups, {"latency": Weighted([1, 1])}, curves).proposals(
        {"a": 32, "b": 32}, {"latency": 65.0}, {"latency": 10.0}
    )
    assert [proposal.widths for proposal in found] == [{"a": 0, "b": 8}]


def test_a_curve_never_falls_as_the_group_narrows() -> None:
    curve = LossCurve((8, 16, 24, 32), (1.0, 0.2, 0.4, 0.0))
    assert curve.at(np.array([32, 24, 20, 16, 8])).tolist() == pytest.approx([0.0, 0.4, 0.4, 0.4, 1.0])
    assert LossCurve((8, 16), (-0.1, 0.0)).at(np.array([8])).tolist() == [0.0]


class Narrows:
    """A ChooseWhichFilters that remembers what it was asked for in a module's attribute."""

    def prepare(self, module: nn.Module) -> None: ...

    def choose(self, group: str, width: int) -> tuple[int, ...]:
        return tuple(range(width))

    def apply(self, kept: dict[str, tuple[int, ...]]) -> nn.Module:
        module = nn.Identity()
        module.kept = {name: len(units) for name, units in kept.items()}
        return module


def test_a_curve_is_what_cutting_the_group_alone_adds_to_the_loss() -> None:
    curve = loss_curve(group("a", 32), [24, 8], Narrows(), lambda m: 10.0 / m.kept["a"], start=0.25)
    assert curve.widths == (8, 24, 32)
    assert curve.losses == pytest.approx((1.0, 10 / 24 - 0.25, 0.0))


@pytest.mark.parametrize("failure", [float("nan"), float("inf"), NonFinite("the outputs are NaN")])
def test_a_curve_ends_where_the_loss_is_not_finite(failure: float | Exception) -> None:
    def loss(module: nn.Module) -> float:
        if module.kept["a"] > 8:
            return 1.0
        if isinstance(failure, Exception):
            raise failure
        return failure

    curve = loss_curve(group("a", 32), [24, 16, 8], Narrows(), loss, start=0.5)
    assert curve.widths == (16, 24, 32)
    assert curve.losses == (0.5, 0.5, 0.0)
    one = chooser([group("a", 32)], {"latency": Weighted([1.0])}, {"a": curve})
    assert one.proposals({"a": 32}, {"latency": 33.0}, {"latency": 20.0})[0].widths == {"a": 16}
    assert not [
        p for p in one.proposals({"a": 32}, {"latency": 33.0}, {"latency": 12.0}) if p.estimated["latency"] > 12
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.3, 0.95), lanes=st.sampled_from([1, 16]))
def test_the_first_proposal_has_the_least_sum_of_losses_that_the_constraint_allows(
    seed: int, share: float, lanes: int
) -> None:
    random = np.random.default_rng(seed)
    widths = (8 * random.integers(2, 6, size=4)).tolist()
    groups = [group(f"g{i}", width) for i, width in enumerate(widths)]
    curves = {}
    for g in groups:
        sampled = [*range(8, g.width, 8), g.width]
        losses = np.sort(random.exponential(size=len(sampled) - 1))[::-1]
        curves[g.name] = LossCurve(tuple(sampled), (*losses.tolist(), 0.0))
    estimator = Weighted(random.uniform(0.1, 1.0, 4).tolist(), lanes)
    full = {g.name: g.width for g in groups}
    cost = float(estimator.estimate(np.array([widths]))[0][0])
    limit = share * cost

    def loss(row: tuple[int, ...]) -> float:
        return sum(float(curves[g.name].at(np.array([w]))[0]) for g, w in zip(groups, row, strict=True))

    rows = list(product(*(range(8, width + 1, 8) for width in widths)))
    fits = estimator.estimate(np.array(rows))[0] <= limit
    found = chooser(groups, {"latency": estimator}, curves).proposals(full, {"latency": cost}, {"latency": limit})
    if not fits.any():
        assert found == []
        return
    best = min(loss(row) for row, fit in zip(rows, fits, strict=True) if fit)
    assert loss(tuple(found[0].widths.values())) == pytest.approx(best)
    for proposal in found:
        assert proposal.estimated["latency"] <= limit * (1 + 1e-9)
        assert proposal.groups == tuple(g.name for g in groups if proposal.widths[g.name] < g.width)


def test_the_uniform_network_is_proposed_too_and_all_meet_every_resource() -> None:
    groups = [group("a", 64), group("b", 64), group("c", 64)]
    steep, flat = LossCurve((8, 64), (5.0, 0.0)), LossCurve((8, 64), (0.01, 0.0))
    estimators = {"latency": Weighted([1.0, 1.0, 1.0], sigma=2.0), "parameters": Weighted([1.0, 2.0, 3.0])}
    start, limits = {"latency": 193.0, "parameters": 385.0}, {"latency": 120.0, "parameters": 200.0}
    found = chooser(groups, estimators, {"a": steep, "b": flat, "c": flat}).proposals(
        {"a": 64, "b": 64, "c": 64}, start, limits
    )
    assert [32, 32, 32] in [list(p.widths.values()) for p in found]
    assert found[0].widths["a"] == 64
    for proposal in found:
        assert proposal.estimated["latency"] + proposal.sigma["latency"] <= 120 * (1 + 1e-9)
        assert proposal.estimated["parameters"] <= 200 * (1 + 1e-9)


def test_one_of_the_proposals_shuns_bottlenecks() -> None:
    """Two groups of the same curve and price: the plain sum may cut one of them to the bone, the other one shares."""
    groups = [group("a", 64), group("b", 64)]
    curve = LossCurve((8, 32, 64), (1.0, 0.6, 0.0))  # concave: the sum is least when one group takes it all
    found = chooser(groups, {"latency": Weighted([1.0, 1.0])}, {"a": curve, "b": curve}).proposals(
        {"a": 64, "b": 64}, {"latency": 129.0}, {"latency": 73.0}
    )
    assert {tuple(sorted(p.widths.values())) for p in found} >= {(8, 64), (32, 40)}


def test_estimates_agree_with_the_measurement_of_the_current_network() -> None:
    groups = [group("a", 64)]
    one = chooser(groups, {"latency": Weighted([1.0])}, {"a": LossCurve((8, 64), (1.0, 0.0))})
    slower = one.proposals({"a": 32}, {"latency": 66.0}, {"latency": 50.0})  # measured twice what is estimated
    assert slower[0].widths == {"a": 24}
    assert slower[0].estimated["latency"] == pytest.approx(50.0)


def test_groups_without_a_curve_keep_their_width() -> None:
    groups = [group("a", 64), group("b", 8)]
    found = chooser(groups, {"latency": Weighted([1.0, 1.0])}, {"a": LossCurve((8, 64), (1.0, 0.0))}).proposals(
        {"a": 64, "b": 8}, {"latency": 73.0}, {"latency": 40.0}
    )
    assert [p.widths for p in found] == [{"a": 24, "b": 8}]


def test_the_same_seed_gives_the_same_proposals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_shot, "_ROUNDS_PER_GROUP", 10)
    groups = [group(f"g{i}", 128) for i in range(6)]
    curves = {g.name: LossCurve((8, 64, 128), (1.0 + i, 0.1, 0.0)) for i, g in enumerate(groups)}
    full, arguments = dict.fromkeys(curves, 128), ({"latency": 769.0}, {"latency": 300.0})
    first, second = (
        chooser(groups, {"latency": Weighted([1.0] * 6)}, curves).proposals(full, *arguments) for _ in "12"
    )
    assert first == second
