"""The progress of a run as lines for a log: a time, then ``key=value``; one line per proposal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from netadapt.cli.output import printable
from netadapt.cli.progress import Progress
from netadapt.runs.status import groups_text

if TYPE_CHECKING:
    from netadapt.adaptation.store import Listener

#: long work is reported each time that another so large a part is done
_PART = 0.1
#: or, where nobody knows how long it takes, after so many seconds
_PATIENCE_S = 30.0


@contextmanager
def plain(progress: Progress) -> Iterator[Listener]:
    """Yield a listener that writes lines to standard error."""
    due = _Due()

    def listen(type_: str, data: Mapping[str, Any]) -> None:
        progress.take(type_, data)
        if type_ in ("training", "estimator_progress") and not due(progress):
            return
        for fields in _FIELDS.get(type_, lambda progress, data: [])(progress, data):
            typer.echo(line(fields), err=True)

    yield listen


def line(fields: Mapping[str, Any]) -> str:
    """Return one line; fields without a value are left out."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return " ".join([stamp, *(f"{key}={_value(value)}" for key, value in fields.items() if value is not None)])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    text = printable(str(value))
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


class _Due:
    """Tells when long work deserves another line: at every tenth of it, or after half a minute."""

    def __init__(self) -> None:
        self._what, self._part, self._time = "", -1, 0.0

    def __call__(self, progress: Progress) -> bool:
        """Return whether a line is due, and remember that it was written."""
        part = int(progress.done / progress.total / _PART) if progress.total else self._part
        late = not progress.total and time.monotonic() - self._time > _PATIENCE_S
        if progress.doing == self._what and part == self._part and not late:
            return False
        self._what, self._part, self._time = progress.doing, part, time.monotonic()
        return True


def _doing(progress: Progress, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    of = f"/{progress.total:g}" if progress.total else ""
    done = f"{progress.done:g}{of}" if progress.done or of else None
    return [{"doing": progress.doing, "done": done, "loss": data.get("loss")}]


def _start(progress: Progress, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    limits = {f"budget_{name}": float(limit) for name, limit in data["budget"].items()}
    initial = {name: float(data["initial"]["resources"][name]) for name in data["budget"]}
    return [
        {"start": "original", **initial, **limits, progress.metric: progress.start_accuracy, "noise": progress.noise}
    ]


def _iteration(progress: Progress, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    targets = {f"target_{name}": float(limit) for name, limit in data["constraint"].items()}
    return [{"it": data["iteration"], "proposals": len(data.get("proposals", ())), **targets}]


def _scored(progress: Progress, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    kept = _kept(progress, data["group"], data["widths"])
    scores = {progress.metric: data["metric"], "loss": data["loss"]}
    return [{"it": data["iteration"], "group": groups_text(data["group"]), "kept": kept, "tuned": "no", **scores}]


def _proposal(progress: Progress, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    score = data["score"] or {}
    return [
        {
            "it": data["iteration"],
            "group": groups_text(data["group"]),
            "kept": _kept(progress, data["group"], data["widths"]),
            "tuned": "failed" if data["failed"] else "yes",
            "estimated": data["estimated"].get(progress.resource),
            progress.metric: score.get("metric"),
            "loss": score.get("loss"),
            "images": data["images"],
            "wall_s": data["seconds"],
        }
    ]


def _step(progress: Progress, data: Mapping[str, Any]) -> list[dict[str, Any]]:
    values = {"estimated": data["estimated"].get(progress.resource), "measured": data["measured"][progress.resource]}
    kept = _kept(progress, data["group"], data["widths"])
    return [
        {"it": data["iteration"], "step": groups_text(data["group"]), "kept": kept, **values, "budget": progress.budget}
        | {progress.metric: data["accuracy"], "variant": data["variant"], "wall_s": data.get("seconds")}
    ]


def _kept(progress: Progress, group: str, widths: Mapping[str, int]) -> str:
    """Return e.g. ``96/128``; several groups are separated by commas, many are added up."""
    names = [name for name in group.split("+") if name in widths]
    if groups_text(group) != group:
        return f"{sum(widths[name] for name in names)}/{sum(progress.widths.get(name, 0) for name in names)}"
    return ",".join(f"{widths[name]}/{progress.widths.get(name, '?')}" for name in names)


def _end(type_: str) -> Any:
    """Return the line of a record whose numbers need no naming."""
    keys = (
        "kind",
        "networks_measured",
        "variant",
        "met",
        "ratio",
        "accuracy_test",
        "images",
        "seconds",
        "reason",
        "detail",
    )
    return lambda progress, data: [{"wrote": type_} | {key: data[key] for key in keys if data.get(key) is not None}]


_FIELDS: Mapping[str, Any] = {
    "prepare": _doing,
    "estimator_progress": _doing,
    "training": _doing,
    "start": _start,
    "iteration": _iteration,
    "scored": _scored,
    "proposal": _proposal,
    "step": _step,
} | {name: _end(name) for name in ("estimator", "long_term", "uniform", "final", "stop")}
