"""The charts of the report as plain Plotly figures; every text of a run is escaped, for Plotly reads some HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from netadapt.budget import UNITS, format_quantity
from netadapt.report.compare import agreement, half_width, images_of
from netadapt.report.table import LABELS
from netadapt.runs.state import Data, State
from netadapt.runs.status import INITIAL, groups_text, metric_of, summarise
from netadapt.scores import accuracy_error

Figure = dict[str, Any]

INK, MUTED, GRID, BEFORE, OURS, UNIFORM, LIMIT = (
    "#1c2733",
    "#64748b",
    "#e8ecf1",
    "#cbd5e1",
    "#0f766e",
    "#d97706",
    "#dc2626",
)
_RUNS = ("#0f766e", "#6d28d9", "#c2410c", "#0369a1", "#be185d", "#4d7c0f", "#7c2d12", "#334155")
_FONT = {"family": "Inter, system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": INK}


def curve(runs: Sequence[tuple[str, State]]) -> Figure:
    """Return the metric against latency for one run or several, with error bars and budgets.

    Args:
        runs: name and state of each.
    """
    several = len(runs) > 1
    traces: list[dict[str, Any]] = []
    limits: dict[float, None] = {}
    for index, (name, state) in enumerate(runs):
        colour = _RUNS[index % len(_RUNS)]
        prefix = f"{escape(name)}: " if several else ""
        traces += _run_traces(state, prefix, colour, colour if several else UNIFORM)
        limit = ((state.start or {}).get("budget") or {}).get("latency")
        limits |= {} if limit is None else {float(limit): None}
    metrics = {metric_of(state) for _, state in runs}
    metric = escape(metrics.pop()) if len(metrics) == 1 else "metric"
    layout = _layout("latency (ms), measured", f"{metric} (%)", height=440)
    line = {"color": LIMIT, "width": 1.5, "dash": "dash"}
    layout["shapes"] = [
        {"type": "line", "x0": limit, "x1": limit, "yref": "paper", "y0": 0, "y1": 1, "line": line} for limit in limits
    ]
    layout["annotations"] = [_budget_note(limit) for limit in limits]
    return {"data": traces, "layout": layout}


def _budget_note(limit: float) -> dict[str, Any]:
    """Return the label of a budget line."""
    place = {"x": limit, "yref": "paper", "y": 1, "xanchor": "left", "yanchor": "top", "xshift": 5}
    text = f"budget {format_quantity(limit, 'latency')}"
    return place | {"text": text, "showarrow": False, "font": {"color": LIMIT, "size": 12}}


def _run_traces(state: State, prefix: str, colour: str, of_uniform: str) -> list[dict[str, Any]]:
    """Return the points of one run: steps, long-term tuned networks, uniform width."""
    told = summarise(state)
    entries = [entry for entry in told["family"] if entry["latency_ms"] is not None]
    widths = _half_widths(state)
    before = [entry for entry in entries if entry["accuracy_selection"] is not None]
    after = [dict(e) | {"accuracy_se": _test_error(state, e)} for e in entries if e["accuracy"] is not None]
    traces = []
    if before:
        style = {"mode": "lines+markers", "line": {"color": colour, "width": 2}, "marker": {"size": 7, "color": colour}}
        points = _points(before, "accuracy_selection", widths, images_of(state, "selection"), colour)
        traces.append({"name": f"{prefix}step by step (selection split)", **points, **style})
    if after:
        marker = {"size": 14, "symbol": "star", "color": colour, "line": {"color": "white", "width": 1}}
        points = _points(after, "accuracy", widths, images_of(state, "test"), colour)
        traces.append(
            {"name": f"{prefix}original and final (test split)", **points, "mode": "markers", "marker": marker}
        )
    if told_uniform := _uniform_entry(state):
        marker = {"size": 11, "symbol": "square-open", "color": of_uniform, "line": {"width": 2.5}}
        points = _points([told_uniform], "accuracy", widths, images_of(state, "test"), of_uniform)
        traces.append({"name": f"{prefix}uniform width (test split)", **points, "mode": "markers", "marker": marker})
    return traces


def _points(
    entries: Sequence[Data], key: str, half_widths: Mapping[str, float], images: int | None, colour: str
) -> dict[str, Any]:
    """Return positions, error bars and hover texts of some networks."""
    errors = [100 * (entry.get("accuracy_se") or accuracy_error(entry[key], images) or 0) for entry in entries]
    bar = {"type": "data", "thickness": 1, "width": 3, "color": colour}
    return {
        "type": "scatter",
        "x": [entry["latency_ms"] for entry in entries],
        "y": [100 * entry[key] for entry in entries],
        "error_x": {**bar, "array": [half_widths.get(entry["variant"], 0) for entry in entries]},
        "error_y": {**bar, "array": errors, "visible": any(errors)},
        "text": [_hover(entry, key, half_widths) for entry in entries],
        "hoverinfo": "text",
    }


def _hover(entry: Data, key: str, half_widths: Mapping[str, float]) -> str:
    """Return what is shown when a point is touched."""
    title = "original" if entry["variant"] == INITIAL else escape(str(entry["variant"]))
    within = half_widths.get(entry["variant"])
    latency = f"{entry['latency_ms']:.3g} ms" + (f" ± {within:.2g}" if within else "")
    lines = [f"<b>{title}</b>", latency, f"{100 * entry[key]:.1f} %"]
    lines += [f"shrank {escape(groups_text(entry['group']))}"] if entry.get("group") else []
    lines += [format_quantity(entry["macs"], "macs")] if entry.get("macs") else []
    return "<br>".join(lines)


def _half_widths(state: State) -> dict[str, float]:
    """Return half the 95 % interval of the latency of every network."""
    known = {str(step["variant"]): half_width(step) for step in state.steps}
    known[INITIAL] = half_width((state.start or {}).get("initial") or {})
    known["uniform"] = half_width(state.uniform or {})
    return known


def _test_error(state: State, entry: Data) -> float | None:
    """Return the standard error of a network's test accuracy, if its record has one."""
    initial = (state.start or {}).get("initial") or {}
    record = initial if entry["variant"] == INITIAL else state.long_terms.get(entry["variant"], {})
    return record.get("accuracy_se")


def _uniform_entry(state: State) -> dict[str, Any] | None:
    """Return the uniform network like an entry of the family."""
    uniform = state.uniform or {}
    latency = (uniform.get("measured") or {}).get("latency")
    if latency is None or uniform.get("accuracy_test") is None:
        return None
    tested = {"accuracy": uniform["accuracy_test"], "accuracy_se": uniform.get("accuracy_se")}
    return {"variant": "uniform", "latency_ms": latency} | tested


def filters(state: State) -> Figure | None:
    """Return filters per channel group, before and after and of uniform width (the paper's Fig. 10)."""
    groups: Sequence[Data] = (state.start or {}).get("groups") or ()
    if not groups:
        return None
    names = [escape(str(group["name"])) for group in groups]
    layers = ["<br>".join(escape(str(layer)) for layer in list(group.get("layers") or ())[:6]) for group in groups]
    before = [int(group["width"]) for group in groups]
    told = summarise(state)
    after: Data = (told["final"] or (told["family"][-1] if told["family"] else {})).get("widths") or {}
    traces = [_bars("original", BEFORE, names, before, layers)]
    if state.steps:
        left = [int(after.get(group["name"], group["width"])) for group in groups]
        traces.append(_bars("found", OURS, names, left, layers))
    uniform: Data | None = (state.uniform or {}).get("widths")
    if uniform is not None:
        marker = {"symbol": "line-ew-open", "size": 16, "color": UNIFORM, "line": {"width": 3, "color": UNIFORM}}
        level = [int(uniform.get(group["name"], group["width"])) for group in groups]
        traces.append(
            {"type": "scatter", "mode": "markers", "name": "uniform width", "x": names, "y": level, "marker": marker,
             "hoverinfo": "x+y+name"}
        )  # fmt: skip
    layout = _layout("channel group", "filters", height=380)
    layout["xaxis"] |= {"type": "category", "tickangle": -40, "automargin": True, "title": None}
    layout |= {"barmode": "group", "bargap": 0.25, "bargroupgap": 0.05}
    return {"data": traces, "layout": layout, "min_width": 26 * len(names) + 120}


def _bars(name: str, colour: str, x: list[str], y: list[int], layers: list[str]) -> dict[str, Any]:
    text = [f"<b>{group}</b><br>{name}: {width}<br>{layer}" for group, width, layer in zip(x, y, layers, strict=True)]
    marker = {"color": colour, "cornerradius": 3}
    return {"type": "bar", "name": name, "x": x, "y": y, "marker": marker, "hovertext": text, "hoverinfo": "text"}


def loss_curves(state: State) -> Figure | None:
    """Return what cutting each group alone adds to the loss; ``None`` where the method did not ask."""
    curves: Data = (state.loss_curves or {}).get("curves") or {}
    if not curves:
        return None
    traces = []
    for number, (name, curve) in enumerate(curves.items()):
        shares = [100 * width / curve["widths"][-1] for width in curve["widths"]]
        hue = round(360 * number / len(curves))
        traces.append(
            {"type": "scatter", "mode": "lines+markers", "name": escape(name), "x": shares, "y": list(curve["losses"]),
             "line": {"width": 1.5, "color": f"hsl({hue},55%,45%)"}, "marker": {"size": 5},
             "hovertemplate": "%{x:.0f} % of its units: + %{y:.3f}"}
        )  # fmt: skip
    layout = _layout("units of one group kept (%)", "loss added, nothing tuned", height=420)
    layout["yaxis"] |= {"type": "log"}  # what decides is far below what the deepest cuts cost
    return {"data": traces, "layout": layout}


def estimates(state: State, resource: str = "latency") -> Figure | None:
    """Return estimated against measured values of every step (the paper's Fig. 4)."""
    found = agreement(state, resource)
    if found is None:
        return None
    low, high = min(*found.estimated, *found.measured), max(*found.estimated, *found.measured)
    margin = 0.05 * (high - low) or 0.05 * high
    ends = [low - margin, high + margin]
    ideal = {
        "type": "scatter",
        "mode": "lines",
        "name": "estimated = measured",
        "x": ends,
        "y": ends,
        "hoverinfo": "skip",
    }
    bar = {"type": "data", "thickness": 1, "width": 3, "color": OURS}
    unit = UNITS[resource]
    points = {
        "type": "scatter", "mode": "markers", "name": "steps", "x": found.estimated, "y": found.measured,
        "error_x": {**bar, "array": found.sigma, "visible": any(found.sigma)},
        "error_y": {**bar, "array": found.half_width, "visible": any(found.half_width)},
        "marker": {"size": 8, "color": OURS, "opacity": 0.85},
        "text": [f"<b>{escape(n)}</b><br>estimated {e:.3g} {unit}<br>measured {m:.3g} {unit}"
                 for n, e, m in zip(found.names, found.estimated, found.measured, strict=True)],
        "hoverinfo": "text",
    }  # fmt: skip
    layout = _layout(f"estimated {LABELS[resource]} ({unit})", f"measured {LABELS[resource]} ({unit})", height=380)
    return {"data": [{**ideal, "line": {"color": MUTED, "width": 1.2, "dash": "dot"}}, points], "layout": layout}


def _layout(x: str, y: str, *, height: int) -> dict[str, Any]:
    """Return the look that all charts share."""
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": BEFORE,
        "ticks": "outside",
        "tickcolor": BEFORE,
        "ticklen": 4,
    }
    return {
        "height": height,
        "font": _FONT,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48},
        "xaxis": {**axis, "title": {"text": x, "font": {"color": MUTED}}, "showgrid": False},
        "yaxis": {**axis, "title": {"text": y, "font": {"color": MUTED}}, "automargin": True},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {"bgcolor": "white", "bordercolor": BEFORE, "font": {**_FONT, "size": 12}, "align": "left"},
        "hovermode": "closest",
    }
