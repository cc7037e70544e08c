"""From the results of the cells to what they say together: summary.json, and the tables and plots of docs/results.md.

    python benchmarks/summary.py

Everything is read from benchmarks/results/cells, a folder for each kind of processor; nothing is run. What has not
been measured is null, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _page import plot_name, plot_of, results_page
from _record import RESULTS, provenance, write
from cells import CELLS, FAITHFUL, PLACES, ROOT, TORCH_PRUNING, Cell
from curves import Values, estimate
from outcomes import Comparison, Outcome, Resampled, named, outcome
from together import read_together, taken_together

from netadapt.files import write_atomic

REPLICATES, SEED = 2000, 0
PRODUCTS = ("netadapt", "one-shot")
BASELINES = ("uniform", "from-scratch")
#: one-shot with the fewest images that its accuracy has been seen to stand
FRUGAL = "one-shot-curves-250"
#: comparisons: the method on the left is our own; that on the right is a baseline, a peer, or differs in one thing
PAIRS = (
    *((ours, theirs) for theirs in BASELINES for ours in PRODUCTS),
    ("netadapt", "netadapt-macs"),
    ("one-shot", "one-shot-macs"),
    ("one-shot-blocks", "uniform"),
    ("one-shot-blocks", "one-shot"),
    *((ours, theirs) for theirs in TORCH_PRUNING for ours in PRODUCTS),
    (FRUGAL, "one-shot"),
    *((FRUGAL, faithful) for faithful in FAITHFUL),
    ("one-shot-exchange", "uniform"),
    ("one-shot-exchange", "one-shot"),
    ("one-shot-long", "from-scratch"),
    ("one-shot-retrained", "from-scratch"),
)
#: accuracies that differ by less count as equal where search costs are compared, with so many seeds at least
EQUAL, LEAST_SEEDS = 0.003, 3
DOCS = ROOT / "docs"


@dataclass(frozen=True)
class Found:
    """All results of the benchmark.

    Attributes:
        setups: outcomes with their replicates, by set-up.
        failures: what was said of budgets that were refused or not reached, by name of the cell and processor.
    """

    setups: tuple[Resampled, ...]
    failures: Mapping[str, str]


def found_in(documents: Iterable[Mapping[str, Any]], replicates: int = REPLICATES, seed: int = SEED) -> Found:
    """Return what some cells found.

    Args:
        documents: contents of the JSON files.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    rank = {cell: number for number, cell in enumerate(CELLS)}
    documents = sorted(documents, key=lambda document: rank.get(_cell(document), len(rank)))
    by_setup: dict[str, list[Outcome]] = {}
    for document in documents:
        if document["failure"] is None:
            found = outcome(document)
            by_setup.setdefault(found.setup, []).append(found)
    failures = {named(d["cell"]["name"], d): d["failure"] for d in documents if d["failure"] is not None}
    return Found(tuple(Resampled(outcomes, replicates, seed) for outcomes in by_setup.values()), failures)


def _cell(document: Mapping[str, Any]) -> Cell:
    return Cell(*(document["cell"][key] for key in ("setup", "method", "budget", "seed")))


def summarise(found: Found) -> dict[str, Any]:
    """Return the content of summary.json but for its provenance.

    ``speedup_at_equal_accuracy`` (times) and ``accuracy_gain_at_equal_latency`` (points of test accuracy) tell for
    each baseline what ``method``, the product's best, reaches against it: the median over set-ups and budgets; and by
    set-up, each with the median over its budgets and the budgets one by one. ``comparisons`` has all pairs of methods.

    Each has ``median``, ``low``, ``high`` (95 % bootstrap interval) and ``inside``, 0..1: the share of the replicates
    that were inside both curves, the mean over the budgets that the median is of. What is outside has no value and is
    left out (censored), so where ``inside`` is below 1 the interval is narrower than the truth. Budgets outside the
    curves as measured are null and count nowhere.

    The curves end at the original after the long-term fine-tune of all the others, where that has been measured; see
    `Resampled.compare`. ``from-scratch`` is a fair baseline only where the project trains the start network itself:
    see `cells._length`.
    """
    pairs = {pair: _comparisons(found, *pair) for pair in PAIRS}
    best = best_product(pairs)
    chosen = {baseline: pairs.get((best, baseline), []) for baseline in BASELINES}
    return {
        "method": best,
        "speedup_at_equal_accuracy": _by_baseline(chosen, _speedups),
        "accuracy_gain_at_equal_latency": _by_baseline(chosen, _points),
        "behind_uniform": _behind(chosen["uniform"]),
        "comparisons": {
            f"{ours} against {theirs}": {
                "speedup_at_equal_accuracy": _told(comparisons, _speedups),
                "accuracy_gain_at_equal_latency": _told(comparisons, _points),
            }
            for (ours, theirs), comparisons in pairs.items()
        },
        **search_cost(found.setups),
        "seeds": sorted({seed for setup in found.setups for seed in setup.all_seeds}),
        "failures": dict(found.failures),
        "bootstrap": {"replicates": REPLICATES, "seed": SEED, "level": 0.95, "over": "seeds and test images, in pairs"},
    }


def _comparisons(found: Found, ours: str, theirs: str) -> list[Comparison]:
    """Return how two methods compare on every set-up that has both."""
    return [c for setup in found.setups if (c := setup.compare(ours, theirs)) is not None]


def best_product(pairs: Mapping[tuple[str, str], Sequence[Comparison]]) -> str:
    """Return the one product method with the largest median speed-up over uniform width, then gain."""

    def merit(method: str) -> tuple[float, ...]:
        told = [_told(pairs[method, "uniform"], values_of) for values_of in (_speedups, _points)]
        return tuple(-np.inf if one is None else one["median"] for one in told)

    return max(PRODUCTS, key=merit)


def _speedups(comparison: Comparison) -> Values:
    return comparison.speedups


def _points(comparison: Comparison) -> Values:
    return 100 * comparison.gains


def _told(comparisons: Sequence[Comparison], values_of: Callable[[Comparison], Values]) -> dict[str, Any] | None:
    """Return the median over all set-ups and budgets with its interval; ``None`` where there is none."""
    if not comparisons:
        return None
    found = estimate(np.concatenate([values_of(comparison) for comparison in comparisons], axis=1))
    return None if found is None else found.to_json()


def _by_baseline(
    chosen: Mapping[str, Sequence[Comparison]], values_of: Callable[[Comparison], Values]
) -> dict[str, Any]:
    """Return what the product reaches against each baseline, over all set-ups and by set-up."""
    setups = sorted({comparison.setup for comparisons in chosen.values() for comparison in comparisons})
    return {
        **{baseline: _told(comparisons, values_of) for baseline, comparisons in chosen.items()},
        "per_setup": {
            setup: {
                baseline: _of_setup([c for c in comparisons if c.setup == setup], values_of)
                for baseline, comparisons in chosen.items()
            }
            for setup in setups
        },
    }


def _of_setup(comparisons: Sequence[Comparison], values_of: Callable[[Comparison], Values]) -> dict[str, Any] | None:
    """Return the median over the budgets of a set-up, and its budgets one by one."""
    told = _told(comparisons, values_of)
    if told is None:
        return None
    (comparison,) = comparisons
    columns = values_of(comparison).T
    parts = {b: estimate(column[:, None]) for b, column in zip(comparison.budgets, columns, strict=True)}
    budgets = {budget: None if part is None else part.to_json() for budget, part in parts.items()}
    return told | {"seeds": list(comparison.seeds), "budgets": budgets}


def _behind(comparisons: Sequence[Comparison]) -> list[str]:
    """Return the set-ups and budgets at which a method is behind by more than the interval."""
    return [
        f"{comparison.setup} at {budget}"
        for comparison in comparisons
        for budget, column in zip(comparison.budgets, comparison.gains.T, strict=True)
        if (found := estimate(column[:, None])) is not None and found.high < 0
    ]


def search_cost(setups: Sequence[Resampled]) -> dict[str, Any]:
    """Return what the faithful search costs, what the fast one costs, and their ratio; null until measured.

    Faithful: the shortest tuning within 0.3 points of the longest ones. Fast: the product's cheapest method that is not
    more than 0.3 points behind that. Images count once if trained on, a third if only evaluated.
    """
    found = [cost for setup in setups for budget in setup.budgets() if (cost := _cost(setup, budget)) is not None]
    names = ("search_images_faithful", "search_images_fast", "search_seconds_faithful", "search_seconds_fast")
    medians = {name: float(np.median([cost[name] for cost in found])) if found else None for name in names}
    ratios = [cost["search_images_faithful"] / cost["search_images_fast"] for cost in found]
    where = [f"{cost['setup']} at {cost['budget']}: {cost['faithful']} against {cost['fast']}" for cost in found]
    return {"search_cost_ratio": float(np.median(ratios)) if found else None, **medians, "search_cost_of": where}


def _cost(setup: Resampled, budget: str) -> dict[str, Any] | None:
    """Return the two search costs at one budget; ``None`` unless all tuning lengths and a fast method were measured."""
    seeds = setup.seeds(*((method, budget) for method in FAITHFUL))
    if len(seeds) < LEAST_SEEDS:
        return None
    accuracy = {method: float(setup.accuracy((method, budget), seeds)[0]) for method in FAITHFUL}
    faithful = next(method for method in FAITHFUL if accuracy[method] >= max(accuracy.values()) - EQUAL)
    fast = _cheapest(setup, budget, faithful)
    if fast is None:
        return None
    costs: dict[str, Any] = {"setup": setup.setup, "budget": budget, "faithful": faithful, "fast": fast}
    for kind, method in (("faithful", faithful), ("fast", fast)):
        outcomes = setup.outcomes((method, budget))
        costs[f"search_images_{kind}"] = float(np.mean([o.search_images for o in outcomes]))
        costs[f"search_seconds_{kind}"] = float(np.mean([o.search_seconds for o in outcomes]))
    return costs


def _cheapest(setup: Resampled, budget: str, faithful: str) -> str | None:
    """Return the product's method with the fewest images of those as accurate as the faithful one."""
    costs: dict[str, float] = {}
    for method in (*PRODUCTS, FRUGAL):
        seeds = setup.seeds((method, budget), (faithful, budget))
        if len(seeds) < LEAST_SEEDS:
            continue
        ours, theirs = (float(setup.accuracy((name, budget), seeds)[0]) for name in (method, faithful))
        if ours >= theirs - EQUAL:
            costs[method] = float(np.mean([o.search_images for o in setup.outcomes((method, budget))]))
    return min(costs, key=lambda method: costs[method]) if costs else None


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """Return the contents of all result files of a folder, in order of their names."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def main() -> None:
    """Read the cells; write summary.json, docs/results.md and its plots."""
    folders = sorted(path for path in PLACES.results.parent.iterdir() if path.is_dir())
    found = found_in(d for f in folders for d in taken_together(read_cells(f), read_together(f.name)))
    summary = summarise(found)
    if found.setups:
        print("written to", write(RESULTS / "summary.json", summary | provenance()))
    for setup in found.setups:
        path = DOCS / "images" / plot_name(setup)
        write_atomic(path, plot_of(setup).encode())
        print("written to", path)
    page = DOCS / "results.md"
    write_atomic(page, results_page(page.read_text() if page.is_file() else None, found.setups, summary).encode())
    print("written to", page)


if __name__ == "__main__":
    main()
