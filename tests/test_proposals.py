from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netadapt.baselines.one_shot import sampled_widths
from netadapt.baselines.uniform import uniform_widths
from netadapt.network.structure import AxisUse, ChannelGroup
from netadapt.proposals import Chooser, Proposal, allowed_widths, gentlest, merge, partial


def group(name: str, width: int, multiple: int = 1, block: str = "") -> ChannelGroup:
    return ChannelGroup(name=name, width=width, layers=(name,), axes=(), multiple=multiple, block=block)


class Exact:
    """A resource known exactly: a staircase with a dip, so that it is not monotone in the widths."""

    def __init__(self, weights: list[float], step: int = 16, sigma: float = 0.0) -> None:
        self.weights, self.step_width, self.sigma = np.array(weights), step, sigma

    def fit(self, widths: np.ndarray, values: np.ndarray) -> None:
        raise AssertionError("never fitted here")

    def estimate(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        padded = -(-widths // self.step_width) * self.step_width
        odd = widths % 16 != 0
        values = (padded * self.weights * (1 + 0.2 * odd)).sum(-1) + 1.0
        return values, np.full(len(values), self.sigma)


def test_allowed_widths_are_multiples_below_the_current_width() -> None:
    assert allowed_widths(group("a", 64), 64, 8, 8).tolist() == [8, 16, 24, 32, 40, 48, 56]
    assert allowed_widths(group("a", 64), 20, 8, 12).tolist() == [16]
    assert allowed_widths(group("a", 64, multiple=12), 64, 8, 8).tolist() == [24, 48]
    assert allowed_widths(group("a", 8), 8, 8, 8).tolist() == []


def test_groups_whose_blocks_are_gone_already_count_nothing() -> None:
    gone = Proposal(("a", "b"), {"a": 0, "b": 16}, {}, {})
    mild = Proposal(("b",), {"a": 0, "b": 24}, {}, {})
    assert gentlest([gone, mild], {"a": 0, "b": 32}, most=1) == [mild]


def test_a_group_that_fills_a_block_may_have_no_unit() -> None:
    assert allowed_widths(group("a", 32, block="b"), 32, 8, 16).tolist() == [0, 16, 24]
    assert allowed_widths(group("a", 8, block="b"), 8, 8, 8).tolist() == [0]
    assert allowed_widths(group("a", 8, block="b"), 0, 8, 8).tolist() == []
    rows = uniform_widths([group("a", 32, block="b")], multiple=8, minimum=8)
    assert rows.min() == 8  # uniform width keeps all blocks


def blocks(name: str, width: int, produced: int, consumed: int, minimum: int = 1) -> ChannelGroup:
    """A group whose units are blocks of channels: ``produced`` where they are computed, ``consumed`` where used."""
    axes = (
        AxisUse("a.weight", 0, np.arange(width * produced).reshape(width, produced), "output"),
        AxisUse("b.weight", 1, np.arange(width * consumed).reshape(width, consumed), "input"),
        AxisUse("a.scale", 0, np.arange(width).reshape(width, 1), "elementwise"),
    )
    return ChannelGroup(name=name, width=width, layers=("a", "b"), axes=axes, minimum=minimum)


def test_the_multiple_and_the_minimum_count_channels_where_units_are_blocks() -> None:
    heads = blocks("heads", 12, 3 * 64, 64)
    assert allowed_widths(heads, 12, 8, 8).tolist() == list(range(1, 12))
    assert allowed_widths(blocks("small heads", 6, 12, 12), 6, 8, 8).tolist() == [2, 4]
    assert allowed_widths(blocks("halves", 16, 2, 1), 16, 8, 8).tolist() == [4, 8, 12]
    assert allowed_widths(blocks("flattened", 24, 1, 49), 24, 8, 8).tolist() == [8, 16]
    assert allowed_widths(blocks("many", 12, 4, 4, minimum=3), 12, 8, 32).tolist() == [8, 10]
    assert uniform_widths([heads], multiple=8, minimum=8)[:, 0].tolist() == list(range(12, 0, -1))
    assert sampled_widths(heads, 8, 8) == [9, 6, 4, 3, 1]


@settings(max_examples=60, deadline=None)
@given(
    widths=st.lists(st.integers(1, 12).map(lambda n: 8 * n), min_size=1, max_size=4),
    cut=st.floats(0.5, 0.99),
    seed=st.integers(0, 100),
)
def test_the_largest_width_that_meets_the_constraint_is_chosen(widths: list[int], cut: float, seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 1.0, len(widths)).tolist()
    estimator = Exact(weights)
    groups = [group(f"g{i}", w) for i, w in enumerate(widths)]
    start = dict(zip((g.name for g in groups), widths, strict=True))
    resource = float(estimator.estimate(np.array([widths]))[0][0])
    found = Chooser(groups, {"latency": estimator}, multiple=8, minimum=8).proposals(
        start, {"latency": resource}, {"latency": cut * resource}
    )

    def feasible(candidate: list[int]) -> bool:
        return float(estimator.estimate(np.array([candidate]))[0][0]) <= cut * resource * (1 + 1e-9)

    singles = {}
    for i, width in enumerate(widths):
        options = [w for w in range(8, width, 8) if feasible([*widths[:i], w, *widths[i + 1 :]])]
        if options:
            singles[(f"g{i}",)] = {**start, f"g{i}": max(options)}
    if singles:
        assert {p.groups: dict(p.widths) for p in found} == singles
    else:
        assert all(len(p.groups) == 2 for p in found)
        pairs = {
            (i, j)
            for i in range(len(widths))
            for j in range(i + 1, len(widths))
            for a, b in product(range(8, widths[i], 8), range(8, widths[j], 8))
            if feasible([*widths[:i], a, *widths[i + 1 : j], b, *widths[j + 1 :]])
        }
        assert {p.groups for p in found} == {(f"g{i}", f"g{j}") for i, j in pairs}


def test_a_width_slower_than_a_larger_one_is_never_chosen() -> None:
    """56 costs more than 48 and 64 here: the odd multiples of 8 are 20 % slower."""
    chooser = Chooser([group("a", 96)], {"latency": Exact([1.0])}, multiple=8, minimum=8)
    (found,) = chooser.proposals({"a": 96}, {"latency": 97.0}, {"latency": 70.0})
    assert found.widths == {"a": 64}


def test_every_resource_must_meet_its_limit() -> None:
    chooser = Chooser(
        [group("a", 64), group("b", 64)],
        {"latency": Exact([1.0, 1.0], step=8), "parameters": Exact([0.0, 2.0], step=8)},
        multiple=8,
        minimum=8,
    )
    found = chooser.proposals(
        {"a": 64, "b": 64}, {"latency": 129.0, "parameters": 129.0}, {"latency": 120, "parameters": 100}
    )
    assert [p.groups for p in found] == [("b",)]
    assert found[0].estimated["parameters"] <= 100


def test_estimates_are_scaled_to_the_measurement_and_one_sigma_is_added() -> None:
    chooser = Chooser([group("a", 64)], {"latency": Exact([1.0], sigma=5.0)}, multiple=16, minimum=16)
    (found,) = chooser.proposals({"a": 64}, {"latency": 130.0}, {"latency": 100.0})
    assert found.widths == {"a": 32}  # 48 is estimated at 98 after scaling by two, 108 with its sigma
    assert found.estimated["latency"] == pytest.approx(66.0)
    assert found.sigma["latency"] == pytest.approx(10.0)


def test_a_resource_that_is_met_by_measurement_needs_no_safety_where_it_is_not_expected_to_rise() -> None:
    """Memory is all of ``a`` and above its budget; the turn is the latency's, which ``b`` can lower as well."""
    estimators = {"latency": Exact([1.0, 1.0], step=8), "memory": Exact([1.0, 0.0], step=8, sigma=20.0)}
    chooser = Chooser([group("a", 64), group("b", 64)], estimators, multiple=16, minimum=16)
    now = {"latency": 129.0, "memory": 65.0}
    found = chooser.proposals({"a": 64, "b": 64}, now, {"latency": 115.0, "memory": 65.0})
    assert [p.widths for p in found] == [{"a": 48, "b": 64}, {"a": 64, "b": 48}]
    found = chooser.proposals({"a": 64, "b": 64}, now, {"latency": 129.0, "memory": 60.0})
    assert [p.widths for p in found] == [{"a": 32, "b": 64}]


def test_no_proposal_where_nothing_can_meet_the_constraint() -> None:
    chooser = Chooser([group("a", 16), group("b", 8)], {"latency": Exact([1.0, 1.0])}, multiple=8, minimum=8)
    assert chooser.proposals({"a": 16, "b": 8}, {"latency": 33.0}, {"latency": 1.0}) == []


def single(name: str, widths: dict[str, int], width: int) -> Proposal:
    return Proposal((name,), {**widths, name: width}, {}, {})


def test_each_of_several_groups_makes_its_share_of_the_step() -> None:
    assert partial({"latency": 10.0, "macs": 5.0}, {"latency": 7.0, "macs": 6.0}, 3) == {"latency": 9.0, "macs": 6.0}
    assert partial({"latency": 10.0}, {"latency": 7.0}, 1) == {"latency": 7.0}


@settings(max_examples=60, deadline=None)
@given(
    start=st.lists(st.integers(2, 8).map(lambda n: 16 * n), min_size=1, max_size=5),
    cut=st.floats(0.3, 0.99),
    seed=st.integers(0, 100),
)
def test_as_few_of_the_best_proposals_are_merged_as_meet_the_constraint(
    start: list[int], cut: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    groups = [group(f"g{i}", w) for i, w in enumerate(start)]
    widths = {g.name: g.width for g in groups}
    estimator = Exact(random.uniform(0.1, 1.0, len(start)).tolist())
    now = float(estimator.estimate(np.array([start]))[0][0])
    order = random.permutation(len(start)).tolist()
    ranked = [single(f"g{i}", widths, 16 * int(random.integers(1, start[i] // 16))) for i in order]
    merged = merge(ranked, groups, {"latency": estimator}, widths, {"latency": now}, {"latency": cut * now})

    def cost(count: int) -> float:
        together = {**widths, **{p.groups[0]: p.widths[p.groups[0]] for p in ranked[:count]}}
        return float(estimator.estimate(np.array([list(together.values())]))[0][0])

    count = len(merged.groups)
    assert set(merged.groups) == {p.groups[0] for p in ranked[:count]}
    assert merged.estimated["latency"] == pytest.approx(cost(count))
    assert cost(count) <= cut * now * (1 + 1e-9) or count == len(ranked)
    assert count == 1 or cost(count - 1) > cut * now


def test_a_share_of_a_step_need_not_be_safe_for_itself() -> None:
    """The standard error of a whole network is as large as a small step: each group would be cut twice as deep."""
    groups, start = [group("a", 64)], {"a": 64}
    estimator = Exact([1.0], step=1, sigma=8.0)
    safe, bold = (
        Chooser(groups, {"latency": estimator}, multiple=16, minimum=16, sigmas=sigmas) for sigmas in (1.0, 0.0)
    )
    (careful,) = safe.proposals(start, {"latency": 65.0}, {"latency": 50.0})
    (share,) = bold.proposals(start, {"latency": 65.0}, {"latency": 50.0})
    assert (careful.widths, share.widths) == ({"a": 32}, {"a": 48})


def test_only_the_gentlest_of_many_proposals_stay_in_their_order() -> None:
    widths = {"a": 64, "b": 64, "c": 64}

    def pair(first: str, second: str, left: int, right: int) -> Proposal:
        return Proposal((first, second), {**widths, first: left, second: right}, {}, {})

    deep, even, slight = pair("a", "b", 8, 56), pair("a", "c", 32, 48), pair("b", "c", 56, 56)
    assert gentlest([deep, even, slight], widths, most=2) == [even, slight]
    assert gentlest([deep, even, slight], widths, most=3) == [deep, even, slight]
