"""What the methods of ``[search] method`` differ in: who chooses widths and weights. All else of a run is shared.

`adaptation.py` calls it once per run, after the start network is prepared and the estimators are fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

from netadapt.adaptation.losses import UntunedLosses
from netadapt.adaptation.metering import Metering
from netadapt.adaptation.store import Store
from netadapt.adaptation.tuning import Tuner, recipe_of
from netadapt.baselines.exchange import ExchangeChooser
from netadapt.baselines.one_shot import OneShotChooser
from netadapt.baselines.remeasured import Remeasured
from netadapt.baselines.uniform import UniformChooser
from netadapt.network import Network
from netadapt.network.fresh import FreshWeights
from netadapt.network.importance import FilterChoice, LargestNorm
from netadapt.network.refit import LeastSquaresRefit
from netadapt.proposals import Chooser, NumFilters
from netadapt.runs.settings import RunConfig, SearchSection
from netadapt.training.loop import Recipe


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
        losses = UntunedLosses(search, network, filters, tuner, store)
        first = OneShotChooser(groups, estimators, losses.curves(), multiple=multiple, minimum=minimum, seed=seed)
        chooser = first
        if search.exchanges:
            chooser = ExchangeChooser(first, groups, estimators, losses.whole, networks=search.exchanges, seed=seed)
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
    return LeastSquaresRefit(network, network.model, tuner.calibration_inputs(), images=images, saw=tuner.saw)
