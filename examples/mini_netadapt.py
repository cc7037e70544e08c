"""Algorithm 1 of NetAdapt (arXiv 1804.03230) by brute force: the specification in one file, without netadapt.

    python examples/mini_netadapt.py        adapts a tiny network, for one and for two resources

Written from the paper alone; the tests give the same problem to netadapt, which must find the same winners, widths
and curve. Numbered notes are choices where the paper is silent (or where netadapt departs from it on purpose).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations, product

import numpy as np
import torch
from torch import nn

Kept = dict[str, tuple[int, ...]]  # group -> sorted indices of the units kept; they always refer to Net_0
Score = tuple[float, float]  # accuracy (higher is better), loss (lower is better), both on the selection split


@dataclass(frozen=True)
class Network:
    """All that Algorithm 1 asks of a pretrained network, its platform and its task; every function is exact.

    Attributes:
        groups: width of each channel group in Net_0; their order is the paper's k = 1..K.
        norms: L2 norm of each unit's weights, ``(width of Net_0,)`` for each group, jointly over tied layers, in the
            network that keeps given units: a filter loses weights when the layer before it loses units.
        resources: what the network costs at given widths, by resource.
        evaluate: the score after the short-term fine-tune; depends on the units kept, not on the path to them.
        evaluate_long: the score after the long-term fine-tune; None for a search without it.
    """

    groups: Mapping[str, int]
    norms: Callable[[Kept], Mapping[str, np.ndarray]]
    resources: Callable[[dict[str, int]], Mapping[str, float]]
    evaluate: Callable[[Kept], Score]
    evaluate_long: Callable[[Kept], Score] | None = None


@dataclass(frozen=True)
class Step:
    """Net_i: the proposal that won an iteration (or Net_0, or a proposal that may still lose)."""

    iteration: int  # Net_i is made with dR_(i-1); 0 is the pretrained network
    groups: tuple[str, ...]  # which shrank; none for Net_0, two only where no single group could do it
    kept: Kept
    resources: Mapping[str, float]
    accuracy: float
    loss: float
    tightened: str = ""  # the resource whose constraint was tightened
    constraint: Mapping[str, float] = field(default_factory=dict)  # Con by resource, met by `resources`
    tuned: Score | None = None  # after the long-term fine-tune; of the last step only

    @property
    def widths(self) -> dict[str, int]:
        """Width of each group of this network."""
        return {name: len(units) for name, units in self.kept.items()}


SHARES = (1.0, 0.5, 0.25, 0.125)  # of dR_i, tried in this order


def adapt(
    network: Network, budget: Mapping[str, float], first_step: Mapping[str, float], decay: float, *,
    multiple: int = 8, minimum: int = 8, pick: str = "accuracy",
) -> list[Step]:  # fmt: skip
    """Algorithm 1: return Net_1, Net_2, ... up to the first network that meets the budget.

    If no proposal can meet a constraint the budget is unreachable: the steps so far come back, the last of them above
    the budget (see `meets`). A network that meets the budget from the start gives no steps.

    Args:
        network: what to adapt.
        budget: Bud_j, upper limit of each resource that counts; the others are free.
        first_step: dR_0 of each resource in ``budget``, positive, in its unit.
        decay: dR_i = dR_0 * decay^i, in (0, 1].
        multiple: widths that may be chosen are multiples of this,
        minimum: and not below this.
        pick: which proposal wins, a key of `PICK`.
    """
    steps: list[Step] = []
    net = pretrained(network)  # i = 0; Res_i = TakeEmpiricalMeasurement(Net_i)
    while not meets(net.resources, budget):  # while Res_i > Bud
        for share, together in product(SHARES, (1, 2)):  # (1) pairs, then smaller steps, only where nothing else fits
            tightened, constraint = tighten(net, budget, first_step, decay, share)  # Con = Res_i - dR_i
            proposals = []
            for names in combinations(network.groups, together):  # for k in 1..K
                widths = choose_num_filters(network, net.widths, names, constraint, multiple, minimum)
                if widths is None:  # (2) a group that cannot meet the constraint makes no proposal
                    continue
                kept = choose_which_filters(network, net.kept, widths)
                accuracy, loss = short_term_fine_tune(network, kept)
                resources = take_empirical_measurement(network, kept)
                proposals.append(Step(len(steps) + 1, names, kept, resources, accuracy, loss, tightened, constraint))
            if proposals:
                break
        else:
            return steps  # unreachable: the family so far, without a long-term fine-tune
        net = PICK[pick](proposals, net)  # Net_{i+1}, Res_{i+1}
        steps.append(net)
    return [*steps[:-1], long_term_fine_tune(network, steps[-1])] if steps else []


def pretrained(network: Network) -> Step:
    """Net_0: every unit kept."""
    kept = {name: tuple(range(width)) for name, width in network.groups.items()}
    return Step(0, (), kept, take_empirical_measurement(network, kept), *short_term_fine_tune(network, kept))


def take_empirical_measurement(network: Network, kept: Kept) -> Mapping[str, float]:
    """Return Res_j of a network. Here a measurement has no noise, so the estimate is the measurement."""
    return network.resources({name: len(units) for name, units in kept.items()})


def meets(resources: Mapping[str, float], limits: Mapping[str, float]) -> bool:
    """Tell whether every limited resource is within its limit (<=, as Eq. 1 and 2 write it)."""
    return all(resources[name] <= limit for name, limit in limits.items())


def tighten(
    net: Step, budget: Mapping[str, float], first_step: Mapping[str, float], decay: float, share: float = 1.0
) -> tuple[str, dict[str, float]]:
    """Eq. 2: return the resource to tighten in this iteration, and Con_j of all.

    (3) Only the resource relatively farthest above its budget, Res_j / Bud_j, is tightened (ties: by name); the others
    may not get worse than they are, or than their budget where they are below it already.
    (4) Con is never below the budget: the paper's last step may cut deeper than asked.
    (5) i counts iterations, not how often this resource was tightened: dR_ij has one index i for all j.
    """
    above = [name for name in budget if net.resources[name] > budget[name]]
    tightened = min(above, key=lambda name: (-net.resources[name] / budget[name], name))
    constraint = {name: max(budget[name], net.resources[name]) for name in budget}
    reduction = share * first_step[tightened] * decay**net.iteration
    constraint[tightened] = max(budget[tightened], net.resources[tightened] - reduction)
    return tightened, constraint


def choose_num_filters(
    network: Network, widths: Mapping[str, int], names: tuple[str, ...], constraint: Mapping[str, float],
    multiple: int, minimum: int,
) -> dict[str, int] | None:  # fmt: skip
    """Return the largest allowed widths of ``names`` at which the whole network meets the constraint, or None.

    (6) Cost is not monotone in width: every allowed width below the current one is tried, which bisection would not.
    (7) Of the widths of a pair the largest have most units in total; ties: the larger first width.
    """
    allowed = [[w for w in range(multiple, widths[name], multiple) if w >= minimum] for name in names]
    candidates = [{**widths, **dict(zip(names, chosen, strict=True))} for chosen in product(*allowed)]
    fitting = [candidate for candidate in candidates if meets(network.resources(candidate), constraint)]
    return max(fitting, key=lambda w: (sum(w[name] for name in names), w[names[0]]), default=None)


def choose_which_filters(network: Network, kept: Kept, widths: Mapping[str, int]) -> Kept:
    """Keep the units of largest L2 norm among those the current network still has (8: ties keep the lower index)."""
    norms = network.norms(kept)
    largest = {name: sorted(units, key=lambda u: (-norms[name][u], u)) for name, units in kept.items()}
    return {name: tuple(sorted(units[: widths[name]])) for name, units in largest.items()}


def short_term_fine_tune(network: Network, kept: Kept) -> Score:
    """Score a network on the selection split after a short fine-tune of all its layers."""
    return network.evaluate(kept)


def long_term_fine_tune(network: Network, net: Step) -> Step:
    """Tune the last network; its score as a proposal stays, for the curve compares proposals."""
    return replace(net, tuned=network.evaluate_long(net.kept)) if network.evaluate_long else net


def pick_highest_accuracy(proposals: list[Step], net: Step) -> Step:
    """Apply the paper's rule (9: ties by lower loss, then larger saving of the tightened resource, then name)."""
    return min(proposals, key=lambda p: (-p.accuracy, p.loss, -saving(p, net), p.groups))


def pick_accuracy_per_resource(proposals: list[Step], net: Step) -> Step:
    """Apply MobileNetV3's rule, the smallest accuracy drop per resource saved; ties as above.

    (10) A proposal that loses nothing has no meaningful ratio: it goes before all that lose, highest accuracy first.
    """

    def rank(p: Step) -> tuple[bool, float]:
        drop = net.accuracy - p.accuracy
        if drop <= 0:
            return False, -p.accuracy
        return True, drop / saving(p, net) if saving(p, net) > 0 else math.inf

    return min(proposals, key=lambda p: (*rank(p), p.loss, -saving(p, net), p.groups))


def saving(proposal: Step, net: Step) -> float:
    """How much of the tightened resource ``proposal`` saves against the current network."""
    return net.resources[proposal.tightened] - proposal.resources[proposal.tightened]


PICK = {"accuracy": pick_highest_accuracy, "accuracy_per_resource": pick_accuracy_per_resource}


# ---- a tiny network on a simulated platform with a cheap deterministic task -------------------------------------
class TinyNet(nn.Module):
    """Three convolutions and a classifier for 16 x 16 images; three channel groups, named like the layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(64, 96, 3, padding=1, bias=False)
        self.third = nn.Conv2d(96, 128, 3, stride=2, padding=1, bias=False)
        self.classifier = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Classify ``(N, 3, 16, 16)``; returns ``(N, 10)``."""
        x = self.third(self.second(self.first(x).relu()).relu()).relu()  # (N, 128, 4, 4)
        logits: torch.Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def tiny_net(seed: int = 0) -> TinyNet:
    """Return a TinyNet whose units differ in norm, as those of a trained network do; torch's own RNG is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TinyNet().eval()
        with torch.no_grad():
            for layer in (model.first, model.second, model.third):
                layer.weight.mul_((0.7 * torch.randn(layer.out_channels, 1, 1, 1)).exp())
    return model


def staircase(widths: Mapping[str, int]) -> dict[str, float]:
    """Cost of TinyNet on a processor of 16 lanes; sums of integers and powers of two, so that no sum is rounded.

    A vector that is only partly filled costs half a vector more: 24 units are slower than 32.
    """
    channels = [3, widths["first"], widths["second"], widths["third"], 10]
    lanes = [16 * math.ceil(c / 16) + (8 if c % 16 else 0) for c in channels]
    taps, positions = (9, 9, 9, 1), (64, 64, 16, 1)
    work = sum(lanes[i] * lanes[i + 1] * taps[i] * positions[i] for i in range(4))
    weights = sum(channels[i] * channels[i + 1] * taps[i] for i in range(4)) + 10
    return {"latency": work / 2**20 + 0.125, "parameters": float(weights)}


def tiny_network(model: TinyNet | None = None) -> Network:
    """Describe TinyNet for `adapt`: its groups, the norms of its filters, the staircase and a task.

    Accuracy grows with the share of its norm that each group keeps, and saturates; a slightly smaller group overfits
    less, so it may also rise. Steps of 1 % make ties, as a small selection split does.
    """
    model = model or tiny_net()
    layers = {"first": model.first, "second": model.second, "third": model.third}
    weights = {name: layer.weight.detach().double().numpy() for name, layer in layers.items()}
    inputs = dict(zip(layers, [None, *layers], strict=False))  # which group a layer reads; None: the image

    def norms_of(kept: Kept) -> dict[str, np.ndarray]:
        columns = {name: slice(None) if read is None else list(kept[read]) for name, read in inputs.items()}
        return {name: np.sqrt((w[:, columns[name]] ** 2).sum(axis=(1, 2, 3))) for name, w in weights.items()}

    norms = norms_of({name: tuple(range(layer.out_channels)) for name, layer in layers.items()})
    saturation = {"first": 1.5, "second": 2.5, "third": 4.0}

    def quality(kept: Kept) -> float:
        value = 0.9
        for name, units in kept.items():
            share = float(norms[name][list(units)].sum() / norms[name].sum())
            value *= (1 - math.exp(-saturation[name] * share)) / (1 - math.exp(-saturation[name]))
            value *= 1 + 0.1 * (1 - share)
        return min(value, 0.99)

    def score(value: float) -> Score:
        return round(value, 2), round(-math.log(value), 2)

    groups = {name: layer.out_channels for name, layer in layers.items()}
    evaluate, evaluate_long = lambda kept: score(quality(kept)), lambda kept: score(0.36 + 0.6 * quality(kept))
    return Network(groups, norms_of, staircase, evaluate, evaluate_long)


def main() -> None:
    """Adapt TinyNet to half of its latency, then to half of its latency and a third of its parameters."""
    network = tiny_network()
    start = pretrained(network)
    latency, parameters = start.resources["latency"], start.resources["parameters"]
    for budget in ({"latency": latency / 2}, {"latency": latency / 2, "parameters": parameters / 3}):
        first_step = {name: 0.05 * start.resources[name] for name in budget}
        print("\nbudget:", ", ".join(f"{name} {limit:.6g}" for name, limit in budget.items()))
        print(f"{'':>3} {'group':<14} {'widths':<12} {'latency':>8} {'parameters':>10} {'accuracy':>8} {'loss':>5}")
        steps = adapt(network, budget, first_step, decay=0.96)
        for step in (start, *steps):
            widths = " ".join(map(str, step.widths.values()))
            cost = f"{step.resources['latency']:>8.3f} {step.resources['parameters']:>10.0f}"
            score = f"{step.accuracy:>8.2f} {step.loss:>5.2f}"
            print(f"{step.iteration:>3} {'+'.join(step.groups):<14} {widths:<12} {cost} {score}")
        tuned = steps[-1].tuned
        print(f"budget met; accuracy {tuned[0]:.2f} after the long-term fine-tune" if tuned else "budget unreachable")


if __name__ == "__main__":
    main()
