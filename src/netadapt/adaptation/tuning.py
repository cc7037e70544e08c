"""Everything that a run does with images: fine-tune, refresh statistics, score; and it counts them.

`tools.py` uses it for proposals, `finish.py` for the long-term fine-tune.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from netadapt.errors import Interrupted, UsageError
from netadapt.network.batch_norm import refresh_batch_norm
from netadapt.platforms import measuring_lock
from netadapt.runs.settings import Recipe as Section
from netadapt.scores import Score
from netadapt.training.loop import Recipe, fine_tune
from netadapt.training.prepare import calibration_batches
from netadapt.training.task import PartlyEvaluated, Split, Task

Progress = Callable[[int, float], None]


def derived_seed(seed: int, key: str) -> int:
    """Return the seed of one unit of work, so that results do not depend on order or interruptions."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode()).digest()[:4])


def recipe_of(section: Section) -> Recipe | None:
    """Return the recipe of a ``[training]`` table; ``None`` where it trains on nothing."""
    return None if section.images == 0 else Recipe(**section.model_dump(include=set(Section.model_fields)))


class Tuner:
    """Trains and scores modules on one task.

    Args:
        task: of the run.
        teacher: the original network, for distillation; ``None`` if the task does not distil.
        seed: of the run.
        calibration_images: seen when statistics are refreshed and consumers re-fitted.
        should_stop: asked between batches; true ends a fine-tune with `Interrupted`.

    Attributes:
        task: as given.
        partly: the task once more, if it can score on a part of the selection split; else ``None``.
        calibration: the batches for statistics and re-fits, the same in every iteration.
        training_images, forward_images: counters since the last reset.
    """

    def __init__(
        self,
        task: Task,
        teacher: nn.Module | None,
        seed: int,
        *,
        calibration_images: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.task = task
        self.partly = task if isinstance(task, PartlyEvaluated) else None
        self.teacher = teacher
        self.seed = seed
        self._asked_to_stop = should_stop
        self.training_images = 0
        self.forward_images = 0
        self.calibration = list(calibration_batches(task, calibration_images, derived_seed(seed, "calibration")))

    def calibration_inputs(self) -> list[Any]:
        """Return the calibration batches as a network is fed them."""
        return [inputs_of(self.task, batch) for batch in self.calibration]

    def refresh(self, model: nn.Module) -> None:
        """Re-estimate the batch-norm statistics of ``model``, which surgery has moved."""

        def forward(model: nn.Module, batch: Any) -> Any:
            self.saw(self.task.size(batch))
            return self.task.forward(model, batch)

        refresh_batch_norm(model, self.calibration, forward)

    def score(self, model: nn.Module, split: Split = "selection") -> Score:
        """Return the score of ``model`` on a split."""
        return self._counted(self.task.evaluate(model, split))

    def score_part(self, model: nn.Module, images: int) -> Score:
        """Return the score of ``model`` on so many images of the selection split, or on all where the task has to."""
        return self.score(model) if self.partly is None else self._counted(self.partly.evaluate_part(model, images))

    def _counted(self, score: Score) -> Score:
        self.saw(score.count or 0)
        return score

    def saw(self, images: int) -> None:
        """Count images that a network has seen without being trained on them."""
        self.forward_images += images

    def tune(
        self,
        model: nn.Module,
        recipe: Recipe,
        key: str,
        *,
        task: Task | None = None,
        checkpoint: Path | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Fine-tune ``model`` in place and return the number of training images seen.

        Args:
            model: to be trained.
            recipe: how long and how.
            key: of the unit of work; its seed follows from it.
            task: another task than the run's own, e.g. with the selection split added.
            checkpoint: where epochs are kept, for a long fine-tune.
            progress: told the images done and the loss.

        Raises:
            NonFinite: the loss did not stay finite.
            Interrupted: the run was asked to stop.
        """
        try:
            result = fine_tune(
                model,
                task or self.task,
                recipe,
                seed=derived_seed(self.seed, key),
                teacher=self.teacher,
                progress=progress,
                should_stop=self._between_batches,
                checkpoint=checkpoint,
            )
        except Interrupted as error:
            raise Interrupted(
                f"{key}: {error}; what was finished is kept, the same command goes on from there"
            ) from None
        self.training_images += result.images
        return result.images

    def _between_batches(self) -> bool:
        """Wait while another process measures on this machine; then say whether to stop."""
        measuring_lock.pause_while_measuring()
        return self._asked_to_stop()

    def reset(self) -> tuple[int, int]:
        """Return training and forward images since the last reset, and start counting anew."""
        counted = self.training_images, self.forward_images
        self.training_images = self.forward_images = 0
        return counted


class _Seen(Exception):
    """Ends a forward as soon as the network's inputs are known."""


class _Recorder(nn.Module):
    """Stands in for a network to see what a task feeds it."""

    inputs: Any = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.inputs = kwargs if kwargs else args
        raise _Seen


def inputs_of(task: Task, batch: Any) -> Any:
    """Return what ``task.forward`` feeds a network for ``batch``: a tuple of arguments or a dict of keywords."""
    recorder = _Recorder()
    try:
        task.forward(recorder, batch)
    except _Seen:
        return recorder.inputs
    raise UsageError("the task's forward never calls the network it is given; it must return model(...) of it.")
