from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import spearmanr

from netadapt.baselines import exchange
from netadapt.baselines.annealing import options
from netadapt.baselines.exchange import ExchangeChooser, LossModel
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import Proposal

WIDTHS = (64, 64, 128, 128, 256)
GROUPS = [ChannelGroup(name=f"g{i}", width=w, layers=(f"g{i}",), axes=()) for i, w in enumerate(WIDTHS)]
FULL = {g.name: g.width for g in GROUPS}
LIMIT = 200.0


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five groups are annealed in a moment."""
    monkeypatch.setattr(exchange, "_ROUNDS", 150)


class Sum:
    """A resource known exactly: the sum of the widths."""

    def fit(self, widths: np.ndarray, values: np.ndarray) -> None: ...

    def estimate(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return widths.sum(-1).astype(float), np.zeros(len(widths))


def proposal(widths: list[int]) -> Proposal:
    named = {g.name: w for g, w in zip(GROUPS, widths, strict=True)}
    return Proposal(
        tuple(g.name for g in GROUPS if named[g.name] < g.width), named, {"latency": float(sum(widths))}, {}
    )


class First:
    """A one-shot that proposes what it was told to."""

    def __init__(self, *found: list[int]) -> None:
        self.found = [proposal(widths) for widths in found]
        self.options = [options(g, 8, 8) for g in GROUPS]

    def proposals(self, widths: dict[str, int], resources: object, constraint: object) -> list[Proposal]:
        return self.found


def joint(widths: np.ndarray) -> float:
    """A loss that no sum over groups can tell: neighbours hurt more when both are narrow."""
    x = np.log(np.array(WIDTHS) / widths)
    return float(0.5 + x @ [0.1, 0.2, 0.3, 0.2, 0.1] + (x[:-1] * x[1:]) @ [0.5, 0.1, 0.05, 0.01])


class Scorer:
    def __init__(self, loss: Callable[[np.ndarray], float] = joint) -> None:
        self.loss = loss
        self.asked: list[tuple[int, ...]] = []

    def __call__(self, widths: np.ndarray) -> float:
        self.asked.append(tuple(widths.tolist()))
        return self.loss(widths)


def chooser(
    first: First, loss: Scorer, networks: int = 40, resources: tuple[str, ...] = ("latency",)
) -> ExchangeChooser:
    return ExchangeChooser(first, GROUPS, {r: Sum() for r in resources}, loss, networks=networks, seed=0)


START = [16, 24, 40, 40, 80]


def ask(one: ExchangeChooser, limit: float = LIMIT) -> list[Proposal]:
    """Ask from the first choice, which has been measured."""
    return one.proposals(proposal(START).widths, {"latency": float(sum(START))}, {"latency": limit})


def test_a_network_without_a_block_is_foretold_like_others() -> None:
    random = np.random.default_rng(0)
    widths = random.choice([0, 16, 32, 64], (60, len(WIDTHS)))
    losses = (np.array(WIDTHS) - widths).sum(axis=1) / 100.0
    foretold = LossModel(np.array(WIDTHS), widths, losses)(widths)
    assert spearmanr(foretold, losses)[0] > 0.9


def test_from_the_original_network_it_passes_on_what_the_first_one_says() -> None:
    first, score = First(START), Scorer()
    found = chooser(first, score).proposals(FULL, {"latency": float(sum(WIDTHS))}, {"latency": LIMIT})
    assert found == first.found
    assert not score.asked


def test_it_says_nothing_where_the_first_one_does() -> None:
    assert ask(chooser(First(), Scorer())) == []


def test_it_comes_near_the_best_network_of_the_same_cost() -> None:
    score = Scorer()
    (found,) = ask(chooser(First(START), score))
    best = min(
        joint(np.array([a, b, c, d, LIMIT - a - b - c - d]))
        for a in range(8, 65, 8)
        for b in range(8, 65, 8)
        for c in range(8, 129, 8)
        for d in range(8, 129, 8)
        if 8 <= LIMIT - a - b - c - d <= 256
    )
    mine, start = joint(np.array(list(found.widths.values()))), joint(np.array(START))
    assert mine - best < 0.05 * (start - best)
    assert found.estimated["latency"] <= LIMIT
    assert found.groups == tuple(g.name for g in GROUPS if found.widths[g.name] < g.width)
    assert len(score.asked) <= 40
    assert len(set(score.asked)) == len(score.asked)


def test_it_never_proposes_more_loss_than_the_first_one_did() -> None:
    random = np.random.default_rng(0)
    for _ in range(3):
        table: dict[tuple[int, ...], float] = {}

        def noise(widths: np.ndarray, table: dict[tuple[int, ...], float] = table) -> float:
            return table.setdefault(tuple(widths.tolist()), float(random.normal()))

        one = chooser(First(START, [40, 40, 40, 40, 40]), Scorer(noise), networks=12)
        (found,) = ask(one)
        assert table[tuple(found.widths.values())] == min(v for w, v in table.items() if sum(w) <= LIMIT)
        assert {tuple(START), (40, 40, 40, 40, 40)} <= set(table)


def test_asked_again_it_aims_anew_with_what_it_knows() -> None:
    score, first = Scorer(), First(START)
    one = chooser(first, score)
    ask(one)
    before = len(score.asked)
    first.found = [proposal([16, 24, 40, 40, 64])]
    slower = {"latency": 1.05 * sum(START)}  # measured to be more than was estimated
    (narrower,) = one.proposals(proposal(START).widths, slower, {"latency": LIMIT})
    assert sum(narrower.widths.values()) * 1.05 <= LIMIT
    assert len(score.asked) <= before + 2  # one-shot's new choice, and one that is foretold


def test_it_does_the_same_again_so_that_an_interrupted_search_can_be_replayed() -> None:
    first, second = Scorer(), Scorer()
    assert ask(chooser(First(START), first)) == ask(chooser(First(START), second))
    assert first.asked == second.asked


def test_another_constraint_gets_networks_of_its_own() -> None:
    loss = Scorer()
    one = chooser(First(START), loss, networks=12, resources=("latency", "parameters"))
    start = {"latency": float(sum(START)), "parameters": float(sum(START))}
    one.proposals(proposal(START).widths, start, {"latency": LIMIT, "parameters": sum(START)})
    before = len(loss.asked)
    one.proposals(proposal(START).widths, start, {"latency": LIMIT, "parameters": 0.9 * sum(START)})
    assert len(loss.asked) - before > 6


def test_the_original_network_is_never_scored_and_where_one_shot_proposes_it_there_is_nothing_to_exchange() -> None:
    loss = Scorer()
    first = First(list(WIDTHS))
    current = proposal(START).widths
    assert chooser(first, loss).proposals(current, {"latency": 1.0}, {"latency": 1e9}) == first.found
    wide = First([64, 64, 128, 128, 248])  # all else is feasible, too
    (found,) = chooser(wide, loss, networks=10).proposals(current, {"latency": 1.0}, {"latency": 1e9})
    assert found.groups
    assert WIDTHS not in loss.asked


def test_widths_that_one_shot_leaves_out_are_left_out_here() -> None:
    first, loss = First(START), Scorer()
    first.options[0] = np.array([16, 24, 64])
    ask(chooser(first, loss))
    assert {widths[0] for widths in loss.asked} <= {16, 24, 64}


def test_losses_are_foretold_also_where_hardly_anything_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near the floor most draws are known; the search goes on to foretell, and ends."""
    asked: list[int] = []
    foretold = exchange.anneal
    monkeypatch.setattr(exchange, "anneal", lambda *a, **k: asked.append(1) or foretold(*a, **k))
    floor = [8, 8, 8, 8, 16]
    loss = Scorer()
    (found,) = chooser(First(floor), loss).proposals(proposal(floor).widths, {"latency": 48.0}, {"latency": 48.0})
    assert sum(found.widths.values()) <= 48
    assert len(loss.asked) == 6  # 8 more channels, in one group or in none
    assert 1 <= len(asked) <= 40


def test_networks_whose_loss_is_not_finite_are_left_out() -> None:
    (found,) = ask(chooser(First(START), Scorer(lambda w: joint(w) if w[0] > 8 else math.inf)))
    assert found.widths["g0"] > 8
    first = First(START)
    assert ask(chooser(first, Scorer(lambda w: math.inf), networks=6)) == first.found


def test_it_ends_where_there_is_nothing_to_exchange() -> None:
    score = Scorer()
    narrow = [8, 8, 8, 8, 8]
    one = chooser(First(narrow), score)
    (found,) = one.proposals(proposal(narrow).widths, {"latency": 40.0}, {"latency": 40.0})
    assert list(found.widths.values()) == narrow
    assert score.asked == [tuple(narrow)]


@pytest.mark.parametrize("shift", [0.0, -10.0])
def test_the_loss_of_whole_networks_is_foretold_in_order_also_below_zero(shift: float) -> None:
    random = np.random.default_rng(1)
    widths = (8 * np.exp(random.uniform(0, np.log(np.array(WIDTHS) / 8), (140, 5)))).astype(int)
    losses = np.array([joint(row) + shift for row in widths])
    losses[0] += 1000.0  # one that broke down
    model = LossModel(np.array(WIDTHS), widths[:60], losses[:60])
    assert spearmanr(model(widths[60:]), losses[60:])[0] > 0.95


def test_losses_that_are_all_alike_foretell_nothing_and_break_nothing() -> None:
    widths = np.array([[64, 64, 128, 128, 256], [8, 8, 8, 8, 8], [16, 16, 16, 16, 16]])
    assert np.isfinite(LossModel(np.array(WIDTHS), widths, np.ones(3))(widths)).all()


def test_where_losses_are_not_finite_they_are_foretold_to_be_bad() -> None:
    random = np.random.default_rng(1)
    widths = (8 * np.exp(random.uniform(0, np.log(np.array(WIDTHS) / 8), (60, 5)))).astype(int)
    losses = np.array([math.inf if row[4] < 64 else 1.0 + 0.001 * row[0] for row in widths])
    foretold = LossModel(np.array(WIDTHS), widths, losses)(np.array([[32, 32, 64, 64, 16], [32, 32, 64, 64, 256]]))
    assert foretold[0] > foretold[1]
