"""``netadapt status``: where a run is."""

from __future__ import annotations

from typing import Any

from netadapt.cli.options import Json, Run
from netadapt.cli.output import result, result_json, seconds


def command(run: Run, as_json: Json = False) -> None:
    """Say where a run is."""
    from netadapt.runs.status import status

    told = status(run)
    if as_json:
        result_json(told)
        return
    for line in _head(told):
        result(line)
    if told["steps"]:
        result("\n" + _table(told))


def _head(told: dict[str, Any]) -> list[str]:
    from netadapt.budget import format_quantity

    running = told["running"]
    going = f", running as process {running['pid']} on {running['host']}" if running else ""
    lines = [f"state      {told['state']}{going}"]
    if told["initial"] is None:
        return lines
    limits = ", ".join(f"{name} {format_quantity(limit, name)}" for name, limit in told["budget"].items())
    lines += [f"model      {told['model']}", f"platform   {told['platform']}"]
    lines += [f"budget     {limits} ({'met' if told['met'] else 'not met yet'})"]
    lines += [_network("original", told["initial"], told["metric"])]
    if told["final"] is not None:
        lines += [_network("found", told["final"], told["metric"])]
    if told["stop"]:
        lines += [f"stopped    {told['stop'].get('detail') or told['stop'].get('reason')}"]
    images = f"{told['training_images']:,} training and {told['forward_images']:,} other images"
    return [*lines, f"effort     {images}, search {seconds(told['search_seconds'])}"]


def _network(name: str, entry: dict[str, Any], metric: str) -> str:
    from netadapt.budget import format_quantity
    from netadapt.report.table import percent

    parts = [
        format_quantity(entry[key], resource)
        for key, resource in (("latency_ms", "latency"), ("macs", "macs"), ("parameters", "parameters"))
        if entry.get(key) is not None
    ]
    parts += [
        f"{metric} {percent(entry[key])} on {split}" for key, split in _SPLITS.items() if entry.get(key) is not None
    ]
    return f"{name:<10} {', '.join(parts)}"


_SPLITS = {"accuracy": "test", "accuracy_selection": "selection"}


def _table(told: dict[str, Any]) -> str:
    from netadapt.report.table import percent, table
    from netadapt.runs.status import groups_text

    rows = [
        [
            str(step["iteration"]),
            groups_text(str(step["group"])),
            str(step["widths"].get(step["group"], "")),
            _number(step["estimated_ms"]),
            _number(step["measured_ms"]),
            percent(step["accuracy"]),
        ]
        for step in told["steps"]
    ]
    return table(["step", "group", "width", "estimated ms", "measured ms", "selection"], rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
