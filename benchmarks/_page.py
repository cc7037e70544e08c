"""The tables and plots of docs/results.md: text between two markers is written here, the rest of the page by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from _ablations import ablations
from _markdown import interval
from _markdown import table as markdown_table
from _svg import Point, Series, plot
from cells import ABLATIONS, MAIN, OWN_WEIGHTS, TORCH_PRUNING, TUNED_ORIGINAL
from curves import estimate
from outcomes import Resampled

BEGIN = "<!-- written by benchmarks/summary.py: begin -->"
END = "<!-- written by benchmarks/summary.py: end -->"
_NEW = f"""# Results

What the benchmark found; how it is made: [benchmarks/cells.py](../benchmarks/cells.py).

{BEGIN}
{END}
"""
_NOTHING = "Nothing has been measured yet: `make bench-next` runs the most valuable cell and fills this page."
#: the methods in the plots, with the same colour in all of them
_PLOTTED = dict(
    zip(
        (
            *MAIN,
            "one-shot-blocks",
            "netadapt-macs",
            "one-shot-macs",
            "one-shot-exchange",
            "one-shot-retrained",
            "one-shot-long",
            *TORCH_PRUNING,
            OWN_WEIGHTS,
            TUNED_ORIGINAL,
        ),
        (
            *("#d97706", "#6d28d9", "#0f766e", "#0369a1", "#15803d", "#be185d"),
            *("#c026d3", "#a16207", "#7f1d1d", "#334155", "#0e7490", "#64748b", "#65a30d", "#9f1239"),
        ),
        strict=True,
    )
)
#: what the project wants to reach: over uniform width, over training from scratch, and of the search
AIM_OVER_UNIFORM, AIM_POINTS, AIM_OVER_SCRATCH, AIM_SEARCH_COST = 1.4, 3.0, 1.7, 20.0
#: references stand alone in the plots: no line joins them
_REFERENCES = {OWN_WEIGHTS: "own weights (more data)", TUNED_ORIGINAL: "original, tuned too"}
_NOTES = (
    "In brackets: 95 % interval, bootstrap over seeds and test images; all seeds of a set-up share the start network "
    "and the selection split, whose variation is in no interval. A dash: not measured, or outside the curves. "
    "Where a share stands behind the interval, only so many of the replicates were inside both curves; those outside "
    "are left out, so that the interval is narrower than the truth.",
    "The curves go through the methods' own points and end on the right at the original network after the same "
    "long-term fine-tune as theirs (`tuned-original`), where that has been measured. The start network is in the plots "
    "for orientation and on no curve: it got no such fine-tune.",
    "`from-scratch` trains a uniformly narrower network from random weights for as many epochs as the benchmark gives "
    "to the start network and to the fine-tune together (on up to a tenth more images: with the selection split, on "
    "which the start network must not be trained). On set-ups (a) and (c), MobileNetV1 on Tiny ImageNet and the "
    "ResNets, the start networks come pretrained (on ImageNet; as finished ResNets): from-scratch sees far less data "
    "there than the others have, and a lead over it may be due to that alone. The start network teaches it too. "
    "`one-shot-retrained` trains the widths that one-shot finds in the same way, for as long; "
    "`one-shot-long` fine-tunes one-shot's network, with the weights that it inherits, for as long: the other thing to "
    "do with a trained network and so much time.",
    "`one-shot-blocks` is one-shot that may also remove whole residual blocks; `one-shot-macs` believes that latency "
    "goes with multiply-accumulates until it has measured; `one-shot-curves-250` measures its loss curves on 250 "
    "images. `faithful-320`, `-960` and `-2880` are the paper's search: one group a step, every proposal tuned for so "
    "many images. Cells of one-shot that took 67,867 search images or more measured their curves on 2,000; since then "
    "1,000 are the default.",
    "`torch-pruning-l2` and `torch-pruning-taylor` are Torch-Pruning's global pruning by norm and by the Taylor term, "
    "with its own defaults and the same multiple for widths, at the one ratio that hits the budget in measured "
    "milliseconds; then the same fine-tune. On ResNets it prunes inside the blocks alone: it does not follow the "
    "residual stream through the padded shortcuts.",
)


def results_page(page: str | None, setups: Sequence[Resampled], summary: Mapping[str, Any]) -> str:
    """Return the page with its generated part renewed.

    Args:
        page: as it is; ``None`` for a new one.
        setups: what was found.
        summary: of `summary.summarise`.

    Raises:
        ValueError: the page has lost a marker.
    """
    page = _NEW if page is None else page
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise ValueError(f"docs/results.md must have these two lines once, in this order:\n{BEGIN}\n{END}")
    before, after = page[: page.index(BEGIN)], page[page.index(END) + len(END) :]
    return f"{before}{BEGIN}\n\n{_generated(setups, summary)}\n\n{END}{after}"


def _generated(setups: Sequence[Resampled], summary: Mapping[str, Any]) -> str:
    """Return the generated part."""
    parts = [_NOTHING] if not setups else [_overall(summary), *(_section(setup) for setup in setups)]
    if (table := ablations(setups)) is not None:
        parts.append(table)
    if summary["failures"]:
        told = "\n".join(f"* `{name}`: {reason}" for name, reason in summary["failures"].items())
        parts.append(f"### Budgets that were refused or not reached\n\n{told}")
    return "\n\n".join(parts)


def _aims(summary: Mapping[str, Any]) -> str:
    """Return what was aimed at beside what the product's best method reaches."""
    times, points = summary["speedup_at_equal_accuracy"], summary["accuracy_gain_at_equal_latency"]
    rows = [
        _aim("times faster than `uniform` at equal accuracy", AIM_OVER_UNIFORM, times["uniform"], "x"),
        _aim("points over `uniform` at equal latency", AIM_POINTS, points["uniform"], ""),
        _aim("times faster than `from-scratch` at equal accuracy", AIM_OVER_SCRATCH, times["from-scratch"], "x"),
    ]
    if points["uniform"] is not None:
        behind = summary["behind_uniform"]
        rows.append(
            ["behind `uniform` by more than the interval", "nowhere", ", ".join(behind) or "nowhere", _met(not behind)]
        )
    if (ratio := summary["search_cost_ratio"]) is not None:
        what = f"times fewer images for the search than the paper's takes ({'; '.join(summary['search_cost_of'])})"
        cost = [what, f"{AIM_SEARCH_COST:g}x", f"{ratio:.1f}x"]
        rows.append([*cost, _met(ratio >= AIM_SEARCH_COST)])
    return markdown_table([f"`{summary['method']}`, median over set-ups and budgets", "aim", "reached", ""], rows)


def _aim(what: str, aim: float, told: Mapping[str, float] | None, unit: str) -> list[str]:
    """Return a row of `_aims`; what has not been measured is neither met nor missed."""
    return [what, f"{aim:g}{unit}", interval(told, unit), "" if told is None else _met(told["median"] >= aim)]


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _overall(summary: Mapping[str, Any]) -> str:
    """Return the tables of the aims and of all comparisons, and the cost of the search."""
    rows = [
        [name, interval(told["speedup_at_equal_accuracy"], "x"), interval(told["accuracy_gain_at_equal_latency"], "")]
        for name, told in summary["comparisons"].items()
    ]
    heads = ["median over set-ups and budgets", "times faster at equal accuracy", "points of accuracy at equal latency"]
    table = markdown_table(heads, rows)
    notes = "\n\n".join(_NOTES)
    if (ratio := summary["search_cost_ratio"]) is not None:
        faithful, fast = summary["search_images_faithful"], summary["search_images_fast"]
        notes += f"\n\nThe faithful search takes {ratio:.1f} times the images of the fast one "
        notes += f"({faithful:,.0f} against {fast:,.0f}): {'; '.join(summary['search_cost_of'])}."
    return f"{_aims(summary)}\n\n{table}\n\n{notes}"


def _section(setup: Resampled) -> str:
    """Return plot and table of a set-up; ablations have a table of their own."""
    slower = sorted(setup.budgets(), key=lambda budget: -setup.outcomes((setup.methods(budget)[0], budget))[0].ratio)
    rows = [_row(setup, method, b) for b in slower for method in setup.methods(b) if method not in ABLATIONS]
    heads = [
        "budget",
        "method",
        "latency, % of original",
        "test accuracy, %",
        "MMACs",
        "search images",
        "search s",
        "seeds",
    ]
    original = setup.original
    told = f"Original network, as all methods start from it: {original.milliseconds:.3f} ms, "
    told += f"{100 * original.accuracy:.1f} %."
    image = f"![Accuracy against latency of {setup.setup}](images/{plot_name(setup)})"
    return f"### {setup.setup}\n\n{image}\n\n{told}\n\n{markdown_table(heads, rows)}"


def _row(setup: Resampled, method: str, budget: str) -> list[str]:
    """Return what a method reached at a budget: means over its seeds."""
    outcomes = setup.outcomes((method, budget))
    point = _point(setup, method, budget)
    spread = f"{100 * point.y:.1f} ({100 * point.low:.1f} to {100 * point.high:.1f})"
    half_width = np.mean([o.ratio_half_width for o in outcomes])
    costs = [np.mean([o.search_images for o in outcomes]), np.mean([o.search_seconds for o in outcomes])]
    return [
        budget,
        method,
        f"{100 * point.x:.1f} ± {100 * half_width:.1f}",
        spread,
        f"{1e-6 * np.mean([o.macs for o in outcomes]):.2f}",
        *(f"{cost:,.0f}" for cost in costs),
        str(len(outcomes)),
    ]


def plot_name(setup: Resampled) -> str:
    """Return the file name of a set-up's plot."""
    return f"frontier_{setup.setup.replace(' ', '_')}.svg"


def plot_of(setup: Resampled) -> str:
    """Return the plot of a set-up as SVG; start network and references are markers that no line joins."""
    original = setup.original
    start = Point(1.0, original.accuracy, original.accuracy, original.accuracy)
    series = [Series("original (start)", (start,), "#1c2733", joined=False)]
    for method, colour in _PLOTTED.items():
        points = tuple(_point(setup, method, budget) for budget in setup.budgets(method))
        if points:
            series.append(Series(_REFERENCES.get(method, method), points, colour, joined=method not in _REFERENCES))
    title = f"{setup.setup}, original {original.milliseconds:.2f} ms, {100 * original.accuracy:.1f} %"
    return plot(title, series)


def _point(setup: Resampled, method: str, budget: str) -> Point:
    """Return the mean over the seeds of a method at a budget, with the interval of the accuracy."""
    key = (method, budget)
    found = estimate(setup.accuracy(key, setup.seeds(key))[:, None])
    assert found is not None
    ratio = float(np.exp(np.mean([np.log(o.ratio) for o in setup.outcomes(key)])))
    return Point(ratio, found.median, found.low, found.high)
