"""The state of a run: a pure fold of its journal, and nothing else.

`adaptation/` writes the records; `status.py`, `family/` and `report/` read this. The types and their data:

    start      config_sha, seed, model, method, platform, budget{resource: limit}, metric (its name; figures of it are
               called accuracy whatever it is), initial{resources, measurement, yardsticks_ms,
               accuracy_selection, accuracy_test, macs, parameters}, groups[{name, width, layers}],
               pinned[{layer, reason, where}], pinned_share (of the MACs),
               noise{half_width_ms, relative, of_a_step (latency), of_a_step_by_resource, sessions (per measurement)},
               floor{resource: value}
    estimator  kind, networks_measured, seconds, loo_error
    loss_curves  curves{group: {widths, losses}}, forward_images, seconds                        (method one-shot)
    exchange   widths[of all groups], loss (null: not finite), forward_images: a network scored untuned   (one-shot)
    iteration  iteration, constraint{resource: value}
    proposal   key, iteration, group, widths, kept_changed, estimated, sigma, score{metric, loss, tuned}, images,
               seconds, weights, failed
    step       iteration, group, widths, estimated, measured, measurement, accuracy, loss, variant,
               training_images, forward_images, seconds           (images and seconds of the whole iteration)
    long_term  variant, accuracy_selection, accuracy_test, images, seconds, folder
    uniform    widths, measured, measurement, accuracy_test, accuracy_se, images
    final      variant, met, ratio, ratio_half_width, measurement, initial_measurement, accuracy_test
    stop       reason, detail

Unknown types are skipped, so that a later netadapt may add some. A record that is written again replaces the older;
exchanges add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netadapt.errors import RunDamaged
from netadapt.runs.journal import NAME, Record, read_records

Data = Mapping[str, Any]

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "start": ("budget", "initial"),
    "exchange": ("widths", "loss"),
    "proposal": ("key", "iteration"),
    "step": ("iteration", "variant", "widths", "measured"),
    "long_term": ("variant",),
    "final": ("variant",),
}


@dataclass(frozen=True)
class State:
    """What a journal tells.

    Attributes:
        start: the record that opens the run; ``None`` before it.
        estimator: the estimator that was fitted last.
        loss_curves: what cutting each group alone costs, if the method asks for it.
        exchanges: networks that were scored untuned to find better widths, in order.
        proposals: finished proposals by key, in order.
        steps: the steps in order of their iteration.
        long_terms: long-term fine-tunes by variant.
        uniform: the uniformly narrower network of the same cost.
        final: the verdict over the budget.
        stop: why the run ended.
        began, last: times of the first and the last record, ISO 8601; empty without records.
    """

    start: Data | None = None
    estimator: Data | None = None
    loss_curves: Data | None = None
    exchanges: tuple[Data, ...] = ()
    proposals: Data = field(default_factory=dict)
    steps: tuple[Data, ...] = ()
    long_terms: Data = field(default_factory=dict)
    uniform: Data | None = None
    final: Data | None = None
    stop: Data | None = None
    began: str = ""
    last: str = ""

    @property
    def noise(self) -> dict[str, float]:
        """Relative half-width of a measurement as the run takes it, by measured resource."""
        told = (self.start or {})["noise"]
        # older runs have one figure, which they took for that of all resources
        found: Mapping[str, float] | float = told.get("of_a_step_by_resource", told["of_a_step"])
        return dict(found) if isinstance(found, Mapping) else dict.fromkeys(("latency", "energy", "memory"), found)

    @property
    def training_images(self) -> int:
        """Images that were trained on for the family: proposals and long-term fine-tunes, not the uniform network."""
        return self.search_images + sum(int(tune.get("images") or 0) for tune in self.long_terms.values())

    @property
    def search_images(self) -> int:
        """Images that the proposals were trained on, with those of an iteration that is not finished."""
        return int(self._total("training_images", "images"))

    @property
    def forward_images(self) -> int:
        """Images that were only evaluated or used for statistics and re-fits."""
        before = sum(int(found.get("forward_images") or 0) for found in (self.loss_curves or {}, *self.exchanges))
        return before + int(self._total("forward_images", "forward_images"))

    @property
    def search_seconds(self) -> float:
        """Seconds of the search: estimator, loss curves and iterations, without the long-term fine-tune."""
        before = sum(float((record or {}).get("seconds") or 0) for record in (self.estimator, self.loss_curves))
        return before + self._total("seconds", "seconds")

    def _total(self, of_step: str, of_proposal: str) -> float:
        """Sum over the steps; an iteration without its own figure counts what its proposals say."""
        told = {step["iteration"] for step in self.steps if step.get(of_step) is not None}
        steps = sum(step[of_step] for step in self.steps if step.get(of_step) is not None)
        proposals = (p for p in self.proposals.values() if p["iteration"] not in told)
        return float(steps + sum(proposal.get(of_proposal) or 0 for proposal in proposals))


def fold(records: Iterable[Record]) -> State:
    """Return the state after some records.

    Raises:
        RunDamaged: a record lacks what its type needs.
    """
    last_of: dict[str, Data] = {}
    proposals: dict[str, Data] = {}
    exchanges: list[Data] = []
    steps: dict[int, Data] = {}
    long_terms: dict[str, Data] = {}
    times: list[str] = []
    for record in records:
        _check(record)
        times.append(record.time)
        if record.type != "stop":
            last_of.pop("stop", None)  # the run went on
        if record.type == "proposal":
            proposals[record.data["key"]] = record.data
        elif record.type == "exchange":
            exchanges.append(record.data)
        elif record.type == "step":
            steps[record.data["iteration"]] = record.data
        elif record.type == "long_term":
            long_terms[record.data["variant"]] = record.data
        else:
            last_of[record.type] = record.data
    return State(
        **{name: last_of.get(name) for name in ("start", "estimator", "loss_curves", "uniform", "final", "stop")},
        proposals=proposals,
        exchanges=tuple(exchanges),
        steps=tuple(steps[iteration] for iteration in sorted(steps)),
        long_terms=long_terms,
        began=times[0] if times else "",
        last=times[-1] if times else "",
    )


def read_state(folder: Path) -> State:
    """Return the state of the run in ``folder``; nothing is written, and the run may go on meanwhile.

    Raises:
        RunDamaged: it is no run folder, or its journal cannot be trusted.
    """
    return fold(read_records(Path(folder) / NAME))


def _check(record: Record) -> None:
    """Refuse a record that lacks what every reader relies on."""
    lacking = [key for key in _NEEDED.get(record.type, ()) if key not in record.data]
    if lacking:
        raise RunDamaged(
            f"Journal line {record.seq} ({record.type}) lacks {', '.join(lacking)}: another netadapt wrote it. "
            f"Use the version named in environment.json."
        )
