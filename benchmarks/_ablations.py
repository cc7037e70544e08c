"""The table of the ablations: methods that differ from a main one in one thing (paper, Fig. 8, 9, Table 2).

`_page.py` puts it on the page of results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from _markdown import interval
from _markdown import table as markdown_table
from cells import ABLATIONS, difference, parent
from curves import estimate
from outcomes import Resampled

_HEADS = [
    "method",
    "differs in",
    "steps",
    "latency, % of original",
    "before long-term, %",
    "test accuracy, %",
    "points over its parent at equal latency",
    "search images",
    "search s",
]


def ablations(setups: Sequence[Resampled]) -> str | None:
    """Return a table for each set-up and budget at which an ablation was measured; ``None`` if there is none.

    Args:
        setups: all outcomes.
    """
    parts = [
        f"{setup.setup}, {budget}:\n\n{markdown_table(_HEADS, rows)}"
        for setup in setups
        for budget in setup.budgets()
        if (rows := list(_rows(setup, budget)))
    ]
    return "\n\n".join(["### Ablations", *parts]) if parts else None


def _rows(setup: Resampled, budget: str) -> Iterator[list[str]]:
    """Yield each method that ablations differ from, and those behind it."""
    measured = [method for method in setup.methods(budget) if method in ABLATIONS]
    for first in dict.fromkeys(parent(method) for method in measured):
        if first in setup.methods(budget):
            yield _row(setup, first, budget, "", "")
        for method in measured:
            if parent(method) == first:
                yield _row(setup, method, budget, difference(method), _gain(setup, method, budget))


def _row(setup: Resampled, method: str, budget: str, differs: str, gain: str) -> list[str]:
    outcomes = setup.outcomes((method, budget))
    untuned = [o.untuned for o in outcomes if o.untuned is not None]
    steps = [o.steps for o in outcomes if o.steps is not None]
    return [
        method,
        differs,
        f"{np.mean(steps):.0f}" if steps else "-",
        f"{100 * np.mean([o.ratio for o in outcomes]):.1f}",
        f"{100 * np.mean(untuned):.1f}" if untuned else "-",
        f"{100 * np.mean([o.accuracy for o in outcomes]):.1f}",
        gain,
        f"{np.mean([o.search_images for o in outcomes]):,.0f}",
        f"{np.mean([o.search_seconds for o in outcomes]):,.0f}",
    ]


def _gain(setup: Resampled, method: str, budget: str) -> str:
    """Return how many points of accuracy an ablation gains over its parent, with the 95 % interval."""
    comparison = setup.compare(method, parent(method))
    if comparison is None or budget not in comparison.budgets:
        return "-"
    found = estimate(100 * comparison.gains[:, [comparison.budgets.index(budget)]])
    return interval(None if found is None else found.to_json(), "")
