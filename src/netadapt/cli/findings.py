"""Lays out what a check found as text, for ``netadapt check``."""

from __future__ import annotations

from collections.abc import Sequence

from netadapt.budget import format_quantity
from netadapt.check import Findings
from netadapt.cli.output import seconds
from netadapt.report.table import table

#: layers of a group, and of a reason, that are named before "(+n)"
_NAMED, _NAMED_PINNED = 3, 6


def text(found: Findings, source: str, platform: str) -> str:
    """Return the page of a check.

    Args:
        found: by `netadapt.check.check`.
        source: the MODEL as given.
        platform: canonical name.
    """
    parts = [_head(found, source, platform), _groups(found), _pinned(found)]
    if found.floor is not None:
        parts += [_limits(found), _uniform(found)]
    parts.append(_forecast(found))
    parts += [f"warning: {warning}" for warning in found.warnings]
    return "\n\n".join(part for part in parts if part)


def _head(found: Findings, source: str, platform: str) -> str:
    m = found.measurement
    counts = f"{format_quantity(found.macs, 'macs')}, {format_quantity(found.parameters, 'parameters')}"
    relative = 100 * m.relative_half_width
    return "\n".join(
        [
            f"model      {source}: {found.model}, {counts}, input {found.inputs}",
            f"platform   {platform} on {m.environment.get('processor', 'an unknown processor')}",
            f"latency    {m.median_ms:.4g} ± {m.half_width_ms:.2g} ms ({relative:.1f} %), IQR {m.iqr_ms:.2g}, "
            f"p90 {m.p90_ms:.4g}, {len(m.sessions_ms)} sessions, {m.count} slices: {m.verdict}",
            f"noise      smallest honest step {found.smallest_step_ms:.3g} ms "
            f"({100 * found.smallest_step_ms / m.median_ms:.1f} %), 3 times the half-width",
        ]
    )


def _groups(found: Findings) -> str:
    if not found.groups:
        return "Nothing can be removed from this network."
    layers = sum(len(group.layers) for group in found.groups)
    column = max(len("group"), *(len(group.name) for group in found.groups))
    lines = [f"{'group':<{column}}  width  minimum  MACs saved  goes with"]
    for group in found.groups:
        others = [layer for layer in group.layers if layer != group.name]
        share = f"{100 * group.macs_share:.1f} %"
        lines.append(
            f"{group.name:<{column}}  {group.width:>5}  {group.minimum:>7}  {share:>10}  {_first(others, _NAMED)}"
        )
    told = f"{len(found.groups)} groups over {layers} layers (MACs saved: by this group alone, at its minimum)\n"
    blocks = [group.block for group in found.groups if group.block]
    whole = [f"blocks: {len(blocks)} may go as a whole, at width 0: {_first(blocks, _NAMED_PINNED)}"] if blocks else []
    return told + "\n".join([*lines, *whole, *_inexact(found)])


def _inexact(found: Findings) -> list[str]:
    """Return which groups change values of what stays, and why."""
    reasons: dict[str, list[str]] = {}
    for group in found.groups:
        if group.inexact:
            reasons.setdefault(group.inexact, []).append(group.name)
    head = ["inexact: a removal changes what stays, so that only a fine-tune tells what it costs"] if reasons else []
    return head + [f"  {_first(names, _NAMED_PINNED)}: {reason}" for reason, names in reasons.items()]


def _first(names: Sequence[str], count: int) -> str:
    more = f" (+{len(names) - count})" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def _pinned(found: Findings) -> str:
    """Return what is kept whole, layers with the same reason at the same line together."""
    together: dict[str, list[str]] = {}
    for pin in found.pinned:
        together.setdefault(pin.text, []).append(pin.layer or "the network")
    if not together:
        return ""
    share = f"{100 * found.pinned_share:.1f} % of the MACs are in layers that no group makes cheaper"
    lines = [f"  {_first(layers, _NAMED_PINNED)}: {text}" for text, layers in together.items()]
    if any(pin.statistic for pin in found.pinned):
        lines.append("  --inexact (exact = false under [model]) offers those that only a statistic over channels keeps")
    return f"kept whole ({share})\n" + "\n".join(lines)


def _limits(found: Findings) -> str:
    assert found.floor is not None
    floor = found.floor
    rows = [[row.budget, f"{row.latency_ms:.4g}", _steps(row.iterations)] for row in found.budgets]
    return (
        f"floor      every group at its minimum: {floor.latency_ms:.3g} ± {floor.half_width_ms:.2g} ms "
        f"({100 * floor.ratio:.0f} %), {format_quantity(floor.macs, 'macs')}; lower budgets are impossible here\n"
        + table(["budget", "latency ms", "default schedule"], rows)
    )


def _steps(count: int | None) -> str:
    return "out of reach" if count is None else f"about {count} step{'s' if count != 1 else ''}"


def _uniform(found: Findings) -> str:
    rows = [
        [
            row.name,
            f"{row.latency_ms:.4g} ± {row.half_width_ms:.2g}",
            f"{100 * row.ratio:.0f} %",
            format_quantity(row.macs, "macs"),
            format_quantity(row.parameters, "parameters").removesuffix(" parameters"),
        ]
        for row in found.uniform
    ]
    return "what uniform width would give\n" + table(["width", "latency ms", "of original", "MACs", "parameters"], rows)


def _forecast(found: Findings) -> str:
    f = found.forecast
    if f is None:
        return ""
    long_term = (
        f"long-term fine-tune {seconds(f.long_term_s)}, and the same for uniform width"
        if f.long_term_s is not None
        else f"the long-term fine-tune comes on top: {f.training_images_per_s:.0f} images a second "
        "(a task with train_images tells more)"
    )
    total = f": about {seconds(f.total_s)}" if f.total_s is not None else ""
    return (
        f"forecast   budget {f.budget}{total}\n"
        f"  estimator {seconds(f.estimator_s)}; search {seconds(f.search_s)} = {f.iterations} iterations x "
        f"{seconds(f.iteration_s)} ({f.proposals} proposals judged on {f.selection_images:,} images, {f.tuned} tuned); "
        f"{long_term}"
    )
