"""Batch-norm statistics: re-estimated after surgery, or un-folded from convolutions that swallowed their norms.

`refresh_batch_norm` is called for every proposal before it is scored; `unfold_batch_norm` by `training/prepare.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from netadapt.errors import DataError, ModelError, NonFinite

Forward = Callable[[nn.Module, Any], Any]


@contextmanager
def restored_modes(model: nn.Module) -> Iterator[None]:
    """Give every module of ``model`` its own train/eval flag back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def call(model: nn.Module, inputs: Any) -> Any:
    """Run ``model`` on a tensor, on the positional arguments of a tuple or list, or on the keywords of a dict."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def refresh_batch_norm(model: nn.Module, batches: Iterable[Any], forward: Forward = call) -> None:
    """Re-estimate the running statistics of all batch norms from scratch, in place.

    Mean and variance become the plain average over the batches. Only the norms run in train mode: dropout stays off.
    Modes and momenta are restored; a network without running statistics is left as it is.

    Args:
        model: whose buffers change.
        batches: inputs, or whatever ``forward`` understands; a few hundred images suffice. Must end.
        forward: runs the model on one batch, e.g. ``task.forward``.

    Raises:
        DataError: there was no batch.
        NonFinite: a statistic became NaN or infinite; the old statistics are put back.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    before = [{key: value.clone() for key, value in norm.named_buffers()} for norm in norms]
    count = 0
    try:
        with restored_modes(model), torch.no_grad():
            model.eval()
            for norm in norms:
                norm.reset_running_stats()
                norm.train()
                norm.momentum = None  # PyTorch's switch for a cumulative average
            for count, batch in enumerate(batches, 1):  # noqa: B007 (count is read below)
                forward(model, batch)
        if not count:
            raise DataError("no images to re-estimate the batch norms on: give at least one batch")
        _demand_finite(model, norms)
    except BaseException:
        for norm, buffers in zip(norms, before, strict=True):
            norm.load_state_dict(buffers, strict=False)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _demand_finite(model: nn.Module, norms: list[_BatchNorm]) -> None:
    for norm in norms:
        if not all(torch.isfinite(value).all() for value in (norm.running_mean, norm.running_var) if value is not None):
            name = next(name for name, module in model.named_modules() if module is norm)
            raise NonFinite(f"the statistics of {name} are not finite")


class _Moments:
    """Sum and sum of squares of a convolution's output without its bias, per channel, in float64."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sums = torch.zeros(2, channels, dtype=torch.float64)

    def add(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        """Forward hook."""
        channels_first = output.detach().transpose(0, 1).flatten(1).double()
        channels_first = channels_first - module.bias.detach().double()[:, None]  # type: ignore[operator]
        self.count += channels_first.shape[1]
        self.sums += torch.stack([channels_first.sum(1), channels_first.square().sum(1)]).cpu()

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Return both, (channels,) each."""
        mean, square = self.sums / max(self.count, 1)
        return mean, (square - mean.square()).clamp_min(0)


def unfold_batch_norm(model: nn.Module, images: Any, forward: Forward = call) -> nn.Module:
    """Return a copy whose folded batch norms are modules again: the same function in eval mode, but trainable.

    Each convolution with a bias gets a norm behind it: BN(mean, var, weight = sqrt(var + eps), bias = mean + bias),
    mean and variance those of its output without the bias over ``images``; its bias goes. Where the parent has an
    empty slot ``<name>_norm`` (`netadapt.models`) the norm goes there, else the convolution becomes a
    ``Sequential(conv, norm)``. Convolutions that have a norm already or give the network's output stay as they are.

    Args:
        model: not changed.
        images: a tensor (n, c, h, w) or an iterable of batches; about 1,000 images in all.
        forward: runs the model on one batch, e.g. ``task.forward``.

    Raises:
        ModelError: no convolution with a folded batch norm.
        DataError: no images.
        NonFinite: an output is NaN or infinite.
    """
    model = copy.deepcopy(model)
    batches = torch.split(images, 100) if isinstance(images, Tensor) else images
    iterator = iter(batches)
    first = next(iterator, None)
    if first is None or (isinstance(first, Tensor) and len(first) == 0):
        raise DataError("no images to un-fold the batch norms with: give about 1,000")
    with restored_modes(model), torch.no_grad():
        model.eval()
        moments = {name: _Moments(conv.out_channels) for name, conv in _folded(model, first, forward)}
        if not moments:
            raise ModelError(f"{type(model).__name__} has no convolution with a folded batch norm: nothing to un-fold")
        hooks = [model.get_submodule(name).register_forward_hook(moment.add) for name, moment in moments.items()]
        try:
            forward(model, first)
            for batch in iterator:
                forward(model, batch)
        finally:
            for hook in hooks:
                hook.remove()
    for name, moment in moments.items():
        _insert_norm(model, name, *moment.mean_and_variance())
    return model


def _folded(model: nn.Module, batch: Any, forward: Forward) -> list[tuple[str, nn.Conv2d]]:
    """Return the convolutions with a bias whose output is neither a batch norm's input nor the network's output."""
    convolutions = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None}
    outputs: dict[str, Tensor] = {}
    normed: list[Tensor] = []  # kept alive: an id may be reused
    hooks = [
        conv.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
        for name, conv in convolutions.items()
    ]
    hooks += [
        norm.register_forward_pre_hook(lambda _, inputs: normed.append(inputs[0]))
        for norm in model.modules()
        if isinstance(norm, _BatchNorm)
    ]
    try:
        result = forward(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    ids = {id(tensor) for tensor in normed}
    last = next(reversed(outputs), "")
    return [
        (name, convolutions[name])
        for name, output in outputs.items()
        if id(output) not in ids and not (name == last and _is_output(output, result))
    ]


def _is_output(output: Tensor, result: Any) -> bool:
    """Tell whether a convolution's output is the network's, at most reshaped or pooled (a classifier's)."""
    if not isinstance(result, Tensor):
        return False
    forms = (output.flatten(), output.mean((2, 3)).flatten())
    return any(form.numel() == result.numel() and torch.allclose(form, result.flatten()) for form in forms)


def _insert_norm(model: nn.Module, name: str, mean: Tensor, variance: Tensor) -> None:
    conv = model.get_submodule(name)
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    if not (torch.isfinite(mean).all() and torch.isfinite(variance).all()):
        raise NonFinite(f"the output of {name} is not finite")
    norm = nn.BatchNorm2d(conv.out_channels).to(conv.bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    bias = conv.bias.detach()
    with torch.no_grad():
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean.to(bias.device) + bias)
    conv.bias = None
    parent_name, _, child = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    norm.train(conv.training)
    if isinstance(getattr(parent, f"{child}_norm", None), nn.Identity):
        setattr(parent, f"{child}_norm", norm)
    else:
        setattr(parent, child, nn.Sequential(conv, norm).train(conv.training))
