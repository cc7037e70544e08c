"""Tables for the pages under docs/, whose cells may hold Markdown of their own, and intervals in their cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_ALL_INSIDE = 0.995  # a share from here on is told as 100 %


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; cells stand as they are.

    Args:
        head: one per column.
        rows: as many cells each.
    """
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def interval(told: Mapping[str, float] | None, unit: str) -> str:
    """Return a median with its interval, and the share of the replicates inside the curves where not all are.

    Args:
        told: as of `curves.Estimate.to_json`; ``None`` for what has not been measured.
        unit: behind the median.
    """
    if told is None:
        return "-"
    share = "" if told["inside"] >= _ALL_INSIDE else f", {100 * told['inside']:.0f} % inside"
    return f"{told['median']:.2f}{unit} ({told['low']:.2f} to {told['high']:.2f}){share}"
