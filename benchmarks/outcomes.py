"""The results of the cells of a set-up, with the replicates of a bootstrap, and the comparison of two methods.

Pure functions of the cells' JSON; `summary.py` and `_page.py` write down what they return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from _correct import Bits, unpacked
from _record import processor_name
from cells import TUNED_ORIGINAL, WHOLE
from curves import Curve, Values, gain, speedup

Key = tuple[str, str]  #: method and budget
_END: Key = (TUNED_ORIGINAL, WHOLE)


@dataclass(frozen=True)
class Outcome:
    """What a finished cell found.

    Attributes:
        setup: of the cell, with the kind of processor that it ran on.
        method, budget, seed: of the cell.
        ratio: measured latency of the final network to that of the original.
        ratio_half_width: half the 95 % interval of it.
        original_ms: latency of the original.
        correct, original_correct: which test images the final network and the original got right, ``(images,)``.
        macs, parameters: of the final network.
        search_images: images trained on in the search, plus a third of those only evaluated.
        search_seconds: of the search, with what the estimator took.
        steps: of the search; ``None`` for a reference.
        untuned: test accuracy before the long-term fine-tune, 0..1; ``None`` where nobody looked.
    """

    setup: str
    method: str
    budget: str
    seed: int
    ratio: float
    ratio_half_width: float
    original_ms: float
    correct: Bits
    original_correct: Bits
    macs: float
    parameters: float
    search_images: float
    search_seconds: float
    steps: int | None = None
    untuned: float | None = None

    @property
    def accuracy(self) -> float:
        """Test accuracy of the final network, 0..1."""
        return float(self.correct.mean())


def named(name: str, document: Mapping[str, Any]) -> str:
    """Return a name with the kind of processor that a cell ran on: only what ran there is compared."""
    return f"{name} on {processor_name(document['machine']['processor'])}"


def outcome(document: Mapping[str, Any]) -> Outcome:
    """Return the outcome that the JSON of a cell tells; the cell must not have failed."""
    cell, original, final = document["cell"], document["original"], document["final"]
    images = document["test_images"]
    return Outcome(
        setup=named(cell["setup"], document),
        **{key: cell[key] for key in ("method", "budget", "seed")},
        ratio=final["ratio"],
        ratio_half_width=final["ratio_half_width"],
        original_ms=original["latency_ms"],
        correct=unpacked(final["correct"], images),
        original_correct=unpacked(original["correct"], images),
        macs=final["macs"],
        parameters=final["parameters"],
        search_images=document["search_images"] + document["forward_images"] / 3,
        search_seconds=document["search_seconds"],
        steps=document.get("steps"),
        untuned=document.get("accuracy_before_long_term"),
    )


@dataclass(frozen=True)
class Comparison:
    """Two methods on one set-up, budget by budget.

    Attributes:
        setup: its name.
        method, baseline: the two methods.
        budgets: those with a result of both.
        seeds: those with a result of both at some budget.
        speedups: at equal accuracy, ``(1 + replicates, budgets)``, as of `estimate`.
        gains: of accuracy at equal latency, 0..1, of the same shape.
    """

    setup: str
    method: str
    baseline: str
    budgets: tuple[str, ...]
    seeds: tuple[int, ...]
    speedups: Values
    gains: Values


@dataclass(frozen=True)
class Original:
    """The network that a set-up starts from.

    Attributes:
        milliseconds: its latency, the median over the cells.
        accuracy: on the test split, 0..1, the mean over the seeds.
    """

    milliseconds: float
    accuracy: float


class Resampled:
    """The outcomes of one set-up, with the replicates of a bootstrap over its seeds and its test images.

    A replicate draws images once for all networks of the set-up, and seeds once for all budgets and methods: networks
    are compared in pairs.

    Args:
        outcomes: of one set-up, at least one.
        replicates: how often images and seeds are drawn.
        seed: of the draws.

    Attributes:
        setup: name of the set-up.
        all_seeds: those that any cell has.

    Raises:
        ValueError: the outcomes are not of the same test images.
    """

    def __init__(self, outcomes: Sequence[Outcome], replicates: int, seed: int) -> None:
        self.setup = outcomes[0].setup
        self._of = {((o.method, o.budget), o.seed): o for o in outcomes}
        self.all_seeds = tuple(sorted({o.seed for o in outcomes}))
        sizes = {len(o.correct) for o in outcomes} | {len(o.original_correct) for o in outcomes}
        if len(sizes) > 1:
            raise ValueError(f"the cells of {self.setup} have different numbers of test images: {sorted(sizes)}")
        random = np.random.default_rng(seed)
        images, seeds = sizes.pop(), len(self.all_seeds)
        self._images = np.concatenate([np.ones((1, images)), _counts(random, replicates, images)]).astype(np.float32)
        self._seeds = np.concatenate([np.ones((1, seeds)), _counts(random, replicates, seeds)])

    @property
    def original(self) -> Original:
        """The start network."""
        accuracy = np.mean([self._original(seed).mean() for seed in self.all_seeds])
        return Original(float(np.median([o.original_ms for o in self._of.values()])), float(accuracy))

    def seeds(self, *keys: Key) -> tuple[int, ...]:
        """Return the seeds for which all of these cells have a result."""
        return tuple(seed for seed in self.all_seeds if all((key, seed) in self._of for key in keys))

    def outcomes(self, key: Key) -> list[Outcome]:
        """Return the outcomes of all seeds of a method and budget."""
        return [self._of[key, seed] for seed in self.seeds(key)]

    def budgets(self, *methods: str) -> tuple[str, ...]:
        """Return the budgets at which these methods have a result for a common seed."""
        known = dict.fromkeys(budget for (_, budget), _ in self._of)
        return tuple(b for b in known if self.seeds(*((method, b) for method in methods)))

    def methods(self, budget: str) -> tuple[str, ...]:
        """Return the methods with a result at a budget."""
        return tuple(dict.fromkeys(method for (method, b), _ in self._of if b == budget))

    def accuracy(self, key: Key, seeds: Sequence[int]) -> Values:
        """Return the mean accuracy over some seeds, ``(1 + replicates,)``; NaN where none of them was drawn."""
        return self._mean([self._of[key, seed].correct for seed in seeds], seeds)

    def compare(self, method: str, baseline: str) -> Comparison | None:
        """Return the comparison of two methods; ``None`` if they have no budget in common.

        Both curves go through the points of their method and end on the right, at ratio 1, in the tuned original: the
        start network after the long-term fine-tune that every point of the curves got, of those common seeds that have
        it. Without it they have no such end: a budget whose accuracy or latency only one of the methods' own points
        reaches is outside the other curve, and NaN. The start network itself, which got no such fine-tune, is on no
        curve.

        Args:
            method: the one that is to be faster or more accurate.
            baseline: the one that it is compared with.
        """
        budgets = self.budgets(method, baseline)
        if not budgets or method == baseline:
            return None
        common = {budget: self.seeds((method, budget), (baseline, budget)) for budget in budgets}
        seeds = tuple(sorted(set().union(*common.values())))
        ours = [self._point((method, budget), common[budget]) for budget in budgets]
        theirs = [self._point((baseline, budget), common[budget]) for budget in budgets]
        ends = self._ends(seeds)
        rows = [
            _at_budgets(ends[row], [(r[row], a[row]) for r, a in ours], [(r[row], a[row]) for r, a in theirs])
            for row in range(len(ends))
        ]
        table = np.array(rows)
        return Comparison(self.setup, method, baseline, budgets, seeds, table[:, :, 0], table[:, :, 1])

    def _ends(self, seeds: Sequence[int]) -> Values:
        """Return the tuned original's mean accuracy over those seeds that have it, ``(1 + replicates,)``; else NaN."""
        there = tuple(seed for seed in self.seeds(_END) if seed in seeds)
        return self.accuracy(_END, there) if there else np.full(len(self._seeds), np.nan)

    def _point(self, key: Key, seeds: Sequence[int]) -> tuple[Values, Values]:
        """Return latency ratio and accuracy of all replicates."""
        logs = np.array([[np.log(self._of[key, seed].ratio)] for seed in seeds])
        return np.exp(self._weighted(np.broadcast_to(logs, (len(seeds), len(self._seeds))), seeds)), self.accuracy(
            key, seeds
        )

    def _original(self, seed: int) -> Bits:
        """Return what the start network gets right, as the cells of a seed found it."""
        return next(outcome.original_correct for (_, s), outcome in self._of.items() if s == seed)

    def _mean(self, marks: Sequence[Bits], seeds: Sequence[int]) -> Values:
        """Return the mean accuracy of networks of some seeds in all replicates."""
        table = np.array(marks, dtype=np.float32) @ self._images.T
        return self._weighted(table.astype(np.float64) / self._images.shape[1], seeds)

    def _weighted(self, table: Values, seeds: Sequence[int]) -> Values:
        """Return the mean over ``(seeds, 1 + replicates)`` as often as each seed was drawn; NaN where none was."""
        weights = self._seeds[:, [self.all_seeds.index(seed) for seed in seeds]].T
        total = weights.sum(axis=0)
        mean: Values = np.where(total > 0, (weights * table).sum(axis=0), np.nan) / np.maximum(total, 1)
        return mean


def _at_budgets(
    end: float, ours: Sequence[tuple[float, float]], theirs: Sequence[tuple[float, float]]
) -> list[tuple[float, float]]:
    """Return speed-up and gain at each budget of one replicate.

    Both are read off where both curves are: the gain at the larger latency of the two networks of the budget, the
    speed-up at their higher accuracy.

    Args:
        end: accuracy of the tuned original, 0..1, the right end of both curves at ratio 1; NaN for curves without it.
        ours: latency ratio and accuracy of one method, by budget; NaN where the replicate has none.
        theirs: those of the other method.

    Returns:
        Times faster, and accuracy gained (0..1), by budget; NaN outside either curve.
    """
    inside = [np.isfinite([*mine, *other]).all() for mine, other in zip(ours, theirs, strict=True)]
    nothing = (float("nan"), float("nan"))
    if not any(inside):
        return [nothing] * len(inside)
    ends = [(1.0, end)] if np.isfinite(end) else []
    a = Curve.through([*ends, *(point for point, there in zip(ours, inside, strict=True) if there)])
    b = Curve.through([*ends, *(point for point, there in zip(theirs, inside, strict=True) if there)])
    return [
        (speedup(a, b, max(mine[1], other[1])), gain(a, b, max(mine[0], other[0]))) if there else nothing
        for mine, other, there in zip(ours, theirs, inside, strict=True)
    ]


def _counts(random: np.random.Generator, replicates: int, size: int) -> Values:
    """Return how often each of ``size`` things is drawn, ``(replicates, size)``; each row sums to ``size``."""
    drawn = random.integers(size, size=(replicates, size))
    return np.array([np.bincount(row, minlength=size) for row in drawn], dtype=np.float64).reshape(replicates, size)
