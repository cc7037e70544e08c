"""The end of a run: long-term fine-tune, the uniform network of the same cost, the final measurement.

`adaptation.py` calls it once the budget is met; the long-term fine-tune of any other variant is `tune_variant`'s.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
from torch import nn

from netadapt.adaptation.limits import TOO_NOISY
from netadapt.adaptation.metering import Metering
from netadapt.adaptation.store import Store
from netadapt.adaptation.tuning import Tuner, derived_seed, recipe_of
from netadapt.baselines.uniform import uniform_widths, widest_within
from netadapt.network import Network
from netadapt.network.fresh import draw_weights
from netadapt.network.importance import FilterChoice
from netadapt.platforms import Measurement
from netadapt.runs.settings import RunConfig
from netadapt.scores import Score
from netadapt.training.task import Task

log = logging.getLogger("netadapt")

UNIFORM = "uniform"
#: uniform networks next to the estimated one, wider and narrower, that are measured before one of them is taken
_WIDER, _NARROWER = 2, 6


def long_term(store: Store, tuner: Tuner, config: RunConfig, variant: str, model: nn.Module) -> tuple[nn.Module, Score]:
    """LongTermFineTune: train a copy of ``model`` on training and selection split, read the test split, keep both.

    With ``[training.long_term] from_scratch`` the copy keeps nothing of ``model`` but its widths.

    Args:
        store: journal and files.
        tuner: of the run.
        config: of the run.
        variant: name of the variant whose network ``model`` is.
        model: left as it is.

    Returns:
        The tuned network and its score on the test split.
    """
    began = time.monotonic()
    tuned, images = _train_long(store, tuner, config, f"long-{variant}", model)
    score = tuner.score(tuned, "test")
    folder = store.keep_variant(variant, tuned, None, tuned=True)
    record = {"variant": variant, "accuracy_selection": None, "accuracy_test": score.metric, "loss_test": score.loss}
    record |= {"accuracy_se": score.error, "images": images, "folder": folder}
    store.record("long_term", record | {"seconds": time.monotonic() - began})
    return tuned, score


def _train_long(store: Store, tuner: Tuner, config: RunConfig, key: str, model: nn.Module) -> tuple[nn.Module, int]:
    """Return a long-term fine-tuned copy of ``model`` and the images it took; epochs are kept for a resume."""
    tuned = copy.deepcopy(model)
    recipe = recipe_of(config.training.long_term)
    if recipe is None:
        return tuned, 0
    if config.training.long_term.from_scratch:
        draw_weights(tuned, derived_seed(config.run.seed, f"{key}-weights"))
    checkpoint = store.checkpoint(key)
    task = with_selection(tuner.task)
    total = recipe.total_images(task)
    images = tuner.tune(
        tuned,
        recipe,
        key,
        task=task,
        checkpoint=checkpoint,
        progress=lambda done, loss: store.tell("training", {"key": key, "images": done, "total": total, "loss": loss}),
    )
    return tuned, images


def with_selection(task: Task) -> Task:
    """Return the task with its selection split added to the training data, where the task can do that."""
    extended = getattr(task, "with_selection", None)
    return task if extended is None else extended()


def uniform(
    network: Network,
    store: Store,
    tuner: Tuner,
    metering: Metering,
    filters: FilterChoice,
    config: RunConfig,
    widths_of_final: Mapping[str, int],
    resources: Sequence[str],
) -> nn.Module | None:
    """Build and tune the uniformly narrower network that costs as much as the final one.

    Same start weights (or none, if trained from scratch), same choice of filters, same long-term fine-tune; only the
    widths differ.

    Args:
        network: the original.
        store: journal and files.
        tuner: of the run.
        metering: of the run.
        filters: the run's ChooseWhichFilters.
        config: of the run.
        widths_of_final: of the network to be compared with.
        resources: the budgeted ones; in none of them may the uniform network cost more.

    Returns:
        The tuned network; ``None`` if no uniform network is as small as that.
    """
    widths = _uniform_of(network, metering, config, widths_of_final, resources)
    if widths is None:
        log.warning("no uniformly narrower network costs as little as the final one: the report has no comparison")
        return None
    began = time.monotonic()
    filters.prepare(network.model)
    kept = {group: filters.choose(group, width) for group, width in widths.items()}
    model = filters.apply(kept)
    before = tuner.score(model)
    tuned, images = _train_long(store, tuner, config, UNIFORM, model)
    score = tuner.score(tuned, "test")
    measurement, measured = metering.measure(tuned, widths)
    folder = store.keep_variant(UNIFORM, tuned, measurement, tuned=True)
    store.record(
        "uniform",
        {
            "widths": dict(widths),
            "measured": measured,
            "measurement": asdict(measurement),
            "accuracy_selection": before.metric,
            "accuracy_test": score.metric,
            "accuracy_se": score.error,
            "images": images,
            "seconds": time.monotonic() - began,
            "folder": folder,
        },
    )
    return tuned


def _uniform_of(
    network: Network,
    metering: Metering,
    config: RunConfig,
    widths_of_final: Mapping[str, int],
    resources: Sequence[str],
) -> dict[str, int] | None:
    """Return the widest uniform network that costs no more, by estimate first, then measured beside the final one."""
    search, final_vector = config.search, network.vector(widths_of_final)
    candidates = uniform_widths(network.groups, multiple=search.multiple, minimum=search.minimum_width)
    row = 0
    for resource in resources:
        estimator = metering.estimators[resource]
        limit = float(estimator.estimate(final_vector[None])[0][0])
        found = widest_within(candidates, estimator, limit)
        if found is None:
            return None
        row = max(row, int(np.flatnonzero((candidates == found).all(axis=1))[0]))
    near = candidates[max(0, row - _WIDER) : row + _NARROWER + 1]
    *measured, cost = metering.measure_widths(np.concatenate([near, final_vector[None]]))
    within = [v for v, values in zip(near, measured, strict=True) if all(values[r] <= cost[r] for r in resources)]
    return network.mapping(within[0]) if within else None


def final(
    store: Store, metering: Metering, tuned: nn.Module, variant: str, score: Score, budget: Mapping[str, float]
) -> Measurement:
    """Measure the trained file afresh, interleaved with the original, and say whether the budget is met.

    The budget counts as met when no measured median is above it by more than the half-width of its interval; an
    interval that wide that it says nothing excuses nothing.
    """
    widths = metering.network.widths_of(tuned)
    measurement, resources = metering.measure(tuned, widths)
    excused = {name: noise for name, noise in measurement.relative_half_widths.items() if noise < TOO_NOISY}
    met = all(resources[name] * (1 - excused.get(name, 0.0)) <= limit for name, limit in budget.items())
    initial = metering.meter.initial
    ratio = resources["latency"] / initial["latency"] if "latency" in resources else None
    store.record(
        "final",
        {
            "variant": variant,
            "met": met,
            "ratio": ratio,
            "ratio_half_width": ratio and ratio * measurement.relative_half_width,
            "measured": resources,
            "measurement": asdict(measurement),
            "accuracy_test": score.metric,
            "accuracy_se": score.error,
        },
    )
    return measurement
