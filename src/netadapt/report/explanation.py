"""Why a network is not faster, as texts and tables: for ``netadapt explain`` and for the report."""

from __future__ import annotations

from typing import Any

from netadapt.explain.record import Explanation, Row, Side

HEADERS = ("layer", "channels", "MACs", "before ms", "after ms", "time", "cause")


def headline(found: Explanation) -> str:
    """Return latency and arithmetic of both networks in one sentence."""
    before, after = found.before, found.after
    macs = _percent(sum(row.after.macs for row in found.rows), sum(row.before.macs for row in found.rows))
    times = f"{after.measured_ms:.3g} ms instead of {before.measured_ms:.3g} ms"
    share = _percent(after.measured_ms, before.measured_ms)
    return f"{found.variant} on {found.platform}: {times}, {share} of the time with {macs} of the multiply-accumulates."


def rows(found: Explanation) -> list[list[str]]:
    """Return the table of the layers, in order of execution."""
    return [
        [
            row.layer,
            _channels(row),
            _percent(row.after.macs, row.before.macs),
            f"{row.before.latency_ms:.3f}",
            f"{row.after.latency_ms:.3f}",
            _percent(row.after.latency_ms, row.before.latency_ms),
            row.cause,
        ]
        for row in found.rows
    ]


def totals(found: Explanation) -> list[list[str]]:
    """Return what the rows sum to, and what was measured."""
    before, after = found.before, found.after
    lines = {
        "sum of the layers": (before.layers_ms, after.layers_ms),
        "other operations and fixed costs": (before.other_ms, after.other_ms),
        "not in any row": (before.missing_ms, after.missing_ms),
        "measured without a profiler": (before.measured_ms, after.measured_ms),
    }
    return [[name, *(f"{value:.3f}" for value in values)] for name, values in lines.items()]


def reasons(found: Explanation) -> list[str]:
    """Return what was lost by cause, the sentence of every layer that has one, and what is taken for granted."""
    lines = []
    if found.lost:
        lost = ", ".join(f"{cause} {amount:.3f} ms" for cause, amount in found.lost.items())
        lines.append(f"lost against time that follows the arithmetic: {lost}")
    else:
        lines.append("no layer is slower than its arithmetic says")
    lines += [f"{row.layer}: {row.cause}: {row.reason}" for row in found.rows if row.reason and row.cause != "kept"]
    lines.append(f"channels are counted in steps of {found.vector} ({found.vector_from})")
    networks = {"before": found.before, "after": found.after}
    if doubtful := [f"{name} {total.verdict}" for name, total in networks.items() if total.verdict != "stable"]:
        lines.append(f"look: the measurement is not stable ({', '.join(doubtful)}): other work on the device is in it")
    if found.profiles and min(found.before.missing_ms, found.after.missing_ms) < 0:
        lines.append("the rows sum to more than was measured: a profiler slows every operation down a little")
    return [*lines, *found.notes]


def told(found: Explanation) -> dict[str, Any]:
    """Return all of it as JSON values, with what follows from the rows."""
    document = found.model_dump()
    for name in ("before", "after"):
        document[name]["missing_ms"] = getattr(found, name).missing_ms
    return document | {"lost_ms": found.lost}


def _channels(row: Row) -> str:
    first, second = (_pair(side) for side in (row.before, row.after))
    return first if first == second else f"{first}, now {second}"


def _pair(side: Side) -> str:
    return f"{side.inputs} to {side.outputs}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else ""
