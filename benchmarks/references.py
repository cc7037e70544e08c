"""The references of a set-up, which are no runs: there is no search and no run folder, but a result like a cell's.

`cells.TUNED_ORIGINAL` is the start network itself after the long-term fine-tune that all other networks of the set-up
get: the right end of every curve in `outcomes.py`. `cells.OWN_WEIGHTS` is a narrower network with weights of its own;
it stands in the plots and is no target: its weights have seen the whole of ImageNet at this very width. `run_cell.py`
calls `reference` for both.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from _correct import correct, packed
from cells import NARROW, TUNED_ORIGINAL, Cell, Places, all_epochs
from starts import model_text, settings, weights_path
from torch import nn

from netadapt.adaptation.finish import standard_error, with_selection
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


def reference(cell: Cell, places: Places, should_stop: ShouldStop) -> dict[str, Any]:
    """Fine-tune and measure the reference of a cell.

    Args:
        cell: of `cells.REFERENCES`; the start network of its set-up is prepared.
        places: where things lie.
        should_stop: asked between batches.

    Returns:
        What `run_cell.result` returns of a run; latencies in ms, ``training_images`` are those of the fine-tune.

    Raises:
        Interrupted: ``should_stop`` said so; finished epochs are kept.
    """
    base = settings(places.setup(cell), cell.seed)
    weights = weights_path(places.setup(cell), places.starts)
    start, example_inputs = resolve_model(model_text(places.setup(cell), places.starts))
    task = build_task(base, example_inputs)
    assert isinstance(task, Classification)
    checkpoint = places.starts / f"{cell.name}-of-{weights.stem}.checkpoint"
    if cell.method == TUNED_ORIGINAL:
        tuned, images = _tuned_original(base, start, task, checkpoint, should_stop)
        (alone,) = _measured(base, [start], example_inputs)
        ratio, ratio_half_width = 1.0, 0.0  # the same structure: only the weights differ
    else:
        tuned, images = _own_weights(base, NARROW[cell.budget], task, checkpoint, should_stop)
        alone, beside = _measured(base, [start, tuned], example_inputs)
        ratio = 1.0 if beside.ratio is None else beside.ratio
        ratio_half_width = ratio * beside.relative_half_width
    checkpoint.unlink(missing_ok=True)
    original = _numbers(start, example_inputs, task) | {"latency_ms": alone.median_ms}
    final = _numbers(tuned, example_inputs, task) | {"latency_ms": ratio * alone.median_ms, "ratio": ratio}
    original["half_width_ms"] = alone.half_width_ms
    final |= {"ratio_half_width": ratio_half_width, "widths": None}
    nothing = dict.fromkeys(("search_images", "forward_images", "search_seconds", "steps"), 0)
    return {
        "failure": None,
        "original": original,
        "final": final,
        "met": None,
        "budget_ms": None,
        "floor_ms": None,
        "test_images": len(task.test),
        "training_images": images,
        **nothing,
    }


def _tuned_original(
    base: RunConfig, start: nn.Module, task: Classification, checkpoint: Path, should_stop: ShouldStop
) -> tuple[nn.Module, int]:
    """Return the start network after the long-term fine-tune of its set-up, as a run does it, and the images it took.

    Args:
        base: configuration of the set-up.
        start: left as it is; it is the teacher where the task distils.
        task: of the set-up; trained on with its selection split.
        checkpoint: where finished epochs are kept.
        should_stop: asked between batches.
    """
    tuned, recipe = copy.deepcopy(start), recipe_of(base.training.long_term)
    if recipe is None:
        return tuned, 0
    teacher = copy.deepcopy(start).eval() if task.distillation > 0 else None
    images = base.search.calibration_images
    tuner = Tuner(task, teacher, base.run.seed, calibration_images=images, should_stop=should_stop)
    key = f"long-{TUNED_ORIGINAL}"
    return tuned, tuner.tune(tuned, recipe, key, task=with_selection(task), checkpoint=checkpoint)


def _own_weights(
    base: RunConfig, source: str, task: Classification, checkpoint: Path, should_stop: ShouldStop
) -> tuple[nn.Module, int]:
    """Return a narrower network after as many epochs as start network and long-term fine-tune have together.

    Args:
        base: configuration of the set-up.
        source: MODEL of the narrower network.
        task: of the set-up; trained on with its selection split.
        checkpoint: where finished epochs are kept.
        should_stop: asked between batches.

    Returns:
        The network, and the images it was trained on.
    """
    model, example_inputs = resolve_model(source)
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
        should_stop=should_stop,
        checkpoint=checkpoint,
    )
    return tuned, round(all_epochs(base) * len(task.train))


def _measured(base: RunConfig, models: Sequence[nn.Module], example_inputs: Any) -> list[Measurement]:
    """Return the measurement of the first network alone, and those of the others, each interleaved with the first."""
    protocol = StopwatchProtocol(sessions=base.measure.sessions, seconds=base.measure.seconds)
    with closing(resolve_platform(base.platform.name)) as platform, tempfile.TemporaryDirectory() as name:
        first, *others = (platform.compile(model, example_inputs, Path(name)) for model in models)
        alone = measure(platform, [first], protocol=protocol)
        beside = [measure(platform, [other], sentinel=first, protocol=protocol)[0] for other in others]
    return [*alone, *beside]


def _numbers(model: nn.Module, example_inputs: Any, task: Classification) -> dict[str, Any]:
    """Return what is known of a network without a stopwatch."""
    score, network = task.evaluate(model, "test"), trace(model, example_inputs, prove=False)
    return {
        "accuracy": score.metric,
        "standard_error": standard_error(score),
        "macs": network.macs(),
        "parameters": network.parameters(),
        "correct": packed(correct(model, task)),
    }
