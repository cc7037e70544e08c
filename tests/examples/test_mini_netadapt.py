"""The oracle itself: tiny cases worked out by hand, and what must hold on any problem."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

import mini_netadapt as mini
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLE = Path(__file__).parents[2] / "examples" / "mini_netadapt.py"


def two_groups(resources: Any, scores: Mapping[tuple[int, int], tuple[float, float]] | None = None) -> Any:
    """Groups a and b of 24 units; unit u of a has norm u, all units of b have norm 1; scored by width."""
    scores = scores or {}
    norms = {"a": np.arange(24.0), "b": np.ones(24)}
    return mini.Network(
        {"a": 24, "b": 24},
        lambda kept: norms,
        resources,
        lambda kept: scores.get((len(kept["a"]), len(kept["b"])), (0.5, 1.0)),
    )


def widths_of(steps: list[Any]) -> list[tuple[int, ...]]:
    return [tuple(step.widths.values()) for step in steps]


# ---- by hand -----------------------------------------------------------------------------------------------------
def test_one_resource_by_hand() -> None:
    # cost   24  16  8          Res_0 = 10 + 10 = 20, budget 12, every step 3
    #   a    10   7  8          (not monotone: 8 units of a cost more than 16)
    #   b    10   9  4
    # i=0: Con = 20 - 3 = 17. a: 16 gives 17, fits; 8 gives 18, does not -> 16. b: 16 gives 19; 8 gives 14 -> 8.
    #      accuracy of (16, 24) 0.8, of (24, 8) 0.9 -> b wins; Res_1 = 14
    # i=1: Con = max(12, 14 - 3) = 12. a: 16 gives 11, 8 gives 12, both fit -> 16 is larger. b is at the minimum.
    #      Res_2 = 11 <= 12: done
    cost_a, cost_b = {24: 10, 16: 7, 8: 8}, {24: 10, 16: 9, 8: 4}
    scores = {(16, 24): (0.8, 0.1), (24, 8): (0.9, 0.2), (16, 8): (0.7, 0.3)}
    network = two_groups(lambda w: {"latency": cost_a[w["a"]] + cost_b[w["b"]]}, scores)
    first, second = mini.adapt(network, {"latency": 12}, {"latency": 3}, 1.0)
    assert (first.iteration, first.groups, first.widths) == (1, ("b",), {"a": 24, "b": 8})
    assert (first.resources, first.constraint) == ({"latency": 14}, {"latency": 17})
    assert (first.accuracy, first.loss) == (0.9, 0.2)
    assert first.kept == {"a": tuple(range(24)), "b": tuple(range(8))}  # equal norms: the lower indices stay
    assert (second.iteration, second.groups, second.widths) == (2, ("a",), {"a": 16, "b": 8})
    assert (second.resources, second.constraint) == ({"latency": 11}, {"latency": 12})
    assert second.kept["a"] == tuple(range(8, 24))  # the largest norms stay


@pytest.mark.parametrize(
    ("first_step", "decay", "constraints", "widths"),
    [
        # cost = width = 64, budget 20; 64-16=48 | 48-8=40 | 40-4=36 | 32-2=30 | 24-1=23
        (16, 0.5, [48, 40, 36, 30, 23], [48, 40, 32, 24, 16]),
        # constant: 64-20=44 -> 40 | max(20, 40-20) = 20 -> 16
        (20, 1.0, [44, 20], [40, 16]),
        # clipped at once: max(20, 64-100) = 20
        (100, 1.0, [20], [16]),
    ],
)
def test_schedule_by_hand(first_step: float, decay: float, constraints: list[float], widths: list[int]) -> None:
    network = mini.Network(
        {"a": 64}, lambda kept: {"a": np.ones(64)}, lambda w: {"latency": w["a"]}, lambda kept: (0.5, 1.0)
    )
    steps = mini.adapt(network, {"latency": 20}, {"latency": first_step}, decay)
    assert [step.constraint["latency"] for step in steps] == constraints
    assert [step.widths["a"] for step in steps] == widths


def test_two_resources_by_hand() -> None:
    # latency = a + b = 48, budget 32, step 8; memory = 2 a + b = 72, budget 36, step 16
    # i=0: 48/32 = 1.5 < 72/36 = 2 -> memory: Con = 56, latency keeps 48.
    #      a: 16 gives 56 -> 16. b: 16 gives 64, 8 gives 56 -> 8. Accuracy 0.9 against 0.8 -> a: (16, 24), 40 and 56
    # i=1: 1.25 < 1.56 -> memory: Con = 40, latency keeps 40. a: 8 gives 40. b: 16 gives 48, 8 gives 40 -> 8.
    #      accuracy, loss and saving are equal -> by name: a: (8, 24), 32 and 40
    # i=2: latency is met; memory: Con = max(36, 40 - 16) = 36. a is at the minimum. b: 16 gives 32 -> (8, 16)
    scores = {(16, 24): (0.9, 1.0), (24, 8): (0.8, 1.0), (8, 24): (0.7, 0.5), (16, 8): (0.7, 0.5)}
    network = two_groups(lambda w: {"latency": w["a"] + w["b"], "memory": 2 * w["a"] + w["b"]}, scores)
    steps = mini.adapt(network, {"latency": 32, "memory": 36}, {"latency": 8, "memory": 16}, 1.0)
    assert widths_of(steps) == [(16, 24), (8, 24), (8, 16)]
    assert [step.tightened for step in steps] == ["memory"] * 3
    assert [dict(step.constraint) for step in steps] == [
        {"latency": 48, "memory": 56},
        {"latency": 40, "memory": 40},
        {"latency": 32, "memory": 36},
    ]


@pytest.mark.parametrize(("latency_budget", "width"), [(8, 8), (12, 16)])
def test_another_resource_may_not_get_worse_unless_within_its_budget(latency_budget: float, width: int) -> None:
    # memory 24 -> Con 16 allows 16 units, but these have latency 11 > 10: only a latency budget of 12 admits it
    latency = {24: 10, 16: 11, 8: 5}
    network = two_groups(lambda w: {"latency": latency[w["a"]], "memory": w["a"]})
    steps = mini.adapt(network, {"latency": latency_budget, "memory": 16}, {"latency": 1, "memory": 8}, 1.0)
    assert widths_of(steps) == [(width, 24)]


def test_the_relatively_farthest_resource_alternates() -> None:
    # x is a's width, y is b's: 24/16 = 24/16 -> tie by name: x -> 16 and met; then y -> 16
    network = two_groups(lambda w: {"y": w["b"], "x": w["a"]})
    steps = mini.adapt(network, {"y": 16, "x": 16}, {"y": 8, "x": 8}, 1.0)
    assert [(step.tightened, step.groups) for step in steps] == [("x", ("a",)), ("y", ("b",))]


def test_pairs_only_where_no_single_group_can() -> None:
    # cost = larger of the two widths: one group alone changes nothing, both at 16 give 16
    network = two_groups(lambda w: {"latency": max(w["a"], w["b"])})
    (step,) = mini.adapt(network, {"latency": 16}, {"latency": 8}, 1.0)
    assert (step.groups, step.widths) == (("a", "b"), {"a": 16, "b": 16})


def test_a_pair_keeps_most_units_then_more_of_its_first_group() -> None:
    # (16, 8) and (8, 16) cost 5 and keep 24 units in total; (8, 8) costs 4; all else 10
    cost = {(16, 8): 5, (8, 16): 5, (8, 8): 4}
    network = two_groups(lambda w: {"latency": cost.get((w["a"], w["b"]), 10)})
    assert widths_of(mini.adapt(network, {"latency": 5}, {"latency": 5}, 1.0)) == [(16, 8)]


def test_unreachable_gives_the_family_so_far() -> None:
    # only b counts: 24 -> 16 -> 8, never 4
    network = two_groups(lambda w: {"latency": w["b"]})
    steps = mini.adapt(network, {"latency": 4}, {"latency": 8}, 1.0)
    assert widths_of(steps) == [(24, 16), (24, 8)]
    assert not mini.meets(steps[-1].resources, {"latency": 4})
    assert steps[-1].tuned is None


def test_a_budget_met_from_the_start_gives_no_steps() -> None:
    assert mini.adapt(two_groups(lambda w: {"latency": 1}), {"latency": 1}, {"latency": 1}, 1.0) == []


def test_only_the_last_step_is_tuned_long() -> None:
    network = mini.Network(
        {"a": 24},
        lambda kept: {"a": np.ones(24)},
        lambda w: {"latency": w["a"]},
        lambda kept: (0.5, 1.0),
        lambda kept: (0.6, 0.8),
    )
    steps = mini.adapt(network, {"latency": 8}, {"latency": 8}, 1.0)
    assert [(step.accuracy, step.tuned) for step in steps] == [(0.5, None), (0.5, (0.6, 0.8))]


def test_widths_are_multiples_not_below_the_minimum() -> None:
    # a width of 22 shrinks to 20 first; the minimum 8 admits 10 but not 5
    network = mini.Network(
        {"a": 22}, lambda kept: {"a": np.ones(22)}, lambda w: {"latency": w["a"]}, lambda kept: (0.5, 1.0)
    )
    steps = mini.adapt(network, {"latency": 1}, {"latency": 1}, 1.0, multiple=5, minimum=8)
    assert [step.widths["a"] for step in steps] == [20, 15, 10]


def proposal(name: str, cost: float, accuracy: float, loss: float = 1.0) -> Any:
    return mini.Step(1, (name,), {}, {"latency": cost}, accuracy, loss, "latency")


START = proposal("", 10.0, 0.75)


@pytest.mark.parametrize(
    ("rule", "winner", "proposals"),
    [
        ("accuracy", "b", [("a", 5, 0.5, 0.1), ("b", 9, 0.625, 0.9)]),  # highest accuracy
        ("accuracy", "b", [("a", 5, 0.5, 0.2), ("b", 9, 0.5, 0.1)]),  # then lower loss
        ("accuracy", "b", [("a", 9, 0.5, 0.1), ("b", 5, 0.5, 0.1)]),  # then larger saving
        ("accuracy", "a", [("b", 5, 0.5, 0.1), ("a", 5, 0.5, 0.1)]),  # then name
        # from 10 ms and 0.75: a loses 0.25 for 5 ms = 0.05/ms, b loses 0.125 for 1 ms = 0.125/ms
        ("accuracy_per_resource", "a", [("a", 5, 0.5, 0.1), ("b", 9, 0.625, 0.1)]),
        # b keeps the accuracy: it goes before the best ratio; c rises: it goes before b although it saves less
        ("accuracy_per_resource", "b", [("a", 1, 0.7, 0.1), ("b", 9, 0.75, 0.9)]),
        ("accuracy_per_resource", "c", [("b", 1, 0.75, 0.1), ("c", 9, 0.8, 0.9)]),
        # equal ratios (0.25 / 4 = 0.125 / 2): lower loss, then larger saving, then name
        ("accuracy_per_resource", "b", [("a", 6, 0.5, 0.2), ("b", 8, 0.625, 0.1)]),
        ("accuracy_per_resource", "b", [("a", 8, 0.625, 0.1), ("b", 6, 0.5, 0.1)]),
        ("accuracy_per_resource", "a", [("b", 8, 0.625, 0.1), ("a", 8, 0.625, 0.1)]),
        # a loser that saves nothing is the last
        ("accuracy_per_resource", "b", [("a", 10, 0.7, 0.1), ("b", 9, 0.1, 0.9)]),
    ],
)
def test_pick_rules_by_hand(rule: str, winner: str, proposals: list[tuple[str, float, float, float]]) -> None:
    assert mini.PICK[rule]([proposal(*p) for p in proposals], START).groups == (winner,)


# ---- any problem -------------------------------------------------------------------------------------------------
@st.composite
def problems(draw: st.DrawFn, resources: int = 1) -> dict[str, Any]:
    """Up to three groups with random, not monotone cost tables (a product of neighbours, as layers have) and scores."""
    widths = draw(st.lists(st.sampled_from([8, 12, 16, 24, 30, 40]), min_size=1, max_size=3))
    names = draw(st.permutations(["p", "q", "r"]))[: len(widths)]
    groups = dict(zip(names, widths, strict=True))
    keys = [f"resource{j}" for j in range(resources)]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tables = {key: {name: rng.integers(1, 9, size=41) + np.arange(41) // 3 for name in names} for key in keys}
    norms = {name: rng.integers(0, 6, size=width).astype(float) for name, width in groups.items()}
    gains = {name: rng.integers(0, 4, size=width) for name, width in groups.items()}

    def cost(w: dict[str, int]) -> dict[str, float]:
        factors = {key: [int(tables[key][name][w[name]]) for name in names] for key in keys}
        return {key: float(sum(a * b for a, b in zip([2, *f], [*f, 2], strict=True))) for key, f in factors.items()}

    def evaluate(kept: dict[str, tuple[int, ...]]) -> tuple[float, float]:
        total = sum(int(gains[name][list(units)].sum()) for name, units in kept.items())
        return (total // 8) / 16, (total % 3) / 4  # coarse: ties happen

    initial = cost(groups)
    return {
        "network": mini.Network(groups, lambda kept: norms, cost, evaluate),
        "budget": {key: draw(st.sampled_from([0.25, 0.5, 0.75])) * initial[key] for key in keys},
        "first_step": {key: draw(st.sampled_from([0.03125, 0.125, 0.5])) * initial[key] for key in keys},
        "decay": draw(st.sampled_from([0.5, 0.96, 1.0])),
        "multiple": draw(st.sampled_from([4, 8])),
        "minimum": draw(st.sampled_from([1, 8, 10])),
        "pick": draw(st.sampled_from(sorted(mini.PICK))),
    }


def allowed(problem: dict[str, Any], width: int) -> list[int]:
    return [w for w in range(1, width) if w % problem["multiple"] == 0 and w >= problem["minimum"]]


def feasible(problem: dict[str, Any], widths: dict[str, int], names: tuple[str, ...], constraint: Any) -> list[Any]:
    """All allowed widths of ``names``, by enumeration, at which every resource is within ``constraint``."""
    cost = problem["network"].resources
    choices = product(*(allowed(problem, widths[name]) for name in names))
    candidates = [{**widths, **dict(zip(names, chosen, strict=True))} for chosen in choices]
    return [c for c in candidates if all(cost(c)[key] <= constraint[key] for key in constraint)]


def expected_constraint(
    problem: dict[str, Any], before: Mapping[str, float], iteration: int, share: float
) -> tuple[str, Any]:
    """Eq. 2 with the roles spelt out, written a second time."""
    budget = problem["budget"]
    ratio = {key: before[key] / budget[key] for key in budget}
    tightened = sorted(key for key in budget if ratio[key] == max(ratio.values()))[0]
    keep = {key: before[key] if before[key] > budget[key] else budget[key] for key in budget}
    target = before[tightened] - share * problem["first_step"][tightened] * problem["decay"] ** iteration
    return tightened, {**keep, tightened: target if target > budget[tightened] else budget[tightened]}


def first_possible(problem: dict[str, Any], before: Any) -> tuple[str, Any] | None:
    """The constraint of the largest of four steps, each half the one before, that a group or a pair can make."""
    network = problem["network"]
    names = [n for together in (1, 2) for n in combinations(network.groups, together)]
    for share in (1, 1 / 2, 1 / 4, 1 / 8):
        tightened, constraint = expected_constraint(problem, before.resources, before.iteration, share)
        if any(feasible(problem, before.widths, n, constraint) for n in names):
            return tightened, constraint
    return None


def check(problem: dict[str, Any]) -> None:
    network, budget = problem["network"], problem["budget"]
    steps = mini.adapt(**problem)
    assert steps == mini.adapt(**problem)
    before = mini.pretrained(network)
    for i, step in enumerate(steps):
        assert step.iteration == i + 1
        possible = first_possible(problem, before)
        assert possible is not None
        tightened, constraint = possible
        assert (step.tightened, dict(step.constraint)) == (tightened, constraint)
        assert dict(step.resources) == network.resources(step.widths)
        assert all(step.resources[key] <= constraint[key] for key in budget)
        assert step.resources[tightened] < before.resources[tightened]
        check_widths(problem, before, step)
        check_winner(problem, before, step)
        before = step
    if not mini.meets(before.resources, budget):  # unreachable: nothing was left to propose
        assert first_possible(problem, before) is None
    assert all(not mini.meets(step.resources, budget) for step in steps[:-1])


def check_widths(problem: dict[str, Any], before: Any, step: Any) -> None:
    """Only the step's groups shrank, to the largest width that enumeration finds, and kept their largest norms."""
    network = problem["network"]
    assert {name for name in network.groups if step.widths[name] != before.widths[name]} == set(step.groups)
    fitting = feasible(problem, before.widths, step.groups, step.constraint)
    assert step.widths in fitting
    assert sum(step.widths.values()) == max(sum(c.values()) for c in fitting)
    if len(step.groups) == 2:
        assert not any(feasible(problem, before.widths, (name,), step.constraint) for name in network.groups)
    for name, units in step.kept.items():
        assert list(units) == sorted(units) and set(units) <= set(before.kept[name])
        lost = set(before.kept[name]) - set(units)
        norm = network.norms(before.kept)[name]
        assert all((norm[u], -u) > (norm[v], -v) for u in units for v in lost)


def check_winner(problem: dict[str, Any], before: Any, step: Any) -> None:
    """No group (or pair) had a better proposal."""
    network, names = problem["network"], list(combinations(problem["network"].groups, len(step.groups)))
    for fitting in (feasible(problem, before.widths, n, step.constraint) for n in names):
        if fitting:
            best = max(fitting, key=lambda c: (sum(c.values()), [c[name] for name in network.groups]))
            accuracy, loss = network.evaluate(mini.choose_which_filters(network, before.kept, best))
            if problem["pick"] == "accuracy":
                assert (accuracy, -loss) <= (step.accuracy, -step.loss)
            elif step.accuracy < before.accuracy:  # the winner loses, so all lose
                assert accuracy < before.accuracy
                saved = before.resources[step.tightened] - network.resources(best)[step.tightened]
                of_winner = before.resources[step.tightened] - step.resources[step.tightened]
                assert (before.accuracy - accuracy) / saved >= (before.accuracy - step.accuracy) / of_winner
            else:
                assert accuracy <= step.accuracy


@given(problem=problems(resources=1))
@settings(max_examples=60, deadline=None)
def test_one_resource(problem: dict[str, Any]) -> None:
    check(problem)


@given(problem=problems(resources=2))
@settings(max_examples=60, deadline=None)
def test_two_resources(problem: dict[str, Any]) -> None:
    check(problem)


@pytest.mark.slow
@given(problem=st.integers(1, 3).flatmap(problems))
@settings(max_examples=2000, deadline=None)
def test_many(problem: dict[str, Any]) -> None:
    check(problem)


@given(problem=problems(resources=1))
@settings(max_examples=30, deadline=None)
def test_a_second_resource_that_never_binds_changes_nothing(problem: dict[str, Any]) -> None:
    def slack(w: dict[str, int]) -> dict[str, float]:
        return {**one.resources(w), "slack": 1.0}

    one = problem["network"]
    both = mini.Network(one.groups, one.norms, slack, one.evaluate)
    steps = mini.adapt(**problem)
    loose = {"budget": {**problem["budget"], "slack": 2.0}, "first_step": {**problem["first_step"], "slack": 1.0}}
    assert [s.kept for s in steps] == [s.kept for s in mini.adapt(**{**problem, "network": both, **loose})]


# ---- the tiny network --------------------------------------------------------------------------------------------
def test_tiny_net_is_reproducible_and_leaves_the_generator_alone() -> None:
    state = torch.get_rng_state()
    one, two = mini.tiny_net(), mini.tiny_net()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


def test_staircase_counts_the_parameters_of_tiny_net_and_is_not_monotone() -> None:
    model = mini.tiny_net()
    start = mini.staircase({"first": 64, "second": 96, "third": 128})
    assert start["parameters"] == sum(p.numel() for p in model.parameters())
    part, full = ({"first": w, "second": 96, "third": 128} for w in (24, 32))
    assert mini.staircase(part)["latency"] > mini.staircase(full)["latency"]


@pytest.mark.parametrize("pick", ["accuracy", "accuracy_per_resource"])
@pytest.mark.parametrize("resources", [("latency",), ("latency", "parameters")])
def test_tiny_network(resources: tuple[str, ...], pick: str) -> None:
    network = mini.tiny_network()
    start = mini.pretrained(network).resources
    problem = {
        "network": network,
        "budget": {key: start[key] / 2 for key in resources},
        "first_step": {key: start[key] / 32 for key in resources},
        "decay": 0.96,
        "multiple": 8,
        "minimum": 8,
        "pick": pick,
    }
    check(problem)
    last = mini.adapt(**problem)[-1]
    assert mini.meets(last.resources, problem["budget"]) and last.tuned is not None and last.tuned[0] >= last.accuracy


def test_the_file_runs_on_its_own_without_netadapt() -> None:
    run = f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    code = f"import sys, runpy; {run}; assert 'netadapt' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("budget met") == 2
