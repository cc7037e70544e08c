"""The fine-tune loop: SGD with momentum, cosine to zero, EMA, distillation; one loop for short-term and long-term.

Called by engines/ for proposals, by runs/ for the first and the long-term fine-tune; `checkpoint.py` keeps its state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netadapt.errors import Interrupted, NonFinite
from netadapt.network.batch_norm import restored_modes
from netadapt.training.recipe import Recipe as Recipe
from netadapt.training.recipe import TrainingResult as TrainingResult
from netadapt.training.state import TuningState
from netadapt.training.task import Task


def fine_tune(
    model: nn.Module,
    task: Task,
    recipe: Recipe,
    *,
    seed: int,
    teacher: nn.Module | None = None,
    progress: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Path | None = None,
) -> TrainingResult:
    """Train ``model`` in place; it is left in eval mode, on the device where it was.

    The same seed gives the same weights on a CPU, whether interrupted and resumed or not. No global state changes.

    Args:
        model: the network; parameters without ``requires_grad`` stay as they are.
        task: gives batches and the loss.
        recipe: how long and how.
        seed: of the order and augmentation of images, and of dropout.
        teacher: its outputs go to ``task.loss``; used in eval mode, unchanged.
        progress: called after each step with images seen and the mean loss of the last steps.
        should_stop: asked after each step.
        checkpoint: file written after each epoch of the task's ``train_images``; where it exists for the same recipe,
            seed and network, training goes on from there.

    Raises:
        NonFinite: the loss is NaN or infinite; the weights are then of no use.
        Interrupted: ``should_stop`` said so; the checkpoint holds the last full epoch.
    """
    total = recipe.total_images(task)
    home = next(model.parameters()).device
    device = _device(recipe)
    devices = [device] if device.type == "cuda" else []
    state = TuningState(model, recipe, device, seed, total)
    with restored_modes(teacher or nn.Identity()), torch.random.fork_rng(devices=devices):
        try:
            model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            helper = teacher.to(device).eval() if teacher is not None else None
            if checkpoint is not None:
                state.resume(checkpoint)
            while state.done < total:
                _epoch(state, task, helper, progress, should_stop)
                if checkpoint is not None:
                    state.save(checkpoint)
            state.use_average()
        finally:
            model.zero_grad(set_to_none=True)
            # plain memory order again: surgery and files need not know how training likes it
            model.to(device=home, memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
            if teacher is not None:
                teacher.to(home)
    return TrainingResult(state.done, state.loss, state.seconds)


def _epoch(
    state: TuningState,
    task: Task,
    teacher: nn.Module | None,
    progress: Callable[[int, float], None] | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    """Train until the next multiple of the task's training images, on a stream of its own seed."""
    per_epoch = getattr(task, "train_images", state.total)
    end = min((state.done // per_epoch + 1) * per_epoch, state.total)
    seed = (state.seed * 1_000_003 + state.epoch) % 2**63  # what generators take
    torch.manual_seed(seed)
    start = time.perf_counter()
    before = state.seconds
    state.model.train()
    for batch in task.batches(seed):
        _step(state, task, move(batch, state.device), teacher)
        state.seconds = before + time.perf_counter() - start
        if progress is not None:
            progress(state.done, state.loss)
        if state.done >= end:
            break
        if should_stop is not None and should_stop():
            raise Interrupted(f"stopped after {state.done} of {state.total} training images")
    state.epoch += 1


def _step(state: TuningState, task: Task, batch: Any, teacher: nn.Module | None) -> None:
    recipe = state.recipe
    for group in state.optimizer.param_groups:
        group["lr"] = recipe.rate(state.done, state.total)
    half = recipe.precision == "bfloat16" or (recipe.precision == "auto" and state.device.type == "cuda")
    with torch.autocast(state.device.type, dtype=torch.bfloat16, enabled=half):
        outputs = task.forward(state.model, batch)
        with torch.no_grad():
            wanted = None if teacher is None else task.forward(teacher, batch)
        loss = task.loss(outputs, batch, wanted)
    value = loss.item()
    if not math.isfinite(value):
        raise NonFinite(f"the training loss became {value} after {state.done} images at a rate of {recipe.lr:g}")
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if recipe.clip_norm:
        nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
    state.optimizer.step()
    state.advance(task.size(batch), value)


def move(batch: Any, device: torch.device) -> Any:
    """Return ``batch`` (tensor, object with ``to``, or tuple, list, dict of these) on ``device``."""
    if isinstance(batch, Mapping):
        return {key: move(value, device) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(move(value, device) for value in batch)
    return batch.to(device) if hasattr(batch, "to") else batch


def _device(recipe: Recipe) -> torch.device:
    if recipe.device != "auto":
        return torch.device(recipe.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
