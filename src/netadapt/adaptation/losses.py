"""Losses of untuned networks, for one-shot: of every group cut alone, and of whole networks; all are written down.

`methods.py` hands them to the choosers of `baselines/`. What an interrupted run had found is taken from its journal,
curves of groups also from other runs of the same network (`kept_curves.py`).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict

from torch import nn

from netadapt.adaptation.kept_curves import KeptCurve, KeptCurves
from netadapt.adaptation.store import Store
from netadapt.adaptation.tuning import Tuner
from netadapt.baselines.one_shot import LossCurve, loss_curve, sampled_widths
from netadapt.errors import NonFinite
from netadapt.network import Network
from netadapt.network.importance import FilterChoice
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import Vector
from netadapt.runs.settings import SearchSection
from netadapt.scores import Score

log = logging.getLogger("netadapt")
#: progress is told after so many whole networks
_TOLD_AFTER = 8


class UntunedLosses:
    """Cuts the original network, scores what is left on the selection split, trains nothing.

    Args:
        search: widths that groups may have.
        network: the original.
        filters: the run's ChooseWhichFilters, prepared with the original.
        tuner: scores networks.
        store: keeps the losses.
    """

    def __init__(
        self, search: SearchSection, network: Network, filters: FilterChoice, tuner: Tuner, store: Store
    ) -> None:
        self._search = search
        self._network = network
        self._filters = filters
        self._tuner = tuner
        self._store = store
        found = store.folder.state().exchanges
        self._before = {tuple(r["widths"]): math.inf if r["loss"] is None else float(r["loss"]) for r in found}

    def curves(self) -> dict[str, LossCurve]:
        """Return the loss curves of all groups: measured now, or as this run or an earlier one has written them down.

        What an earlier run had measured counts in this one's images and seconds too: they tell what the curves cost.
        """
        known = self._store.folder.state().loss_curves
        if known is not None:
            return {name: LossCurve.read(curve) for name, curve in known["curves"].items()}
        began, groups = time.monotonic(), self._network.groups
        self._tuner.reset()
        start = self._score_part(self._network.model)
        self._filters.prepare(self._network.model)
        # by norm a task that the network's inputs cannot be read off works too
        inputs = self._tuner.calibration_inputs() if self._search.filters == "refit" else None
        part = None if self._tuner.partly is None else self._search.curve_images
        kept = KeptCurves(self._network, inputs, self._search.calibration_images, start, part)
        found: dict[str, KeptCurve] = {}
        before_s = 0.0
        for number, group in enumerate(groups):
            self._store.tell("prepare", {"what": "measuring loss curves", "done": number, "total": len(groups)})
            widths = sampled_widths(group, self._search.multiple, self._search.minimum_width)
            if not widths:
                continue
            curve = kept.find(group.name, widths)
            if curve is None:
                curve = self._curve(group, widths, start.loss)
                kept.add(group.name, widths, curve)
                # where a run may be stopped: this curve is safe
                self._store.tell("loss_curve", {"group": group.name, **asdict(curve.curve)})
            else:
                before_s += curve.seconds
            found[group.name] = curve
        _, forward_images = self._tuner.reset()
        self._store.record(
            "loss_curves",
            {
                "curves": {name: asdict(each.curve) for name, each in found.items()},
                "forward_images": forward_images + sum(each.forward_images for each in found.values()),
                "seconds": time.monotonic() - began + before_s,
            },
        )
        return {name: each.curve for name, each in found.items()}

    def _curve(self, group: ChannelGroup, widths: Sequence[int], start: float) -> KeptCurve:
        """Measure the curve of a group; its images are counted in what is returned, not by the tuner."""
        began, tuner = time.monotonic(), self._tuner
        before = tuner.forward_images
        curve = loss_curve(group, widths, self._filters, lambda model: self._score_part(model).loss, start)
        images, tuner.forward_images = tuner.forward_images - before, before
        return KeptCurve(curve, images, time.monotonic() - began)

    def _score_part(self, model: nn.Module) -> Score:
        return self._tuner.score_part(model, self._search.curve_images)

    def whole(self, widths: Vector) -> float:
        """Return the loss of the network of some widths ``(groups,)``; ``inf`` where it is not finite."""
        key = tuple(widths.tolist())
        if key not in self._before:
            self._before[key] = self._score(widths)
        return self._before[key]

    def _score(self, widths: Vector) -> float:
        done, before, tuner = len(self._before), self._tuner.forward_images, self._tuner
        if done % _TOLD_AFTER == 0:
            total = max(self._search.exchanges, done + 1)
            self._store.tell("prepare", {"what": "scoring whole networks", "done": done, "total": total})
        pairs = zip(self._network.groups, widths.tolist(), strict=True)
        try:
            kept = {g.name: self._filters.choose(g.name, width) for g, width in pairs if width < g.width}
            loss = tuner.score(self._filters.apply(kept)).loss
        except NonFinite as error:
            log.warning("a network whose loss is not finite is left out: %s", error)
            loss = math.inf
        images, tuner.forward_images = tuner.forward_images - before, before
        told = loss if math.isfinite(loss) else None
        self._store.record("exchange", {"widths": widths.tolist(), "loss": told, "forward_images": images})
        return math.inf if told is None else told
