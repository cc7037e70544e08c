"""The fine-tune loop: SGD with momentum, cosine to zero, EMA, distillation; one loop for short-term and long-term.

Called by engines/ for proposals, by runs/ for the first and the long-term fine-tune; `checkpoint.py` keeps its state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from netadapt.errors import Interrupted, NonFinite, UsageError
from netadapt.network.batch_norm import restored_modes
from netadapt.training.checkpoint import read_checkpoint, write_checkpoint
from netadapt.training.task import Task

LOSS_MEMORY = 50  # steps over which the reported loss is averaged


@dataclass(frozen=True)
class Recipe:
    """How long and how a network is fine-tuned; the batch size is the task's.

    Attributes:
        images: training images to see; give this or ``epochs``.
        epochs: passes over the task's training images; needs a task with ``train_images``.
        lr: highest learning rate.
        schedule: ``cosine`` falls from ``lr`` to zero; ``constant`` stays.
        momentum: of SGD.
        nesterov: look-ahead form of the momentum.
        weight_decay: L2 penalty.
        decay_vectors: also on norms and biases, 0 for these by default.
        warmup: share of the images during which the rate rises from zero, 0..1.
        ema: decay of the moving average of weights that is returned; 0 for none. Rises from 0.1 with the steps.
        clip_norm: largest norm of the gradient; 0 for no limit.
        precision: of the forward pass; ``auto`` is bfloat16 on CUDA and float32 on CPU.
        device: ``auto`` is CUDA where there is one.
    """

    images: int | None = None
    epochs: float | None = None
    lr: float = 0.01
    schedule: Literal["cosine", "constant"] = "cosine"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 4e-5
    decay_vectors: bool = False
    warmup: float = 0.0
    ema: float = 0.0
    clip_norm: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if (self.images is None) == (self.epochs is None):
            raise UsageError(f"a recipe needs images or epochs, not both: images={self.images}, epochs={self.epochs}")

    def total_images(self, task: Task) -> int:
        """Return how many training images the recipe sees with ``task``."""
        if self.images is not None:
            return self.images
        per_epoch = getattr(task, "train_images", None)
        if per_epoch is None or self.epochs is None:
            raise UsageError(f"epochs={self.epochs} needs a task with train_images; give images instead")
        return round(self.epochs * int(per_epoch))

    def rate(self, done: int, total: int) -> float:
        """Return the learning rate after ``done`` of ``total`` images."""
        rising = min(1.0, (done + 1) / (self.warmup * total)) if self.warmup else 1.0
        falling = 0.5 * (1 + math.cos(math.pi * done / total)) if self.schedule == "cosine" else 1.0
        return self.lr * rising * falling


@dataclass(frozen=True)
class TrainingResult:
    """What a fine-tune did.

    Attributes:
        images: training images seen.
        loss: mean training loss of the last steps.
        seconds: it took, earlier parts of an interrupted one included.
    """

    images: int
    loss: float
    seconds: float


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
    state = _State(model, recipe, device, seed, total)
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
    state: _State,
    task: Task,
    teacher: nn.Module | None,
    progress: Callable[[int, float], None] | None,
    should_stop: Callable[[], bool] | None,
) -> None:
    """Train until the next multiple of the task's training images, on a stream of its own seed."""
    per_epoch = getattr(task, "train_images", state.total)
    end = min((state.done // per_epoch + 1) * per_epoch, state.total)
    seed = state.seed * 1_000_003 + state.epoch
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


def _step(state: _State, task: Task, batch: Any, teacher: nn.Module | None) -> None:
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


class _State:
    """All that changes during a fine-tune, and how it goes to a checkpoint and back."""

    def __init__(self, model: nn.Module, recipe: Recipe, device: torch.device, seed: int, total: int) -> None:
        self.model, self.recipe, self.device, self.seed, self.total = model, recipe, device, seed, total
        self.done = self.steps = self.epoch = 0
        self.loss = self.seconds = 0.0
        self.optimizer = _optimizer(model, recipe)
        self.average = {n: t.detach().clone() for n, t in self._floats().items()} if recipe.ema else {}

    def advance(self, images: int, loss: float) -> None:
        """Count a step and follow it with the averages."""
        self.done += images
        self.steps += 1
        self.loss += (loss - self.loss) / min(self.steps, LOSS_MEMORY)
        if self.average:
            # the start of a short training must not dominate its average
            decay = min(self.recipe.ema, (1 + self.steps) / (10 + self.steps))
            current = self._floats()
            with torch.no_grad():
                for name, mean in self.average.items():
                    mean.lerp_(current[name].to(mean), 1 - decay)

    def use_average(self) -> None:
        """Put the moving average into the model, if there is one."""
        with torch.no_grad():
            for name, tensor in self._floats().items():
                if name in self.average:
                    tensor.copy_(self.average[name])

    def _floats(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.model.state_dict().items() if value.is_floating_point()}

    def _identity(self) -> dict[str, Any]:
        shapes = {name: list(value.shape) for name, value in self.model.state_dict().items()}
        return {"recipe": asdict(self.recipe), "seed": self.seed, "total": self.total, "shapes": shapes}

    def save(self, path: Path) -> None:
        """Write everything to a checkpoint."""
        tensors = {f"model/{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        for name, parameter in self.model.named_parameters():
            if (momentum := self.optimizer.state[parameter].get("momentum_buffer")) is not None:
                tensors[f"momentum/{name}"] = momentum
        numbers = {k: getattr(self, k) for k in ("done", "steps", "epoch", "loss", "seconds")}
        write_checkpoint(path, tensors, numbers, self._identity())

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one of the same training."""
        found = read_checkpoint(path, self._identity())
        if found is None:
            return
        tensors, numbers = found
        self.model.load_state_dict(_part(tensors, "model/"))
        for name, value in _part(tensors, "average/").items():
            self.average[name].copy_(value)
        for name, value in _part(tensors, "momentum/").items():
            parameter = self.model.get_parameter(name)
            self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(value).detach()
        for name, number in numbers.items():
            setattr(self, name, number)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if recipe.decay_vectors or p.ndim > 1]
    others = [p for p in trained if not recipe.decay_vectors and p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        recipe.lr,
        recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,  # one call for all parameters: small networks spend a tenth of a step here otherwise
    )


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
