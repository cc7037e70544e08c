"""The references of a set-up, which are no runs of ours: there is no run folder, but a result like a cell's.

`cells.TUNED_ORIGINAL` is the start network itself after the long-term fine-tune that all other networks of the set-up
get: the right end of every curve in `outcomes.py`. `cells.OWN_WEIGHTS` is a narrower network with weights of its own;
it stands in the plots and is no target: its weights have seen the whole of ImageNet at this very width.
`cells.TORCH_PRUNING` is the peer (`peer.py`). `run_cell.py` calls `reference` for all of them.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from _correct import correct, packed
from cells import NARROW, OWN_WEIGHTS, TORCH_PRUNING, TUNED_ORIGINAL, Cell, Places, all_epochs
from peer import prune_to
from starts import model_text, settings, weights_path
from torch import nn

from netadapt.adaptation.finish import with_selection
from netadapt.adaptation.preparation import build_task
from netadapt.adaptation.tuning import Tuner, recipe_of
from netadapt.models import resolve_model
from netadapt.network import trace
from netadapt.platforms import Measurement, StopwatchProtocol, resolve_platform
from netadapt.platforms.stopwatch import measure
from netadapt.runs.settings import RunConfig
from netadapt.training.classification import Classification
from netadapt.training.prepare import prepare

ShouldStop = Callable[[], bool]
#: what Torch-Pruning must leave whole, by set-up: it does not follow a residual stream through padded shortcuts
KEPT_BY_TORCH_PRUNING: Mapping[str, Sequence[str]] = {"resnet56_cifar10": ("conv1", "layer*.conv2")}


def reference(cell: Cell, places: Places, should_stop: ShouldStop) -> dict[str, Any]:
    """Fine-tune and measure the reference of a cell.

    Args:
        cell: of `cells.REFERENCES`; the start network of its set-up is prepared.
        places: where things lie.
        should_stop: asked between batches.

    Returns:
        What `run_cell.result` returns of a run; latencies in ms, ``training_images`` with those of the fine-tune.

    Raises:
        BudgetUnreachable: Torch-Pruning does not get there.
        Interrupted: ``should_stop`` said so; finished epochs are kept.
    """
    setup = places.setup(cell)
    base = settings(setup, cell.seed)
    weights = weights_path(setup, places.starts)
    start, example_inputs = resolve_model(model_text(setup, places.starts))
    task = build_task(base, example_inputs)
    assert isinstance(task, Classification)
    checkpoint = places.starts / f"{cell.name}-of-{weights.stem}.checkpoint"
    tuning = _Tuning(base, start, example_inputs, task, checkpoint, should_stop)
    found = _METHODS[cell.method](cell, tuning)
    told = _told(found, tuning)
    for path in (tuning.checkpoint, tuning.ratio):
        path.unlink(missing_ok=True)
    return told


@dataclass(frozen=True)
class _Tuning:
    """What all references of a set-up are made from.

    Attributes:
        base: configuration of the set-up.
        start: its start network, left as it is.
        example_inputs: of the start network.
        task: of the set-up; the long-term fine-tune has its selection split too.
        checkpoint: where finished epochs are kept.
        should_stop: asked between batches.
    """

    base: RunConfig
    start: nn.Module
    example_inputs: Any
    task: Classification
    checkpoint: Path
    should_stop: ShouldStop

    @property
    def ratio(self) -> Path:
        """Return where the ratio that Torch-Pruning needs is kept."""
        return self.checkpoint.with_suffix(".ratio.json")

    def long_term(self, model: nn.Module, key: str) -> int:
        """Fine-tune a network in place as a run of the set-up does, and return the images it took.

        Args:
            model: to be trained; where the task distils, the start network teaches it.
            key: of the unit of work.
        """
        recipe = recipe_of(self.base.training.long_term)
        if recipe is None:
            return 0
        teacher = copy.deepcopy(self.start).eval() if self.task.distillation > 0 else None
        images = self.base.search.calibration_images
        tuner = Tuner(self.task, teacher, self.base.run.seed, calibration_images=images, should_stop=self.should_stop)
        return tuner.tune(model, recipe, f"long-{key}", task=with_selection(self.task), checkpoint=self.checkpoint)


@dataclass(frozen=True)
class _Reference:
    """A reference that is ready.

    Attributes:
        model: after its fine-tune.
        training_images: that it was trained on, from its start on.
        budget: share of the original's latency, if it was asked for one.
        search_images: of the training images, those before the fine-tune.
        search_seconds: before the fine-tune.
    """

    model: nn.Module
    training_images: int
    budget: float | None = None
    search_images: int = 0
    search_seconds: float = 0.0


def _tuned_original(cell: Cell, tuning: _Tuning) -> _Reference:
    """Return the start network after the long-term fine-tune."""
    tuned = copy.deepcopy(tuning.start)
    return _Reference(tuned, tuning.long_term(tuned, TUNED_ORIGINAL))


def _own_weights(cell: Cell, tuning: _Tuning) -> _Reference:
    """Return a narrower network after as many epochs as start network and long-term fine-tune have together."""
    base, task = tuning.base, tuning.task
    model, example_inputs = resolve_model(NARROW[cell.budget])
    recipe = recipe_of(base.training.long_term)
    assert recipe is not None
    tuned = prepare(
        model,
        example_inputs,
        task.with_selection(),
        classes=base.model.classes,
        unfold=base.model.unfold_batch_norm,
        first_tune=replace(recipe, epochs=all_epochs(base)),
        seed=base.run.seed,
        should_stop=tuning.should_stop,
        checkpoint=tuning.checkpoint,
    )
    return _Reference(tuned, round(all_epochs(base) * len(task.train)))


def _torch_pruning(cell: Cell, tuning: _Tuning) -> _Reference:
    """Return what Torch-Pruning makes of the start network at the budget, after the long-term fine-tune."""
    base = tuning.base
    budget = float(cell.budget.removesuffix("%")) / 100
    found = prune_to(
        budget,
        tuning.start,
        tuning.example_inputs,
        task=tuning.task if cell.method == "torch-pruning-taylor" else None,
        measured=lambda model: _beside(base, tuning.start, model, tuning.example_inputs),
        multiple=base.search.multiple,
        keep=KEPT_BY_TORCH_PRUNING.get(cell.setup, ()),
        seed=cell.seed,
        kept=tuning.ratio,
        should_stop=tuning.should_stop,
    )
    images = tuning.long_term(found.model, cell.method)
    return _Reference(found.model, found.images + images, budget, found.images, found.seconds)


_METHODS: Mapping[str, Callable[[Cell, _Tuning], _Reference]] = {
    TUNED_ORIGINAL: _tuned_original,
    OWN_WEIGHTS: _own_weights,
    **dict.fromkeys(TORCH_PRUNING, _torch_pruning),
}


def _told(found: _Reference, tuning: _Tuning) -> dict[str, Any]:
    """Measure a reference beside the start network and return the content of its result."""
    base, start, example_inputs, task = tuning.base, tuning.start, tuning.example_inputs, tuning.task
    alone = _beside(base, start, start, example_inputs)
    if _same_structure(found.model, start):
        ratio, ratio_half_width = 1.0, 0.0  # only the weights differ
    else:
        beside = _beside(base, start, found.model, example_inputs)
        ratio = beside.sentinel_ratio
        ratio_half_width = ratio * beside.relative_half_width
    final = _numbers(found.model, example_inputs, task) | {"latency_ms": ratio * alone.median_ms, "ratio": ratio}
    return {
        "failure": None,
        "original": _numbers(start, example_inputs, task)
        | {"latency_ms": alone.median_ms, "half_width_ms": alone.half_width_ms},
        "final": final | {"ratio_half_width": ratio_half_width, "widths": None},
        "met": None if found.budget is None else ratio - ratio_half_width <= found.budget,
        "budget_ms": None if found.budget is None else found.budget * alone.median_ms,
        "floor_ms": None,
        "test_images": len(task.test),
        "training_images": found.training_images,
        "search_images": found.search_images,
        "search_seconds": found.search_seconds,
        "forward_images": 0,
        "steps": 0,
    }


def _same_structure(one: nn.Module, other: nn.Module) -> bool:
    shapes = ({name: tensor.shape for name, tensor in model.state_dict().items()} for model in (one, other))
    return next(shapes) == next(shapes)


def _beside(base: RunConfig, start: nn.Module, model: nn.Module, example_inputs: Any) -> Measurement:
    """Return the measurement of a network, interleaved with the start network unless it is that one."""
    protocol = StopwatchProtocol(sessions=base.measure.sessions, seconds=base.measure.seconds)
    with closing(resolve_platform(base.platform.name)) as platform, tempfile.TemporaryDirectory() as name:
        first, file = (platform.compile(each, example_inputs, Path(name)) for each in (start, model))
        return measure(platform, [file], sentinel=first, protocol=protocol)[0]


def _numbers(model: nn.Module, example_inputs: Any, task: Classification) -> dict[str, Any]:
    """Return what is known of a network without a stopwatch."""
    score, network = task.evaluate(model, "test"), trace(model, example_inputs, prove=False)
    return {
        "accuracy": score.metric,
        "standard_error": score.error,
        "macs": network.macs(),
        "parameters": network.parameters(),
        "correct": packed(correct(model, task)),
    }
