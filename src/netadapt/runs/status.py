"""What ``netadapt status --json`` prints: a run in plain numbers, a pure fold of its journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from netadapt.runs.lock import holder
from netadapt.runs.state import Data, State, read_state

INITIAL = "000"
#: more groups than these are counted, not named
_NAMED_GROUPS = 3


def status(folder: Path) -> dict[str, Any]:
    """Return where a run is.

    Args:
        folder: a run folder; the run may be going on.

    Returns:
        JSON values with the keys ``budget``, ``met``, ``initial``, ``final``, ``family``, ``steps``,
        ``training_images``, ``forward_images``, ``search_seconds`` and some more. ``initial`` and ``final`` have
        ``latency_ms``, ``accuracy`` (test), ``macs``, ``parameters``; what is not known yet is ``None``.

    Raises:
        RunDamaged: it is no run folder, or its journal cannot be trusted.
    """
    state = read_state(Path(folder))
    writer = holder(Path(folder))
    return summarise(state) | {"running": asdict(writer) if writer else None}


def summarise(state: State) -> dict[str, Any]:
    """Return the part of `status` that follows from the journal alone."""
    start = state.start or {}
    return {
        "budget": start.get("budget", {}),
        "met": bool(state.final and state.final.get("met")),
        "state": _phase(state),
        "stop": state.stop,
        "model": start.get("model"),
        "platform": start.get("platform"),
        "metric": metric_of(state),
        "initial": _initial(start) if state.start else None,
        "final": _final(state),
        "family": list(_family(state)),
        "steps": [_step(step) for step in state.steps],
        "proposals": len(state.proposals),
        "training_images": state.training_images,
        "search_images": state.search_images,
        "forward_images": state.forward_images,
        "search_seconds": state.search_seconds,
        "began": state.began,
        "last": state.last,
    }


def metric_of(state: State) -> str:
    """Return what the task calls its metric; figures of it are under the keys ``accuracy...`` whatever it is."""
    return str((state.start or {}).get("metric") or "accuracy")


def _phase(state: State) -> str:
    """Say in one word how far the run is."""
    if state.start is None:
        return "preparing"
    if state.stop is not None:
        return str(state.stop.get("reason", "stopped"))
    return "searching" if state.final is None else "done"


def _initial(start: Data) -> dict[str, Any]:
    """Return the numbers of the original network."""
    initial = start["initial"]
    counted = {name: initial[name] for name in ("macs", "parameters") if name in initial}
    resources = counted | dict(initial.get("resources", {}))
    return {
        "variant": INITIAL,
        "latency_ms": resources.get("latency"),
        "accuracy": initial.get("accuracy_test"),
        "accuracy_selection": initial.get("accuracy_selection"),
        "macs": resources.get("macs"),
        "parameters": resources.get("parameters"),
        "resources": resources,
    }


def _final(state: State) -> dict[str, Any] | None:
    """Return the numbers of the network that the run ended with."""
    if state.final is None:
        return None
    found = next((entry for entry in _family(state) if entry["variant"] == state.final["variant"]), {})
    accuracy = state.final.get("accuracy_test")
    return dict(found) | {
        "latency_ms": found.get("latency_ms") if latency_of(state.final) is None else latency_of(state.final),
        "accuracy": found.get("accuracy") if accuracy is None else accuracy,
        "ratio": state.final.get("ratio"),
        "ratio_half_width": state.final.get("ratio_half_width"),
    }


def latency_of(record: Data) -> float | None:
    """Return the latency that a record tells: corrected for drift if the run did so, else as the stopwatch gave it."""
    latency = (record.get("measured") or {}).get("latency")
    return latency if latency is not None else (record.get("measurement") or {}).get("median_ms")


def _family(state: State) -> Iterator[dict[str, Any]]:
    """Yield the original network and the network of every step."""
    if state.start is not None:
        yield _initial(state.start) | {"iteration": 0, "tuned": True, "widths": _widths(state.start)}
    for step in state.steps:
        tune = state.long_terms.get(step["variant"])
        measured = step["measured"]
        if tune and state.final and state.final["variant"] == step["variant"]:
            measured = measured | (state.final.get("measured") or {})  # the trained file, timed again
        yield {
            "variant": step["variant"],
            "iteration": step["iteration"],
            "tuned": tune is not None,
            "latency_ms": measured.get("latency"),
            "accuracy": tune.get("accuracy_test") if tune else None,
            "accuracy_selection": step.get("accuracy"),
            "macs": measured.get("macs"),
            "parameters": measured.get("parameters"),
            "resources": measured,
            "widths": step["widths"],
        }


def _widths(start: Data) -> dict[str, int]:
    """Return the original widths."""
    return {group["name"]: group["width"] for group in start.get("groups", ())}


def _step(step: Data) -> dict[str, Any]:
    """Return the numbers of one step."""
    return {
        "iteration": step["iteration"],
        "group": group_of(step),
        "widths": step["widths"],
        "estimated_ms": (step.get("estimated") or {}).get("latency"),
        "measured_ms": step["measured"].get("latency"),
        "accuracy": step.get("accuracy"),
        "variant": step["variant"],
    }


def groups_text(name: str) -> str:
    """Return the groups of a proposal for people: their names, or how many there are if more than a line holds.

    Args:
        name: of the proposal; its groups are joined by a plus.
    """
    count = name.count("+") + 1
    return name if count <= _NAMED_GROUPS else f"{count} groups"


def group_of(step: Data) -> str | None:
    """Return the group that a step or a proposal shrank; several are joined with a plus."""
    groups = step.get("groups") or step.get("group")
    return " + ".join(groups) if isinstance(groups, list) else groups
