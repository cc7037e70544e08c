"""Algorithm 1 as the product runs it, against the brute-force oracle of examples/mini_netadapt.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mini_netadapt as mini
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import netadapt.algorithm
from netadapt.algorithm import Candidate, Step, pick
from netadapt.algorithm import netadapt as run_netadapt
from netadapt.errors import BudgetUnreachable
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import Chooser, Proposal
from netadapt.schedule import Schedule
from netadapt.scores import Score


class Exact:
    """An estimator that knows one resource of the oracle's network exactly."""

    def __init__(self, network: Any, resource: str) -> None:
        self.network, self.resource = network, resource

    def fit(self, widths: np.ndarray, values: np.ndarray) -> None:
        raise AssertionError("an exact estimator needs no fit")

    def estimate(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        names = list(self.network.groups)
        rows = [dict(zip(names, map(int, row), strict=True)) for row in widths]
        values = np.array([float(self.network.resources(row)[self.resource]) for row in rows])
        return values, np.zeros(len(values))


class Held(nn.Module):
    """Stands for a network whose only content is which units it keeps."""

    def __init__(self, kept: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.kept = kept


class OracleTools:
    """The sub-routines on the oracle's task; ChooseNumFilters is the product's."""

    def __init__(self, network: Any, chooser: Chooser) -> None:
        self.network, self.chooser = network, chooser

    def choose_num_filters(self, net: Step, constraint: Mapping[str, float]) -> Sequence[Proposal]:
        return self.chooser.proposals(net.widths, net.resources, constraint)

    def choose_which_filters(self, net: Step, proposals: Sequence[Proposal], tightened: str) -> list[Candidate]:
        kept = [mini.choose_which_filters(self.network, net.model.kept, p.widths) for p in proposals]
        return [Candidate(p, Held(k), net.score) for p, k in zip(proposals, kept, strict=True)]

    def short_term_fine_tune(self, net: Step, candidate: Candidate) -> Candidate:
        return replace(candidate, score=Score(*self.network.evaluate(candidate.model.kept)))

    def take_empirical_measurement(self, net: Step, winner: Candidate) -> Step:
        widths = winner.proposal.widths
        resources = self.network.resources(dict(widths))
        return Step(net.iteration + 1, winner.model, widths, resources, winner.score, winner.proposal.groups)


def adapt(problem: Mapping[str, Any]) -> tuple[list[Step], bool]:
    """Run the product on a problem of the oracle; return its steps and whether the budget was reached."""
    network, start = problem["network"], mini.pretrained(problem["network"])
    groups = [ChannelGroup(name, width, (name,), ()) for name, width in network.groups.items()]
    estimators = {resource: Exact(network, resource) for resource in problem["budget"]}
    chooser = Chooser(groups, estimators, multiple=problem["multiple"], minimum=problem["minimum"])
    net = Step(0, Held(start.kept), start.widths, start.resources, Score(start.accuracy, start.loss))
    schedules = {name: Schedule(step, problem["decay"]) for name, step in problem["first_step"].items()}
    steps: list[Step] = []
    try:
        tools = OracleTools(network, chooser)
        for step in run_netadapt(net, problem["budget"], schedules, tools, margins={}, rule=problem["pick"]):
            steps.append(step)
    except BudgetUnreachable:
        return steps, False
    return steps, True


def compare(problem: Mapping[str, Any]) -> None:
    steps, reached = adapt(problem)
    wanted = mini.adapt(**problem)

    def told(step: Any) -> tuple[Any, ...]:
        return step.iteration, step.groups, dict(step.widths), dict(step.resources)

    assert [told(step) for step in steps] == [told(step) for step in wanted]
    assert [step.model.kept for step in steps] == [step.kept for step in wanted]
    assert [(s.score.metric, s.score.loss) for s in steps] == [(s.accuracy, s.loss) for s in wanted]
    last = wanted[-1] if wanted else mini.pretrained(problem["network"])
    assert reached == mini.meets(last.resources, problem["budget"])


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """Small random networks, staircases, tasks with ties, one to three resources, reachable and not."""
    count = draw(st.integers(1, 4))
    groups = {f"g{i}": 8 * draw(st.integers(1, 10)) for i in range(count)}
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    resources = [f"r{j}" for j in range(draw(st.integers(1, 3)))]
    costs = {r: dict(zip(groups, rng.integers(1, 20, count).tolist(), strict=True)) for r in resources}
    step = draw(st.sampled_from([8, 16]))
    worth = {name: rng.random(width) for name, width in groups.items()}

    def resource_model(widths: Mapping[str, int]) -> dict[str, float]:
        padded = {name: -(-width // step) * step + (3 if width % 16 else 0) for name, width in widths.items()}
        return {r: float(5 + sum(costs[r][name] * padded[name] for name in widths)) for r in resources}

    def evaluate(kept: Mapping[str, Sequence[int]]) -> tuple[float, float]:
        quality = [worth[name][list(units)].sum() / worth[name].sum() for name, units in kept.items()]
        exact = float(np.prod(np.sqrt(quality)))
        return round(exact * 20) / 20, round(1 - exact, 2)

    start = resource_model(groups)
    norms = {name: rng.integers(0, 6, width).astype(float) for name, width in groups.items()}
    return {
        "network": mini.Network(groups=groups, norms=lambda kept: norms, resources=resource_model, evaluate=evaluate),
        "budget": {r: start[r] * draw(st.sampled_from([0.3, 0.5, 0.8])) for r in resources},
        "first_step": {r: start[r] * draw(st.sampled_from([0.02, 0.05, 0.2])) for r in resources},
        "decay": draw(st.sampled_from([0.9, 0.96, 1.0])),
        "multiple": 8,
        "minimum": draw(st.sampled_from([8, 16])),
        "pick": draw(st.sampled_from(["accuracy", "accuracy_per_resource"])),
    }


@settings(max_examples=60, deadline=None)
@given(problems())
def test_the_product_finds_the_oracles_winners_widths_and_curve(problem: dict[str, Any]) -> None:
    compare(problem)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None)
@given(problems())
def test_the_product_finds_the_oracles_winners_widths_and_curve_on_many_networks(problem: dict[str, Any]) -> None:
    compare(problem)


@pytest.mark.parametrize("resources", [("latency",), ("latency", "parameters")])
@pytest.mark.parametrize("rule", ["accuracy", "accuracy_per_resource"])
@pytest.mark.parametrize("share", [0.3, 0.6])
def test_a_real_tiny_network_is_adapted_as_by_the_oracle(resources: tuple[str, ...], rule: str, share: float) -> None:
    network = mini.tiny_network()
    start = mini.pretrained(network).resources
    compare(
        {
            "network": network,
            "budget": {name: start[name] * share for name in resources},
            "first_step": {name: start[name] * 0.04 for name in resources},
            "decay": 0.96,
            "multiple": 8,
            "minimum": 8,
            "pick": rule,
        }
    )


def candidate(name: str, metric: float, loss: float, latency: float) -> Candidate:
    return Candidate(Proposal((name,), {}, {"latency": latency}, {"latency": 0.0}), Held({}), Score(metric, loss))


START = Step(0, Held({}), {}, {"latency": 10.0}, Score(0.9, 0.3))


def test_ties_are_broken_by_loss_then_saving_then_name() -> None:
    a, b = candidate("a", 0.8, 0.5, 9.0), candidate("b", 0.8, 0.4, 9.0)
    assert pick([a, b], START, "latency", "accuracy") is b
    c = candidate("c", 0.8, 0.4, 8.0)
    assert pick([a, b, c], START, "latency", "accuracy") is c
    d = candidate("aa", 0.8, 0.4, 8.0)
    assert pick([c, d], START, "latency", "accuracy") is d


def test_the_ratio_rule_weighs_the_drop_by_the_saving_and_is_well_posed_when_accuracy_rises() -> None:
    small, large = candidate("small", 0.88, 0.5, 9.5), candidate("large", 0.85, 0.5, 8.0)
    assert pick([small, large], START, "latency", "accuracy") is small
    assert pick([small, large], START, "latency", "accuracy_per_resource") is large
    risen, risen_more = candidate("risen", 0.91, 0.5, 9.9), candidate("more", 0.92, 0.5, 9.95)
    assert pick([small, large, risen, risen_more], START, "latency", "accuracy_per_resource") is risen_more


def test_an_iteration_whose_proposals_all_fail_ends_the_search_with_a_reason() -> None:
    network = mini.tiny_network()
    start = mini.pretrained(network)

    class Failing(OracleTools):
        def short_term_fine_tune(self, net: Step, candidate: Candidate) -> None:  # type: ignore[override]
            return None

    groups = [ChannelGroup(name, width, (name,), ()) for name, width in network.groups.items()]
    chooser = Chooser(groups, {"latency": Exact(network, "latency")}, multiple=8, minimum=8)
    net = Step(0, Held(start.kept), start.widths, start.resources, Score(start.accuracy, start.loss))
    latency = start.resources["latency"]
    steps = run_netadapt(
        net, {"latency": latency / 2}, {"latency": Schedule(latency / 30)}, Failing(network, chooser), margins={}
    )
    with pytest.raises(BudgetUnreachable, match="no proposal stayed finite; lower the learning rate"):
        next(steps)


def test_algorithm_1_stays_short() -> None:
    source = Path(netadapt.algorithm.__file__).read_text().splitlines()
    assert len(source) <= 150
