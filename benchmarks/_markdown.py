"""Tables for the pages under docs/, whose cells may hold Markdown of their own."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; cells stand as they are.

    Args:
        head: one per column.
        rows: as many cells each.
    """
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
