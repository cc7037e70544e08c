"""Batch-norm statistics after a cut: the old ones plus what the cut changes, measured on a few images.

Statistics taken afresh from 800 images are worse than those of a whole training (ResNet-20 loses 3 points by that
alone); their difference before and after the cut, on the same images, is not. Called by `refit.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from netadapt.network.batch_norm import refresh_batch_norm
from netadapt.network.importance import Places
from netadapt.network.moments import count_images
from netadapt.network.network import Network

# A variance that a cut changes more than so many times is taken afresh: its old value says nothing.
_LARGEST_RATIO = 100.0
#: images that tell the difference well enough
SHIFT_IMAGES = 200


class NormShift:
    """Carry the batch-norm statistics of one module over to smaller versions of it.

    Args:
        network: the trace of the original.
        reference: a version of it whose statistics are good; left as it is.
        batches: inputs, a few hundred images in all.

    Attributes:
        images: that each version of the reference sees, and it itself has seen; none where it has no such statistics.

    Raises:
        NonFinite: activations are not finite.
    """

    def __init__(self, network: Network, reference: nn.Module, batches: Sequence[Any]) -> None:
        self._network = network
        self._batches = batches
        self._places = Places(network, reference)
        self._before = {}
        if _statistics(reference):
            refreshed = copy.deepcopy(reference)
            refresh_batch_norm(refreshed, batches)
            self._before = _statistics(refreshed)
        self.images = sum(count_images(batch) for batch in batches) if self._before else 0

    def apply(self, module: nn.Module) -> None:
        """Set the statistics of ``module``, a smaller version whose norms still have the reference's, in place.

        Means move by their difference on the images, variances by their ratio.

        Args:
            module: cut from the reference, weights adjusted.

        Raises:
            NonFinite: a statistic became NaN or infinite.
        """
        if not self._before:
            return
        places = Places(self._network, module)
        good = {name: value.clone() for name, value in _statistics(module).items()}
        refresh_batch_norm(module, self._batches)
        for name, fresh in _statistics(module).items():
            kept = np.searchsorted(self._places.present(name, 0), places.present(name, 0))
            before = self._before[name][torch.from_numpy(kept).to(fresh.device)]
            fresh.copy_(_moved(good[name], before, fresh, name.endswith("running_var")))


def _moved(good: Tensor, before: Tensor, after: Tensor, is_variance: bool) -> Tensor:
    if not is_variance:
        return good + (after - before)
    ratio = after / before.clamp_min(torch.finfo(before.dtype).tiny)
    return torch.where((ratio < _LARGEST_RATIO) & (ratio > 1 / _LARGEST_RATIO), good * ratio, after)


def _statistics(module: nn.Module) -> dict[str, Tensor]:
    """Return the running means and variances of all batch norms by name."""
    return {
        f"{name}.{key}" if name else key: buffer
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) and part.running_mean is not None
        for key, buffer in part.named_buffers(recurse=False)
        if key in ("running_mean", "running_var")
    }
