"""How long a run with default settings takes, from the schedule and from speeds measured here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from netadapt.adaptation.limits import excess_noise, schedules
from netadapt.adaptation.metering import Metering
from netadapt.budget import Budget
from netadapt.check.costs import Taken
from netadapt.check.speed import Speed
from netadapt.network.norm_shift import SHIFT_IMAGES
from netadapt.resources.build import usual_networks
from netadapt.resources.rounds import RoundsProtocol
from netadapt.resources.yardsticks import yardsticks
from netadapt.runs.settings import LongTerm, SearchSection, ShortTerm
from netadapt.training.task import Task

#: images per class of the selection split, by default (paper: 10)
_PER_CLASS = 10


@dataclass(frozen=True)
class Forecast:
    """The time that a run takes, in its parts.

    Attributes:
        budget: that it is for.
        iterations: of the search.
        proposals: per iteration, at most.
        tuned: proposals per iteration that are short-term fine-tuned.
        estimator_s: to measure the networks that the estimator is fitted to.
        iteration_s: of one iteration on average; networks become faster as they shrink.
        search_s: of all iterations.
        long_term_s: of one long-term fine-tune; ``None`` where the number of training images is not known.
        total_s: all of it, with the uniform network that the report compares to; ``None`` likewise.
        selection_images: of the split that decides; the default 10 per output where no task says.
        forward_images_per_s, training_images_per_s: what was measured here.
    """

    budget: str
    iterations: int
    proposals: int
    tuned: int
    estimator_s: float
    iteration_s: float
    search_s: float
    long_term_s: float | None
    total_s: float | None
    selection_images: int
    forward_images_per_s: float
    training_images_per_s: float


def forecast(
    metering: Metering, search: SearchSection, budget: str, taken: Taken, speed: Speed, task: Task | None
) -> Forecast:
    """Foretell a run.

    Args:
        metering: knows what the original costs and the noise.
        search: the settings.
        budget: e.g. ``50%``.
        taken: tells the seconds of a session and of a compilation.
        speed: of this machine.
        task: tells the number of images.

    Raises:
        BudgetError: the original meets the budget, or the platform does not measure that resource.
    """
    initial = {**metering.meter.initial, **metering.counted(metering.network.widths)}
    limits = Budget.parse(budget).resolve(initial)
    metering.measure_longer(excess_noise(search, metering, limits, initial))
    planned = schedules(search, metering, limits, initial)
    iterations = max(planned[name].iterations(initial[name] - limit) for name, limit in limits.items())
    # networks shrink steadily from the start to the budget: on average they cost the mean of both
    share = max((1 + limit / initial[name]) / 2 for name, limit in limits.items())
    iteration_s = _iteration(metering, search, taken, speed, task, share)
    networks = search.networks or usual_networks(metering.meter.platform)
    estimator_s = networks * (taken.compile_s + _rounds(metering) * taken.session_s)
    images = getattr(task, "train_images", None)
    share_at_end = max(limit / initial[name] for name, limit in limits.items())
    long_term_s = None if images is None else (LongTerm().epochs or 0) * images * share_at_end / speed.training
    search_s = iterations * iteration_s
    return Forecast(
        budget=budget,
        iterations=iterations,
        proposals=len(metering.network.groups),
        tuned=min(search.contenders, len(metering.network.groups)),
        estimator_s=estimator_s,
        iteration_s=iteration_s,
        search_s=search_s,
        long_term_s=long_term_s,
        total_s=None if long_term_s is None else estimator_s + search_s + 2 * long_term_s,
        selection_images=_selection_images(speed, task),
        forward_images_per_s=speed.forward,
        training_images_per_s=speed.training,
    )


def _rounds(metering: Metering) -> int:
    """Return how many rounds the estimator's networks will take in an hour as noisy as this one."""
    protocol = RoundsProtocol()
    wanted = math.ceil(metering.protocol.sessions * (metering.noise.get("latency", 0.0) / protocol.half_width) ** 2)
    return max(protocol.rounds, min(wanted, protocol.most))


def _iteration(
    metering: Metering, search: SearchSection, taken: Taken, speed: Speed, task: Task | None, share: float
) -> float:
    """Return the seconds of an average iteration in fast mode: score every proposal, tune the contenders, measure."""
    groups = len(metering.network.groups)
    contenders = min(search.contenders, groups)
    selection = _selection_images(speed, task)
    refreshed = search.calibration_images
    if search.filters == "refit":
        refreshed = min(SHIFT_IMAGES, refreshed)
    forward_images = search.calibration_images + groups * (refreshed + selection) + contenders * selection
    training_images = contenders * (ShortTerm().images or 0)
    computing = forward_images / speed.forward + training_images / speed.training + groups * speed.refit_s
    tracks = 1 + len(yardsticks(metering.network))
    return share * computing + taken.compile_s + tracks * metering.protocol.sessions * taken.session_s


def _selection_images(speed: Speed, task: Task | None) -> int:
    """Return the images of the selection split: the task's, or those that the default settings would carve out."""
    indices = getattr(task, "selection_indices", None)
    return len(indices) if indices is not None else _PER_CLASS * speed.outputs
