"""The reference with more data: a narrower network with weights of its own, fine-tuned like the others of its set-up.

It stands in the plots and is no target: its weights have seen the whole of ImageNet at this very width. There is no
search and no run folder; `run_cell.py` calls it for cells of `cells.OWN_WEIGHTS`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from _correct import correct, packed
from cells import NARROW, Cell, Places, all_epochs
from starts import model_text, settings
from torch import nn

from netadapt.adaptation.finish import standard_error
from netadapt.adaptation.preparation import build_task
from netadapt.adaptation.tuning import recipe_of
from netadapt.models import resolve_model
from netadapt.network import trace
from netadapt.platforms import Measurement, StopwatchProtocol, resolve_platform
from netadapt.platforms.stopwatch import measure
from netadapt.runs.settings import RunConfig
from netadapt.training.classification import Classification
from netadapt.training.prepare import prepare


def own_weights(cell: Cell, places: Places, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Fine-tune and measure the reference of a cell.

    Args:
        cell: of `cells.OWN_WEIGHTS`; the start network of its set-up is prepared.
        places: where things lie.
        should_stop: asked between batches.

    Returns:
        What `run_cell.result` returns of a run.

    Raises:
        Interrupted: ``should_stop`` said so; finished epochs are kept.
    """
    base = settings(places.setup(cell), cell.seed)
    start, example_inputs = resolve_model(model_text(places.setup(cell), cell.seed, places.starts))
    task = build_task(base, example_inputs)
    assert isinstance(task, Classification)
    checkpoint = places.starts / f"{cell.name}.checkpoint"
    tuned = _tuned(base, NARROW[cell.budget], task, checkpoint, should_stop)
    alone, beside = _measured(base, start, tuned, example_inputs)
    checkpoint.unlink(missing_ok=True)
    ratio = 1.0 if beside.ratio is None else beside.ratio
    original = _numbers(start, example_inputs, task) | {"latency_ms": alone.median_ms}
    final = _numbers(tuned, example_inputs, task) | {"latency_ms": ratio * alone.median_ms, "ratio": ratio}
    original["half_width_ms"] = alone.half_width_ms
    final |= {"ratio_half_width": ratio * beside.half_width_ms / beside.median_ms, "widths": None}
    nothing = dict.fromkeys(("search_images", "forward_images", "search_seconds", "steps"), 0)
    return {
        "failure": None,
        "original": original,
        "final": final,
        "met": None,
        "budget_ms": None,
        "floor_ms": None,
        "test_images": len(task.test),
        "training_images": round(all_epochs(base) * len(task.train)),
        **nothing,
    }


def _tuned(
    base: RunConfig, source: str, task: Classification, checkpoint: Path, should_stop: Callable[[], bool]
) -> nn.Module:
    """Return the narrow network after as many epochs as the start network and the long-term fine-tune have together."""
    model, example_inputs = resolve_model(source)
    recipe = recipe_of(base.training.long_term)
    assert recipe is not None
    return prepare(
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


def _measured(
    base: RunConfig, start: nn.Module, tuned: nn.Module, example_inputs: Any
) -> tuple[Measurement, Measurement]:
    """Return the measurement of the start network, and that of the narrow one interleaved with it."""
    protocol = StopwatchProtocol(sessions=base.measure.sessions, seconds=base.measure.seconds)
    with closing(resolve_platform(base.platform.name)) as platform, tempfile.TemporaryDirectory() as name:
        original, narrow = (platform.compile(model, example_inputs, Path(name)) for model in (start, tuned))
        (alone,) = measure(platform, [original], protocol=protocol)
        (beside,) = measure(platform, [narrow], sentinel=original, protocol=protocol)
    return alone, beside


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
