"""From a configuration to the objects of a run: the model, its structure after preparation, the task.

`adaptation.py` calls it before anything is measured; the commands that load a variant need the structure alone.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from netadapt.adaptation.tuning import recipe_of
from netadapt.budget import UNITS, Budget
from netadapt.errors import BudgetError, ConfigError, did_you_mean
from netadapt.models import resolve_model
from netadapt.network.batch_norm import unfold_batch_norm
from netadapt.network.fresh import check_trainable
from netadapt.runs.config import make_config
from netadapt.runs.settings import (
    TRACING,
    MeasureSection,
    ReportSection,
    RunConfig,
    RunSection,
    SearchSection,
    Section,
    TrainingSection,
)
from netadapt.scores import Score
from netadapt.training.datasets import resolve_task
from netadapt.training.prepare import check_fit, prepare, replace_head
from netadapt.training.task import Task

log = logging.getLogger("netadapt")

#: source of the model and the task of a run that was started from Python; no command can rebuild these
FROM_PYTHON = "python:"
#: so much better on the selection split than on test is a network that has been trained on the former
_SUSPICIOUS_GAP = 0.05

_SECTIONS: Mapping[str, type[Section]] = {
    "search": SearchSection,
    "training": TrainingSection,
    "measure": MeasureSection,
    "report": ReportSection,
    "run": RunSection,
}


def python_config(
    model: str,
    task: str,
    budget: str | Budget | Mapping[str, str],
    platform: str,
    folder: Path,
    given: Mapping[str, Any],
) -> RunConfig:
    """Return the configuration of a run that is started from Python.

    Args:
        model: its class name, for the record.
        task: its class name, for the record.
        budget: as of `netadapt.adapt`.
        platform: as of `netadapt.adapt`.
        folder: the run folder.
        given: keys of any of the sections search, training, measure, report and run; ``keep``, ``exact``
            and ``blocks``.

    Raises:
        ConfigError: an unknown key or a wrong value.
        BudgetError: the budget cannot be read.
    """
    data: dict[str, Any] = {
        "model": {"source": FROM_PYTHON + model},
        "platform": {"name": platform},
        "budget": _budget_table(budget),
        "task": {"source": FROM_PYTHON + task},
        "run": {"folder": str(folder)},
    }
    homes = {key: section for section, fields in _SECTIONS.items() for key in fields.model_fields}
    homes |= dict.fromkeys(TRACING, "model")
    for key, value in given.items():
        if key not in homes:
            raise ConfigError(f'unknown argument "{key}"{did_you_mean(key, list(homes))}; known: {", ".join(homes)}.')
        data.setdefault(homes[key], {})[key] = value
    return make_config(data, where="the call of netadapt.adapt")


def _budget_table(budget: str | Budget | Mapping[str, str]) -> dict[str, str]:
    """Return the ``[budget]`` table; a text that is no quantity is the name of a MODEL."""
    if isinstance(budget, Mapping):
        return dict(budget)
    try:
        limits = Budget.parse(budget).limits
    except BudgetError:
        if isinstance(budget, str) and not budget.strip()[:1].isdigit() and (":" in budget or "?" in budget):
            return {"latency_of": budget}
        raise
    return {
        limit.resource: f"{100 * limit.value!r}%" if limit.relative else f"{limit.value!r} {UNITS[limit.resource]}"
        for limit in limits
    }


def build_model(config: RunConfig) -> tuple[nn.Module, Any]:
    """Return the model that ``[model]`` names, as loaded, and its example inputs."""
    return resolve_model(config.model.source)


def build_task(config: RunConfig, example_inputs: Any) -> Task:
    """Return the task that ``[task]`` describes; the images get the size that the network expects."""
    options = config.task.model_dump(exclude={"source"})
    if options["resolution"] is None and hasattr(example_inputs, "shape") and example_inputs.ndim == 4:
        options["resolution"] = int(example_inputs.shape[-1])
    return resolve_task(config.task.source, **options)


def structure_of(config: RunConfig, model: nn.Module, example_inputs: Any, task: Task | None) -> nn.Module:
    """Return a copy of ``model`` with the modules that preparation gives it, before any of its training.

    Widths, latency and the shape of all weights follow from it; weights are filled in later.

    Args:
        config: says whether the classifier is replaced and the batch norms are un-folded.
        model: as loaded.
        example_inputs: for it.
        task: checked against the network, if given.

    Raises:
        DataError: the task's images or classes do not fit the network.
        ConfigError: it is to be trained from scratch, and cannot be.
    """
    classes = config.model.classes
    start = copy.deepcopy(model) if classes is None else replace_head(model, classes, config.run.seed)
    if task is not None:
        check_fit(start, example_inputs, task)
    if config.model.unfold_batch_norm:
        start = unfold_batch_norm(start, [example_inputs])
    if task is not None and config.from_scratch:
        check_trainable(start)
    return start.eval()


def start_network(
    config: RunConfig,
    model: nn.Module,
    example_inputs: Any,
    task: Task,
    checkpoint: Path,
    progress: Callable[[int, float], None] | None,
    should_stop: Callable[[], bool],
) -> nn.Module:
    """Return the network that the search starts from: classifier fitted, norms un-folded, first fine-tune done."""
    section = config.model
    first_tune = None if section.first_tune is None else recipe_of(section.first_tune)
    return prepare(
        model,
        example_inputs,
        task,
        classes=section.classes,
        unfold=section.unfold_batch_norm,
        first_tune=first_tune,
        seed=config.run.seed,
        progress=progress,
        should_stop=should_stop,
        checkpoint=checkpoint,
    )


def warn_if_seen(selection: Score, test: Score) -> None:
    """Warn of a selection split that the start network has been trained on; nobody is forced to have other images.

    Args:
        selection: of the start network.
        test: of the same network.
    """
    errors = [score.error for score in (selection, test)]
    known = [error for error in errors if error is not None]
    # what may be chance is not told
    if len(known) == len(errors) and selection.metric - test.metric > max(_SUSPICIOUS_GAP, 3 * math.hypot(*known)):
        log.warning(
            "the start network reaches %.1f %% (%s) on the selection split and %.1f %% on test: it has probably been "
            "trained on those images, and cuts look better on them than they are; if you have images that it has not "
            "seen, train and select on those, otherwise a larger selection split helps (for one-shot with as many "
            "curve_images)",
            100 * selection.metric,
            selection.name,
            100 * test.metric,
        )
