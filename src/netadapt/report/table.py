"""Tables of text, plain or Markdown; the command line prints them at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netadapt.budget import UNITS, format_quantity
from netadapt.report.compare import final_accuracy, uniform_verdict
from netadapt.runs.state import Data, State
from netadapt.runs.status import summarise


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool = False) -> str:
    """Lay out a table; the first column is aligned left, the others right.

    Args:
        headers: one per column.
        rows: cells as text, as many per row as there are headers.
        markdown: write a Markdown table instead of plain columns.
    """
    cells = [[_cell(text, markdown) for text in row] for row in [headers, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]
    lines = [
        [_pad(text, width, index) for index, (text, width) in enumerate(zip(row, widths, strict=True))] for row in cells
    ]
    rule = ["-" * width if index == 0 else "-" * (width - 1) + ":" for index, width in enumerate(widths)]
    if markdown:
        return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])
    return "\n".join("  ".join(line).rstrip() for line in [lines[0], ["-" * width for width in widths], *lines[1:]])


def _cell(text: str, markdown: bool) -> str:
    """Keep a cell on one line and, in Markdown, from being read as markup."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not markdown:
        return text
    return "".join(f"\\{c}" if c in "\\|`*_[]<>" else c for c in text)


def _pad(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def summary(state: State, *, markdown: bool = False) -> str:
    """Return what a run came to: the original and the final network side by side, and the verdict over uniform width.

    Args:
        state: of the run; it may not have ended.
        markdown: write Markdown instead of plain text.
    """
    if state.start is None:
        return "The run has not measured the original network yet."
    text = table(["", "original", "found", "change"], comparison(state), markdown=markdown)
    verdict = uniform_verdict(state)
    return text + (f"\n\nThe found network {verdict}." if verdict else "")


def comparison(state: State) -> list[tuple[str, str, str, str]]:
    """Return rows of (quantity, original, found, change); *found* is the final network, or the last step so far."""
    told = summarise(state)
    before = told["initial"]
    after: Data = told["final"] or next(iter(reversed(told["family"][1:])), {})
    rows = [_resource_row(name, before["resources"], _costs(after)) for name in UNITS]
    accuracy = final_accuracy(state)
    rows.append(_metric_row(f"{told['metric']} (test)", before.get("accuracy"), accuracy))
    selection = before.get("accuracy_selection"), after.get("accuracy_selection")
    rows.append(_metric_row(f"{told['metric']} (selection) *", *selection))
    return [row for row in rows if row[1] or row[2]]


def _costs(entry: Data) -> dict[str, Any]:
    """Return the resources of a network, latency as measured last."""
    latency = {"latency": entry["latency_ms"]} if entry.get("latency_ms") is not None else {}
    return dict(entry.get("resources", {})) | latency


def _resource_row(name: str, before: Data, after: Data) -> tuple[str, str, str, str]:
    """Return the row of one resource; the change is a ratio."""
    start, end = before.get(name), after.get(name)
    change = f"{100 * (end / start - 1):+.1f} %" if start and end is not None else ""
    return LABELS[name], _quantity(start, name), _quantity(end, name), change


def _metric_row(label: str, before: float | None, after: float | None) -> tuple[str, str, str, str]:
    """Return the row of an accuracy or another metric; the change is in points."""
    change = f"{100 * (after - before):+.1f} points" if before is not None and after is not None else ""
    return label, percent(before), percent(after), change


def _quantity(value: float | None, resource: str) -> str:
    return "" if value is None else format_quantity(value, resource).removesuffix(" parameters")


def percent(fraction: float | None) -> str:
    """Return ``69.8 %``, or nothing for None."""
    return "" if fraction is None else f"{100 * fraction:.1f} %"


#: what people read for each resource
LABELS = {
    "latency": "latency",
    "energy": "energy",
    "memory": "peak memory",
    "size": "file size",
    "macs": "multiply-accumulates",
    "parameters": "parameters",
}
