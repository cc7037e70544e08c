"""What the report says about one run, as plain texts and figures; `html.py` only lays it out."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netadapt.budget import format_quantity
from netadapt.errors import RunDamaged
from netadapt.explain.record import Explanation
from netadapt.explain.record import read as read_explanation
from netadapt.report import charts, explanation
from netadapt.report.compare import UniformVerdict, agreement, final_accuracy, uniform_verdict
from netadapt.report.table import comparison, percent
from netadapt.runs.folder import CONFIG, ENVIRONMENT, inside
from netadapt.runs.lock import holder
from netadapt.runs.state import Data, State, read_state
from netadapt.runs.status import group_of, groups_text, summarise

_log = logging.getLogger("netadapt")
_MUCH_DRIFT, _MUCH_NOISE, _MUCH_ERROR = 0.03, 0.02, 0.05


@dataclass(frozen=True)
class Trust:
    """One line of the trust box.

    Attributes:
        label: what it is about.
        text: what was seen.
        level: ``good``, ``doubt``, or ``plain`` for facts that are neither.
    """

    label: str
    text: str
    level: str = "plain"


@dataclass(frozen=True)
class Why:
    """Why the found network is not faster, as ``netadapt explain`` found it.

    Attributes:
        headline: latency and arithmetic.
        source: where the times come from.
        rows: one per layer.
        totals: what the rows sum to, and what was measured.
        reasons: one sentence each.
    """

    headline: str
    source: str
    rows: tuple[tuple[str, ...], ...]
    totals: tuple[tuple[str, ...], ...]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, found: Explanation) -> Why:
        """Return the texts of a record."""
        rows, totals = explanation.rows(found), explanation.totals(found)
        return cls(
            explanation.headline(found),
            found.source,
            tuple(map(tuple, rows)),
            tuple(map(tuple, totals)),
            tuple(explanation.reasons(found)),
        )


@dataclass(frozen=True)
class RunPage:
    """All texts and figures of one run; see the template for where they stand."""

    name: str
    state: State
    told: Mapping[str, Any]
    badge: tuple[str, str]
    headline: str
    notice: str
    facts: tuple[str, ...]
    tiles: tuple[tuple[str, str, str], ...]
    rows: tuple[tuple[str, str, str, str], ...]
    verdict: UniformVerdict | None
    figures: Mapping[str, Any]
    fit: str
    exchanged: str
    trust: tuple[Trust, ...]
    steps: tuple[Mapping[str, str], ...]
    pinned: tuple[Data, ...]
    pinned_share: float | None
    environment: tuple[tuple[str, str], ...]
    config: str
    why: Why | None


def read_page(folder: Path) -> RunPage:
    """Read everything that the report says about a run.

    Raises:
        RunDamaged: it is no run folder, or it cannot be trusted.
    """
    state = read_state(folder)
    told = summarise(state)
    return RunPage(
        name=folder.resolve().name,
        state=state,
        told=told,
        badge=_badge(state, running=holder(folder) is not None),
        headline=_headline(state, told),
        notice=_notice(state, running=holder(folder) is not None),
        facts=tuple(_facts(state)),
        tiles=tuple(_tiles(state, told)),
        rows=tuple(comparison(state)) if state.start else (),
        verdict=uniform_verdict(state),
        figures={
            "filters": charts.filters(state),
            "loss_curves": charts.loss_curves(state),
            "estimates": charts.estimates(state),
        },
        fit=_fit(state),
        exchanged=_exchanged(state),
        trust=tuple(_trust(state)),
        steps=tuple(_steps(state)),
        pinned=tuple((state.start or {}).get("pinned") or ()),
        pinned_share=(state.start or {}).get("pinned_share"),
        environment=tuple(_flat(_environment(folder))),
        config=_text(inside(folder, CONFIG)),
        why=_why(folder),
    )


def _badge(state: State, *, running: bool) -> tuple[str, str]:
    """Return the state of the run in a few words, and how it is coloured."""
    if state.final is not None:
        return ("budget met", "good") if state.final.get("met") else ("budget not met", "bad")
    if state.stop is not None:
        return str(state.stop.get("reason", "stopped")), "bad"
    return ("running", "busy") if running else ("interrupted", "busy")


def _notice(state: State, *, running: bool) -> str:
    """Say why a run has not ended as it should, and what to do."""
    if state.final is not None or running:
        return ""
    if state.stop is not None:
        return str(state.stop.get("detail") or "")
    return "The run was interrupted; the same command resumes it after the last finished proposal."


def _headline(state: State, told: Mapping[str, Any]) -> str:
    """Say in one sentence what came out."""
    if state.start is None:
        return "The original network has not been measured yet."
    start = told["initial"]["latency_ms"]
    end = told["final"] or (told["steps"][-1] if told["steps"] else {})
    now = end.get("latency_ms", end.get("measured_ms"))
    if start is None or now is None:
        return "The search has not finished a step yet."
    if not told["final"]:
        steps = "1 step" if len(state.steps) == 1 else f"{len(state.steps)} steps"
        return f"Down from {start:.3g} ms to {now:.3g} ms after {steps}."
    before, after = told["initial"]["accuracy"], final_accuracy(state)
    price = ""
    if before is not None and after is not None:
        price = f", with {100 * abs(after - before):.1f} points {'less' if after < before else 'more'} {told['metric']}"
    return f"{start / now:.2f} times as fast: {now:.3g} ms instead of {start:.3g} ms{price}."


def _facts(state: State) -> Iterator[str]:
    """Yield what was adapted, where, for which budget and when, for the line under the headline."""
    start = state.start or {}
    yield from (str(start[key]) for key in ("model", "method", "platform") if start.get(key))
    limits = [format_quantity(value, name) for name, value in (start.get("budget") or {}).items()]
    if limits:
        yield f"budget {', '.join(limits)}"
    if state.last:
        yield state.last[:16].replace("T", " ") + " UTC"


def _tiles(state: State, told: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the headline figures: label, value, what it was."""
    if state.start is None:
        return
    for label, value, before, change in ((r[0], r[2], r[1], r[3]) for r in comparison(state)):
        if label in ("latency", f"{told['metric']} (test)", "multiply-accumulates") and value:
            yield label, value, f"was {before} ({change})" if change else ""
    if told["search_images"]:
        yield "images trained on in the search", f"{told['search_images']:,}", f"in {_duration(told['search_seconds'])}"


def _fit(state: State) -> str:
    """Say how well the estimator foretold the measurements."""
    found = agreement(state)
    if found is None:
        return ""
    return (
        f"{len(found.names)} steps: {100 * found.mean_error:.1f} % off on average, "
        f"{100 * found.worst_error:.1f} % at worst, {100 * found.bias:+.1f} % bias."
    )


def _exchanged(state: State) -> str:
    """Say what scoring whole networks of the same cost has found."""
    if not state.exchanges or not state.steps:
        return ""
    first, found = state.exchanges[0]["loss"], state.steps[-1]["loss"]
    before = "a loss that was not finite" if first is None else f"{first:.3f}"
    return (
        f"Losses of groups cut alone do not add up, so {len(state.exchanges)} whole networks about the budget were "
        f"scored, untuned: the curves' choice has {before}, the network found {found:.3f}."
    )


def _trust(state: State) -> Iterator[Trust]:
    """Yield why, and how far, the numbers can be believed."""
    start = state.start or {}
    noise = start.get("noise") or {}
    if (relative := noise.get("relative")) is not None:
        width = f" ({noise['half_width_ms']:.2g} ms)" if noise.get("half_width_ms") is not None else ""
        text = f"a measurement is known to ± {100 * relative:.2f} %{width}, 95 % interval"
        yield Trust("noise", text, "good" if relative <= _MUCH_NOISE else "doubt")
    yield from _drift(state)
    yield from _estimator(state)
    yield from _verdicts(state)
    final = state.final or {}
    if (ratio := final.get("ratio")) is not None:
        within = f" ± {100 * final['ratio_half_width']:.1f}" if final.get("ratio_half_width") else ""
        yield Trust(
            "final check",
            f"{100 * ratio:.1f}{within} % of the original, measured side by side in fresh sessions",
            "good",
        )
    if failed := sum(1 for proposal in state.proposals.values() if proposal.get("failed")):
        yield Trust("failed proposals", f"{failed} of {len(state.proposals)}", "doubt")
    if floor := (start.get("floor") or {}).get("latency"):
        yield Trust("floor", f"the smallest network that the search may build needs about {floor:.3g} ms")
    yield Trust("splits", "steps were chosen on the selection split; the test split was read once, at the end")


def _drift(state: State) -> Iterator[Trust]:
    """Compare the original's latency at the start with that at the end."""
    first = (((state.start or {}).get("initial") or {}).get("measurement") or {}).get("median_ms")
    last = _last_of_the_original(state.final or {})
    if first and last:
        drift = last / first - 1
        text = f"the original took {first:.4g} ms at the start and {last:.4g} ms at the end ({100 * drift:+.1f} %)"
        yield Trust("drift", text, "good" if abs(drift) <= _MUCH_DRIFT else "doubt")


def _last_of_the_original(final: Data) -> float | None:
    """Return what the original took beside the final network: as measured, or from their ratio in that window."""
    if final.get("initial_measurement"):
        return float(final["initial_measurement"]["median_ms"])
    measurement = final.get("measurement") or {}
    took, ratio = measurement.get("median_ms"), measurement.get("ratio")
    return took / ratio if took and ratio else None


def _estimator(state: State) -> Iterator[Trust]:
    """Say what the estimator was and how wrong it was."""
    estimator, found = state.estimator or {}, agreement(state)
    loo = estimator.get("loo_error")
    loo = loo.get("latency") if isinstance(loo, dict) else loo
    parts = [f"{estimator['kind']}"] if estimator.get("kind") else []
    parts += [f"fitted to {estimator['networks_measured']} networks"] if estimator.get("networks_measured") else []
    parts += [f"{100 * loo:.1f} % off when a network is left out"] if loo is not None else []
    parts += (
        [f"{100 * found.mean_error:.1f} % off on the steps (worst {100 * found.worst_error:.1f} %)"] if found else []
    )
    if parts:
        error = found.mean_error if found else loo or 0
        yield Trust("estimator", ", ".join(parts), "good" if error <= _MUCH_ERROR else "doubt")


def _verdicts(state: State) -> Iterator[Trust]:
    """Count the measurements by the stopwatch's verdict."""
    verdicts = [m["verdict"] for step in state.steps if (m := step.get("measurement")) and m.get("verdict")]
    if verdicts:
        counts = [f"{verdicts.count(word)} {word}" for word in ("stable", "noisy", "unusable") if word in verdicts]
        yield Trust(
            "measurements", f"of the steps: {', '.join(counts)}", "good" if {*verdicts} == {"stable"} else "doubt"
        )


def _steps(state: State) -> Iterator[Mapping[str, str]]:
    """Yield the table of the steps."""
    for step in state.steps:
        estimated, measured = (step.get("estimated") or {}).get("latency"), step["measured"].get("latency")
        group = step.get("group")
        yield {
            "variant": str(step["variant"]),
            "group": groups_text(group_of(step) or ""),
            "width": str(step["widths"].get(group, "")) if isinstance(group, str) else "",
            "estimated": "" if estimated is None else f"{estimated:.4g}",
            "measured": "" if measured is None else f"{measured:.4g}",
            "accuracy": percent(step.get("accuracy")),
            "images": f"{step.get('training_images') or 0:,}",
        }


def _why(folder: Path) -> Why | None:
    """Return what ``netadapt explain`` found, if it was asked; a damaged record must not stop the report."""
    try:
        found = read_explanation(folder)
    except RunDamaged as error:
        _log.warning("%s", error)
        return None
    return None if found is None else Why.of(found)


def _environment(folder: Path) -> Any:
    """Return environment.json, or nothing where it is missing or unreadable."""
    try:
        return json.loads(_text(inside(folder, ENVIRONMENT)) or "{}")
    except (ValueError, RecursionError):
        return {}


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested JSON as dotted keys with texts."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, ", ".join(map(str, values)) if isinstance(values, list) else str(values)


def _text(path: Path) -> str:
    """Return a text file of the run, or nothing if it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _duration(seconds: float) -> str:
    """Return ``48 s``, ``12 min`` or ``3.2 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def metric_word(pages: list[RunPage]) -> str:
    """Return the name of the metric that all runs share, or a word for any."""
    names = {str(page.told["metric"]) for page in pages}
    return names.pop() if len(names) == 1 else "metric"


def overview(pages: list[RunPage]) -> list[tuple[str, ...]]:
    """Return the rows that compare several runs."""
    rows: list[tuple[str, ...]] = []
    for page in pages:
        final = page.told["final"] or {}
        limits = ", ".join(format_quantity(value, name) for name, value in page.told["budget"].items())
        latency = format_quantity(final["latency_ms"], "latency") if final.get("latency_ms") is not None else ""
        images = f"{page.told['training_images']:,}"
        row = (page.name, str(page.told["model"] or ""), limits, latency, percent(final_accuracy(page.state)), images)
        rows.append((*row, page.verdict.word if page.verdict else "", page.badge[0]))
    return rows
