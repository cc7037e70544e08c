"""From a user's network to the start of a run: norms un-folded, a new classifier fitted, a first fine-tune.

Called by runs/ once per run, before the network is traced; all mistakes of network against task are found here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.errors import DataError, ModelError, NetAdaptError, NonFinite
from netadapt.network.batch_norm import restored_modes, unfold_batch_norm
from netadapt.training.classification import Classification
from netadapt.training.loop import Recipe, fine_tune
from netadapt.training.task import Task

UNFOLD_IMAGES = 1000
PROBE_IMAGES = 50_000
#: the probe's images must not be those that the fine-tune behind it sees first, of the same seed
_PROBE_SEED = 0x70726F6265


def prepare(
    model: nn.Module,
    example_inputs: Any,
    task: Task,
    *,
    classes: int | None = None,
    unfold: bool = False,
    first_tune: Recipe | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    checkpoint: Path | None = None,
) -> nn.Module:
    """Return the network that a run starts from, a copy in eval mode; the user's module is not changed.

    Args:
        model: the network as loaded.
        example_inputs: what it is deployed with.
        task: what it is trained and judged on.
        classes: replace the classifier by one with this many outputs, fitted alone first.
        unfold: put batch norms back behind convolutions that swallowed them.
        first_tune: fine-tune of the whole network at the end; ``None`` for none.
        seed: of the new classifier and the fine-tune.
        progress: passed to `fine_tune`.
        should_stop: passed to `fine_tune`.
        checkpoint: passed to `fine_tune`.

    Raises:
        ModelError: no classifier to replace, nothing to un-fold.
        DataError: the task's images or classes do not fit the network.
    """
    model = copy.deepcopy(model).eval() if classes is None else replace_head(model, classes, seed).eval()
    check_fit(model, example_inputs, task)
    if unfold:
        model = unfold_batch_norm(model, calibration_batches(task, UNFOLD_IMAGES, seed), task.forward)
    if classes is not None:
        if not isinstance(task, Classification):
            raise ModelError(
                "classes under [model] fits a new classifier on digits, parquet: and folder: tasks only: with a task "
                "of your own let your file.py:function return the network with the classifier it needs"
            )
        fit_head(model, task, seed=seed)
    if first_tune is not None:
        fine_tune(model, task, first_tune, seed=seed, progress=progress, should_stop=should_stop, checkpoint=checkpoint)
    return model


def check_fit(model: nn.Module, example_inputs: Any, task: Task) -> None:
    """Refuse a network and a task that do not go together, before anything is started.

    A task with a ``check(model, example_inputs)`` method decides itself; for others one batch is run.

    Raises:
        DataError: what does not fit.
    """
    if hasattr(task, "check"):
        task.check(model, example_inputs)
        return
    try:
        batch = next(iter(task.batches(0)))
        with restored_modes(model), torch.no_grad():
            loss = task.loss(task.forward(model.eval(), batch), batch)
    except NetAdaptError:
        raise
    except Exception as error:  # user code may raise anything
        what = f"{type(error).__name__}: {error}"
        raise DataError(f"{type(task).__name__} failed on its first batch with this network: {what}") from error
    if loss.numel() != 1:
        raise DataError(f"{type(task).__name__} returned a loss of shape {tuple(loss.shape)}: a scalar is needed")


def calibration_batches(task: Task, images: int, seed: int = 0) -> Iterator[Any]:
    """Yield batches of about ``images`` training images: unchanged ones from a `Classification`, else as trained on."""
    if isinstance(task, Classification):
        yield from task.calibration(images, seed)
        return
    seen = 0
    for batch in task.batches(seed):
        yield batch
        seen += task.size(batch)
        if seen >= images:
            return


def head_of(model: nn.Module) -> str:
    """Return the name of the classifier: the last linear layer, or the last convolution where there is none.

    Raises:
        ModelError: there is neither.
    """
    for kind in (nn.Linear, nn.Conv2d):
        names = [name for name, module in model.named_modules() if isinstance(module, kind)]
        if names:
            return str(names[-1])
    raise ModelError(f"{type(model).__name__} has no linear layer or convolution: there is no classifier to replace")


def replace_head(model: nn.Module, classes: int, seed: int) -> nn.Module:
    """Return a copy of ``model`` whose classifier is a fresh one with ``classes`` outputs.

    Args:
        model: not changed.
        classes: number of outputs.
        seed: of the new weights.

    Raises:
        ModelError: there is no classifier.
    """
    model = copy.deepcopy(model)
    name = head_of(model)
    old = model.get_submodule(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        new: nn.Module
        if isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, classes)
        else:
            assert isinstance(old, nn.Conv2d)
            new = nn.Conv2d(old.in_channels, classes, old.kernel_size, old.stride, old.padding)  # type: ignore[arg-type]
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new.to(next(old.parameters())).train(old.training))
    return model


def fit_head(
    model: nn.Module, task: Classification, *, images: int = PROBE_IMAGES, ridge: float = 1e-3, seed: int = 0
) -> None:
    """Fit the classifier alone, in place: multinomial logistic regression on the features of unchanged images.

    A fresh classifier's gradients would destroy the layers before it (DESIGN, section 9).

    Args:
        model: in any mode, which is kept; only the classifier changes.
        task: its training images are used.
        images: at most so many.
        ridge: L2 penalty on the weights for standardised features.
        seed: which images.

    Raises:
        NonFinite: the features or the fit are not finite.
    """
    head = model.get_submodule(head_of(model))
    features, labels = _features(model, head, task, images, seed)
    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    weight, bias = _logistic_regression((features - mean) / std, labels, len(task.classes), ridge)
    weight = weight / std
    if not torch.isfinite(weight).all():
        raise NonFinite("the new classifier could not be fitted: the network's features are not finite")
    assert isinstance(head, (nn.Linear, nn.Conv2d))
    assert head.bias is not None
    with torch.no_grad():
        head.weight.copy_(weight.reshape(head.weight.shape))
        head.bias.copy_(bias - weight @ mean)


def _features(model: nn.Module, head: nn.Module, task: Classification, images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the classifier's inputs ``(n, features)`` and the labels."""
    device = next(head.parameters()).device
    inputs: list[Tensor] = []
    labels: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0].flatten(1).float()))
    try:
        with restored_modes(model), torch.no_grad():
            model.eval()
            for batch in task.calibration(images, seed ^ _PROBE_SEED):
                task.forward(model, batch.to(device))
                labels.append(batch.labels.to(device))
    finally:
        hook.remove()
    return torch.cat(inputs), torch.cat(labels)


def _logistic_regression(features: Tensor, labels: Tensor, classes: int, ridge: float) -> tuple[Tensor, Tensor]:
    weight = torch.zeros(classes, features.shape[1], device=features.device, requires_grad=True)
    bias = torch.zeros(classes, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(features @ weight.T + bias, labels) + ridge / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
