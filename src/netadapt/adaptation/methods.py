"""What the methods of ``[search] method`` differ in: who chooses widths and weights. All else of a run is shared.

`adaptation.py` calls it once per run, after the start network is prepared and the estimators are fitted.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict

from netadapt.adaptation.metering import Metering
from netadapt.adaptation.store import Store
from netadapt.adaptation.tuning import Tuner, recipe_of
from netadapt.baselines.exchange import ExchangeChooser
from netadapt.baselines.one_shot import LossCurve, OneShotChooser, loss_curve, sampled_widths
from netadapt.baselines.remeasured import Remeasured
from netadapt.baselines.uniform import UniformChooser
from netadapt.errors import NonFinite
from netadapt.network import Network
from netadapt.network.fresh import FreshWeights
from netadapt.network.importance import FilterChoice, LargestNorm
from netadapt.network.refit import LeastSquaresRefit
from netadapt.proposals import Chooser, NumFilters, Vector
from netadapt.runs.settings import RunConfig, SearchSection
from netadapt.training.loop import Recipe

log = logging.getLogger("netadapt")


def search_of(config: RunConfig) -> SearchSection:
    """Return the ``[search]`` settings as the method obeys them: all but ``netadapt`` go to the budget in one step."""
    if config.search.method == "netadapt":
        return config.search
    one_step = {"first_step": "100%", "decay": 1.0, "mode": "fast", "contenders": 1}
    return config.search.model_copy(update=one_step)


def short_term(config: RunConfig) -> Recipe | None:
    """Return the recipe of the short-term fine-tune; only ``netadapt`` builds a step on the weights of the last."""
    return recipe_of(config.training.short_term) if config.search.method == "netadapt" else None


def num_filters(
    search: SearchSection,
    seed: int,
    network: Network,
    metering: Metering,
    resources: Sequence[str],
    filters: FilterChoice,
    tuner: Tuner,
    store: Store,
) -> NumFilters:
    """Return the ChooseNumFilters of the run's method.

    Args:
        search: as the method obeys it.
        seed: of the run.
        network: the original.
        metering: measures, and has the estimators.
        resources: the budgeted ones.
        filters: the run's ChooseWhichFilters.
        tuner: scores networks.
        store: keeps the loss curves.
    """
    groups = network.groups
    estimators = {name: metering.estimators[name] for name in resources}
    multiple, minimum = search.multiple, search.minimum_width
    if search.method == "netadapt":
        sigmas = 1.0 if search.groups_per_step == 1 else 0.0
        return Chooser(groups, estimators, multiple=multiple, minimum=minimum, sigmas=sigmas)
    chooser: NumFilters
    if search.method == "one-shot":
        curves = _loss_curves(search, network, filters, tuner, store)
        chooser = OneShotChooser(groups, estimators, curves, multiple=multiple, minimum=minimum, seed=seed)
        if search.exchanges:
            filters.prepare(network.model)
            chooser = ExchangeChooser(
                chooser,
                groups,
                estimators,
                lambda widths: _score(widths, search, network, filters, tuner, store),
                networks=search.exchanges,
                multiple=multiple,
                minimum=minimum,
                seed=seed,
                known=_scored_before(store),
            )
    else:
        chooser = UniformChooser(groups, estimators, multiple=multiple, minimum=minimum)
    return Remeasured(chooser, lambda widths: metering.measure_widths(network.vector(widths)[None])[0], network.widths)


def filter_choice(config: RunConfig, network: Network, tuner: Tuner) -> FilterChoice:
    """Return the run's ChooseWhichFilters.

    Args:
        config: of the run.
        network: the original.
        tuner: has the calibration images.
    """
    if config.search.method == "from-scratch":
        return FreshWeights(network, seed=config.run.seed)
    if config.search.filters == "norm":
        return LargestNorm(network, tuner.refresh)
    images = config.search.calibration_images
    return LeastSquaresRefit(network, network.model, tuner.calibration_inputs(), images=images)


def _score(
    widths: Vector, search: SearchSection, network: Network, filters: FilterChoice, tuner: Tuner, store: Store
) -> float:
    """Return the loss of the network of some widths, cut from the original and untuned; write it down."""
    done, before = len(store.folder.state().exchanges), tuner.forward_images
    what = "scoring networks of the same cost"
    store.tell("prepare", {"what": what, "done": done, "total": max(search.exchanges, done + 1)})
    pairs = zip(network.groups, widths.tolist(), strict=True)
    try:
        kept = {g.name: filters.choose(g.name, width) for g, width in pairs if width < g.width}
        loss = tuner.score(filters.apply(kept)).loss
    except NonFinite as error:
        log.warning("a network whose loss is not finite is left out: %s", error)
        loss = math.inf
    images, tuner.forward_images = tuner.forward_images - before + tuner.calibration_images, before
    known = loss if math.isfinite(loss) else None
    store.record("exchange", {"widths": widths.tolist(), "loss": known, "forward_images": images})
    return math.inf if known is None else known


def _scored_before(store: Store) -> dict[tuple[int, ...], float]:
    """Return the losses that an interrupted run had written down."""
    records = store.folder.state().exchanges
    return {tuple(r["widths"]): math.inf if r["loss"] is None else r["loss"] for r in records}


def _loss_curves(
    search: SearchSection, network: Network, filters: FilterChoice, tuner: Tuner, store: Store
) -> dict[str, LossCurve]:
    """Measure the loss curves of all groups, or take those that the run has written down."""
    known = store.folder.state().loss_curves
    if known is not None:
        return {name: LossCurve(tuple(c["widths"]), tuple(c["losses"])) for name, c in known["curves"].items()}
    began = time.monotonic()
    tuner.reset()
    start = tuner.score(network.model).loss
    filters.prepare(network.model)
    curves: dict[str, LossCurve] = {}
    for number, group in enumerate(network.groups):
        store.tell("prepare", {"what": "measuring loss curves", "done": number, "total": len(network.groups)})
        widths = sampled_widths(group, search.multiple, search.minimum_width)
        if widths:
            curves[group.name] = loss_curve(group, widths, filters, lambda m: tuner.score(m).loss, start)
            tuner.forward_images += len(widths) * tuner.calibration_images
            store.tell("loss_curve", {"group": group.name, **asdict(curves[group.name])})
    _, forward_images = tuner.reset()
    store.record(
        "loss_curves",
        {
            "curves": {name: asdict(curve) for name, curve in curves.items()},
            "forward_images": forward_images,
            "seconds": time.monotonic() - began,
        },
    )
    return curves
