"""What ``netadapt run`` prints at the end: before and after, the verdict over uniform width, where things lie."""

from __future__ import annotations

from pathlib import Path

from netadapt.report import summary as comparison
from netadapt.report import table
from netadapt.runs.state import Data, State, read_state


def summary(folder: Path) -> str:
    """Return the closing text of a run, whether it has met its budget or not.

    Args:
        folder: of the run.
    """
    state = read_state(folder)
    parts = [comparison(state), "* decided between proposals, before the long-term fine-tune; it is no test"]
    if state.final is not None:
        parts.append(_latency(state.final))
    if state.steps:
        parts += [_widths(state), _files(state, folder)]
    return "\n\n".join(part for part in parts if part)


def _latency(final: Data) -> str:
    """Say how sure the last measurement is."""
    measurement = final.get("measurement") or {}
    if final.get("ratio") is None or not measurement:
        return ""
    met = "the budget is met" if final.get("met") else "the budget is not met"
    return (
        f"latency {measurement['median_ms']:.4g} ± {measurement['half_width_ms']:.2g} ms ({measurement['verdict']}), "
        f"{final['ratio']:.3f} ± {final.get('ratio_half_width') or 0:.3f} of the original beside it: {met}"
    )


def _widths(state: State) -> str:
    """Return the groups that became narrower."""
    final = state.steps[-1]["widths"]
    original = {group["name"]: group["width"] for group in (state.start or {}).get("groups", ())}
    rows = [
        [name, str(width), str(final[name]), f"{100 * final[name] / width:.0f} %"]
        for name, width in original.items()
        if final.get(name, width) != width
    ]
    return table(["group", "original", "found", "kept"], rows) if rows else ""


def _files(state: State, folder: Path) -> str:
    """Say where the network and the report are, and how to load it."""
    name = str(state.final["variant"]) if state.final else str(state.steps[-1]["variant"])
    place = folder / str((state.long_terms.get(name) or {}).get("folder") or f"variants/{name}")
    return "\n".join(
        [
            f"network  {place}",
            f"report   {folder / 'report.html'}",
            f'load     netadapt.load("{place}", model=...)',
            f"export   netadapt export {folder} --at best --format onnx --out DIR",
        ]
    )
