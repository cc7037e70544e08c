"""What is known of a run while it goes on; `live.py` draws it on a terminal, `plain.py` writes lines elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netadapt.cli.output import on_terminal

if TYPE_CHECKING:
    from netadapt.adaptation.store import Listener

Data = Mapping[str, Any]


@dataclass
class Progress:
    """A run as the listener tells it.

    Attributes:
        resource: the budgeted resource that is shown.
        start, budget, now: of that resource, in its unit; ``None`` before they are known.
        noise: relative half-width of a measurement.
        accuracy: of the last step, on the selection split; ``start_accuracy`` of the original.
        metric: what the task calls it, in a few letters.
        iteration: that is going on; 0 before the search.
        proposals: of this iteration: name and a word on how it is.
        widths: of the original.
        doing: one sentence, and how far it is: done and total, total 0 where not known.
    """

    resource: str = "latency"
    start: float | None = None
    budget: float | None = None
    now: float | None = None
    noise: float | None = None
    accuracy: float | None = None
    start_accuracy: float | None = None
    metric: str = "acc"
    iteration: int = 0
    proposals: dict[str, str] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    doing: str = "preparing"
    done: float = 0
    total: float = 0
    began: float = field(default_factory=time.monotonic)
    _search: tuple[float, float] | None = None

    def take(self, type_: str, data: Data) -> None:
        """Take in a journal record, or what is told beside the journal."""
        handler = getattr(self, f"_{type_}", None)
        if handler is not None:
            handler(data)

    @property
    def share(self) -> float:
        """How much of the way from the start to the budget is done, 0..1."""
        if self.start is None or self.budget is None or self.now is None or self.start <= self.budget:
            return 0.0
        return min(1.0, max(0.0, (self.start - self.now) / (self.start - self.budget)))

    def left_s(self) -> float | None:
        """Return the seconds that the search still takes at the pace so far, if there is a pace."""
        if self._search is None or self.share <= self._search[1]:
            return None
        began, share = self._search
        return (time.monotonic() - began) * (1 - self.share) / (self.share - share)

    def _does(self, what: str, done: float = 0, total: float = 0) -> None:
        self.doing, self.done, self.total = what, done, total

    def _prepare(self, data: Data) -> None:
        self._does(str(data["what"]), data.get("done") or 0, data.get("total") or 0)

    def _estimator_progress(self, data: Data) -> None:
        self._does("measuring networks for the estimator", data["done"], data["total"])

    def _training(self, data: Data) -> None:
        names = {"start": "fine-tune of the original", "uniform": "fine-tune of the uniform network"}
        key = str(data["key"])
        self._does(
            names.get(key, f"long-term fine-tune of {key.removeprefix('long-')}"), data["images"], data["total"] or 0
        )

    def _start(self, data: Data) -> None:
        self.resource = "latency" if "latency" in data["budget"] else next(iter(data["budget"]))
        self.budget = data["budget"][self.resource]
        initial = data["initial"]
        self.start = self.now = initial["resources"][self.resource]
        self.start_accuracy = self.accuracy = initial.get("accuracy_selection")
        name = data.get("metric") or "accuracy"
        self.metric = "acc" if name == "accuracy" else re.sub(r"\W+", "_", str(name))[:8]
        self.noise = (data.get("noise") or {}).get("relative")
        self.widths = {group["name"]: group["width"] for group in data.get("groups", ())}

    def _iteration(self, data: Data) -> None:
        self.iteration = data["iteration"]
        self.proposals = {"+".join(p["groups"]): "waits" for p in data.get("proposals", ())}
        self._search = self._search or (time.monotonic(), self.share)
        self._does("search")

    def _scored(self, data: Data) -> None:
        self.iteration = data["iteration"]  # a run that is taken up in mid-iteration does not announce it again
        self._does("search")
        self.proposals[data["group"]] = f"loss {data['loss']:.3f}"

    def _proposal(self, data: Data) -> None:
        self.proposals[data["group"]] = "failed" if data["failed"] else f"{100 * data['score']['metric']:.1f} %"

    def _step(self, data: Data) -> None:
        self.iteration, self.accuracy = data["iteration"], data["accuracy"]
        self.now = data["measured"][self.resource]
        self.proposals = {}


@contextmanager
def shown(folder: Path) -> Iterator[Listener]:
    """Show a run: live on a terminal, one line per proposal elsewhere.

    Args:
        folder: of the run; what is in it already is shown as done.
    """
    from netadapt.cli.live import live
    from netadapt.cli.plain import plain

    with (live if on_terminal() else plain)(_so_far(folder)) as listener:
        yield listener


def _so_far(folder: Path) -> Progress:
    """Return the progress of a run that is taken up again."""
    from netadapt.runs.journal import NAME
    from netadapt.runs.state import read_state

    progress = Progress()
    if (folder / NAME).is_file():
        state = read_state(folder)
        for type_, records in (("start", [state.start] if state.start else []), ("step", state.steps)):
            for data in records:
                progress.take(type_, data)
    return progress
