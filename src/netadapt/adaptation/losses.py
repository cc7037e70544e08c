"""Losses of untuned networks, for one-shot: of every group cut alone, and of whole networks; all are written down.

`methods.py` hands them to the choosers of `baselines/`. What an interrupted run had found is taken from its journal.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict

from netadapt.adaptation.store import Store
from netadapt.adaptation.tuning import Tuner
from netadapt.baselines.one_shot import LossCurve, loss_curve, sampled_widths
from netadapt.errors import NonFinite
from netadapt.network import Network
from netadapt.network.importance import FilterChoice
from netadapt.proposals import Vector
from netadapt.runs.settings import SearchSection

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
        """Return the loss curves of all groups: measured now, or as the run has written them down."""
        known = self._store.folder.state().loss_curves
        if known is not None:
            return {name: LossCurve(tuple(c["widths"]), tuple(c["losses"])) for name, c in known["curves"].items()}
        began, tuner, groups = time.monotonic(), self._tuner, self._network.groups
        tuner.reset()
        start = tuner.score(self._network.model).loss
        self._filters.prepare(self._network.model)
        curves: dict[str, LossCurve] = {}
        for number, group in enumerate(groups):
            self._store.tell("prepare", {"what": "measuring loss curves", "done": number, "total": len(groups)})
            widths = sampled_widths(group, self._search.multiple, self._search.minimum_width)
            if widths:
                curves[group.name] = loss_curve(group, widths, self._filters, lambda m: tuner.score(m).loss, start)
                tuner.forward_images += len(widths) * tuner.calibration_images
                self._store.tell("loss_curve", {"group": group.name, **asdict(curves[group.name])})
        _, forward_images = tuner.reset()
        self._store.record(
            "loss_curves",
            {
                "curves": {name: asdict(curve) for name, curve in curves.items()},
                "forward_images": forward_images,
                "seconds": time.monotonic() - began,
            },
        )
        return curves

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
        images, tuner.forward_images = tuner.forward_images - before + tuner.calibration_images, before
        told = loss if math.isfinite(loss) else None
        self._store.record("exchange", {"widths": widths.tolist(), "loss": told, "forward_images": images})
        return math.inf if told is None else told
