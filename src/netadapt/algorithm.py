"""Algorithm 1 of the paper: NetAdapt.

Reads like the paper and does no I/O; what it needs is injected as `Tools`. `adaptation/` provides the
tools for a real network, a journal and a platform; `examples/mini_netadapt.py` is the same in brute force.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from torch import nn

from netadapt.errors import BudgetUnreachable
from netadapt.proposals import Proposal
from netadapt.schedule import Schedule, tighten
from netadapt.scores import Score

#: of the scheduled step, tried in this order
SHARES = (1.0, 0.5, 0.25, 0.125)
PickRule = Literal["accuracy", "accuracy_per_resource"]


@dataclass(frozen=True)
class Step:
    """Net_i: the network of one iteration; for i > 0 the proposal that won it.

    Attributes:
        iteration: i, 0 for the pretrained network.
        model: its module.
        widths: group -> width.
        resources: Res_j, measured (or counted, for MACs and parameters), in canonical units.
        score: on the selection split.
        groups: the groups that this iteration shrunk; empty for Net_0.
        estimated: what the estimator had said of ``resources``; empty for Net_0.
    """

    iteration: int
    model: nn.Module
    widths: Mapping[str, int]
    resources: Mapping[str, float]
    score: Score
    groups: tuple[str, ...] = ()
    estimated: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """Net_simp_k: a proposal with weights and a score, before or after its short-term fine-tune."""

    proposal: Proposal
    model: nn.Module
    score: Score


class Tools(Protocol):
    """The four sub-routines of Algorithm 1, and the choice of which proposals are worth tuning."""

    def choose_num_filters(self, net: Step, constraint: Mapping[str, float]) -> Sequence[Proposal]:
        """Return at most one proposal per group: its largest width that meets ``constraint``."""
        ...

    def choose_which_filters(self, net: Step, proposals: Sequence[Proposal], tightened: str) -> Iterable[Candidate]:
        """Build the networks of those proposals that are to be tuned (all of them in faithful mode)."""
        ...

    def short_term_fine_tune(self, net: Step, candidate: Candidate) -> Candidate | None:
        """Tune a candidate and score it on the selection split; ``None`` if its loss did not stay finite."""
        ...

    def take_empirical_measurement(self, net: Step, winner: Candidate) -> Step:
        """Measure the winner end to end and return it as Net_{i+1}."""
        ...


def netadapt(
    net: Step,
    budget: Mapping[str, float],
    schedules: Mapping[str, Schedule],
    tools: Tools,
    *,
    margins: Mapping[str, float],
    rule: PickRule = "accuracy",
) -> Iterator[Step]:
    """Yield Net_1, Net_2, ... until the measured resources of one meet the budget.

    Args:
        net: Net_0, or the last finished one of a run that is resumed.
        budget: Bud_j by resource, canonical units.
        schedules: dR_ij by resource.
        tools: the sub-routines.
        margins: by resource, how far below the budget the last step aims (the noise of a measurement).
        rule: how the winner is picked.

    Raises:
        BudgetUnreachable: no group and no pair of groups can meet the tightened constraint, or all proposals failed.
    """
    while any(net.resources[j] > budget[j] for j in budget):
        for share in SHARES:  # a smaller step only where no proposal can make the full one
            constraint, tightened = tighten(net.resources, budget, schedules, net.iteration, margins, share)
            if proposals := tools.choose_num_filters(net, constraint):
                break
        else:
            raise BudgetUnreachable(_stuck(net, constraint, tightened))
        simplified = tools.choose_which_filters(net, proposals, tightened)
        tuned = [tools.short_term_fine_tune(net, candidate) for candidate in simplified]
        finite = [candidate for candidate in tuned if candidate is not None]
        if not finite:
            raise BudgetUnreachable(
                f"Iteration {net.iteration + 1}: no proposal stayed finite; lower the learning rate."
            )
        winner = pick(finite, net, tightened, rule)
        net = tools.take_empirical_measurement(net, winner)
        yield net


def pick(candidates: Sequence[Candidate], net: Step, resource: str, rule: PickRule) -> Candidate:
    """PickHighestAccuracy, or least accuracy lost per resource saved (MobileNetV3 and the official code).

    Ties: lower loss, then larger saving, then name. Under ``accuracy_per_resource`` a candidate that loses no accuracy
    goes before all that do, the most accurate first: a ratio would reward it for saving little.
    """
    return min(candidates, key=lambda candidate: rank(candidate, net, resource, rule))


def rank(candidate: Candidate, net: Step, resource: str, rule: PickRule) -> tuple[float, float, float, float, str]:
    """Return the sort key of `pick`: the smallest wins."""
    score = candidate.score
    saved = net.resources[resource] - candidate.proposal.estimated[resource]
    ties = (score.loss, -saved, candidate.proposal.name)
    if rule == "accuracy" or score.metric >= net.score.metric:
        return (0.0, -score.metric, *ties)
    # A saving that is not positive can only be an error of the estimate: such a candidate goes last.
    lost = net.score.metric - score.metric
    return (1.0, lost / saved if saved > 0 else float("inf"), *ties)


def _stuck(net: Step, constraint: Mapping[str, float], tightened: str) -> str:
    return (
        f"Iteration {net.iteration + 1}: no group and no pair of groups can bring {tightened} "
        f"from {net.resources[tightened]:.4g} to {constraint[tightened]:.4g}. "
        f"The family so far is kept; raise the budget, lower the minimum width or the first step."
    )
