"""All that changes during a fine-tune: counters, optimiser, moving average; and its way to a checkpoint and back.

Used by `loop.py` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netadapt.training.checkpoint import read_checkpoint, write_checkpoint
from netadapt.training.recipe import Recipe

LOSS_MEMORY = 50  # steps over which the reported loss is averaged


class TuningState:
    """All that changes during a fine-tune.

    Args:
        model: the network that is trained.
        recipe: how.
        device: where.
        seed: of the fine-tune.
        total: training images it will see.
    """

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
