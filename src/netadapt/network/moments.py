"""Second moments of what a layer gets in a shrunk network and what it put out in the original, on the same images.

`Calibration` holds the images and the original's outputs; `Moments` are the sums that a least-squares fit needs.
Called by `refit.py`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netadapt.errors import DataError, NonFinite
from netadapt.network.batch_norm import call as call_model
from netadapt.network.batch_norm import restored_modes
from netadapt.network.contractions import Contraction, Watch
from netadapt.network.elimination import System

# Positions are sub-sampled to this many rows (or this multiple of the fan-in): more make a fit hardly better.
_ROWS = 12_288
_ROWS_PER_COLUMN = 4
# Wider layers (a linear layer on VGG's flattened 512 x 7 x 7) are not fitted: the equations would not fit into memory.
_LARGEST_FAN_IN = 6144
# All images go through the network as one batch; so many bytes its largest layer may take: inputs, outputs, copies.
_ACTIVATION_BYTES = 3e9
# The ridge grows where there are fewer rows than this times the columns, in proportion.
_SCARCITY = 100


class Finished(Exception):
    """Raised by a visitor that needs no further layers."""


@dataclass(frozen=True)
class Moments:
    """Sums over the sampled rows of one layer's inputs x and wanted outputs y, in float64.

    Attributes:
        xx: ``(d, d)``.
        xy: ``(d, outputs)``.
        yy: ``(outputs,)`` squares.
        x: ``(d,)``.
        y: ``(outputs,)``.
        rows: number of rows.
    """

    xx: Tensor
    xy: Tensor
    yy: Tensor
    x: Tensor
    y: Tensor
    rows: int

    def __add__(self, other: Moments) -> Moments:
        """Sum over the rows of both: a layer that is called twice."""
        return Moments(
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
            self.x + other.x,
            self.y + other.y,
            self.rows + other.rows,
        )

    def system(self, ridge: float, centred: bool, prior: Tensor, *, normalised: bool = False) -> System:
        """Return the normal equations.

        Args:
            ridge: relative to the mean diagonal; grows in proportion where rows are fewer than 100 d.
            centred: a free constant is fitted too (a bias, or a batch norm behind the layer takes it up).
            prior: weights ``(outputs, d)`` that the ridge pulls towards.
            normalised: a batch norm follows and makes all outputs equally large: the error of each counts relative to
                its own energy, else to that of all.
        """
        gram, target, squares = self.xx, self.xy, self.yy
        if centred:
            gram = gram - torch.outer(self.x, self.x) / self.rows
            target = target - torch.outer(self.x, self.y) / self.rows
            squares = squares - self.y.square() / self.rows
        relative = ridge * max(1.0, _SCARCITY * len(gram) / self.rows)
        # inputs that are all zero leave nothing to fit: any positive ridge gives zero weights
        amount = relative * float(gram.diagonal().mean()) or 1.0
        gram = gram + amount * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        squares = squares.clamp_min(1e-6 * float(squares.mean()) or 1.0)
        energy = squares * len(squares) if normalised else squares.sum().expand(len(squares))
        return System(gram, target + amount * prior.T.to(target), energy)

    def part(self, outputs: Tensor) -> Moments:
        """Return the moments for some of the outputs only."""
        return replace(self, xy=self.xy[:, outputs], yy=self.yy[outputs], y=self.y[outputs])

    def bias(self, weights: Tensor, columns: Tensor) -> Tensor:
        """Return the constant ``(outputs,)`` that goes with ``weights`` ``(len(columns), outputs)``."""
        return (self.y - self.x[columns] @ weights) / self.rows


@dataclass(frozen=True)
class _Target:
    """What one call of the original put out at the sampled rows (indices, rising) of all its rows."""

    rows: Tensor
    of: int
    outputs: Tensor


class Calibration:
    """Images, and what the original's layers make of them.

    Args:
        original: the network whose pre-activations the fits aim at; left as it is.
        batches: inputs like the example inputs (tensor, tuple or dict), several images each.
        images: at most so many are used, fewer where a network's activations would not fit into memory.

    Attributes:
        inputs: the images as one batch.
        layers: weight names of the layers that can be fitted, in order of execution.
        normalised: those of them whose output goes straight into a batch norm.

    Raises:
        DataError: fewer than two images.
    """

    def __init__(self, original: nn.Module, batches: Iterable[Any], *, images: int) -> None:
        inputs = _gather(batches, images)
        self.inputs = _first(inputs, _affordable(original, _first(inputs, 2)))
        self._targets: dict[tuple[str, int], _Target] = {}
        watch = Watch(dense_weights(original), self._keep_target)
        run(original, self.inputs, watch)
        self.layers = tuple(dict.fromkeys(name for name, _ in self._targets))
        self.normalised = frozenset(watch.normalised)

    def batches(self, images: int) -> list[Any]:
        """Return at most so many of the images, in batches of equal size, 100 or a little less."""
        count = min(images, count_images(self.inputs))
        parts = -(-count // 100)
        edges = [count * part // parts for part in range(parts + 1)]
        return [_slice(self.inputs, start, stop) for start, stop in pairwise(edges)]

    def last_call(self, layer: str) -> int:
        """Return the number of the last call with this weight (0 unless it is shared)."""
        return max(number for name, number in self._targets if name == layer)

    def is_centred(self, call: Contraction) -> bool:
        """Tell whether the mean of a layer's output is free: it has a bias, or a batch norm takes the mean away."""
        return call.bias is not None or call.weight_name in self.normalised

    def moments(self, call: Contraction, outputs: NDArray[np.int64]) -> Moments | None:
        """Return the moments of a call in a shrunk network; ``None`` where it does not correspond to the original's.

        Args:
            call: its input may have lost channels.
            outputs: which outputs of the original the layer still has.

        Raises:
            NonFinite: activations are not finite.
        """
        target = self._targets.get((call.weight_name, call.number))
        if target is None or target.of != call.rows:
            return None
        wanted = target.outputs[:, torch.from_numpy(outputs).to(target.rows.device)].double()
        columns = call.weight[0].numel()
        xx, xy, x = (wanted.new_zeros(shape) for shape in ((columns, columns), (columns, len(outputs)), (columns,)))
        start = 0
        for piece in call.input_rows(target.rows):
            goal = wanted[start : start + len(piece)].to(piece.dtype)
            start += len(piece)
            xx += piece.T @ piece
            xy += piece.T @ goal
            x += piece.sum(0, dtype=torch.float64)
        if not (xx.isfinite().all() and xy.isfinite().all()):
            raise NonFinite(f"The activations at {call.weight_name} are not finite on the calibration images.")
        return Moments(xx, xy, wanted.square().sum(0), x, wanted.sum(0), start)

    def _keep_target(self, call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        output = compute()
        if call.weight[0].numel() <= _LARGEST_FAN_IN:
            rows = _sample(call)
            self._targets[call.weight_name, call.number] = _Target(rows, call.rows, call.output_rows(output, rows))
        return output


def dense_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that may be weights of a dense layer, by name; shared ones under their first name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.dim() >= 2}


def run(module: nn.Module, inputs: Any, watch: Watch) -> None:
    """Run ``module`` in eval mode on ``inputs`` under ``watch``, until its visitor has finished."""
    with restored_modes(module), torch.no_grad(), watch, suppress(Finished):
        module.eval()
        call_model(module, inputs)


def _affordable(original: nn.Module, inputs: Any) -> int:
    """Return how many images fit into memory as one batch, judged by the layers' inputs and outputs."""
    largest = 1

    def look(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        nonlocal largest
        output = compute()
        largest = max(largest, 2 * (call.input.nbytes + output.nbytes))
        return output

    run(original, inputs, Watch(dense_weights(original), look))
    return max(2, int(_ACTIVATION_BYTES * count_images(inputs) / largest))


def count_images(inputs: Any) -> int:
    """Return the length of the first axis of the first tensor in ``inputs``."""
    if isinstance(inputs, Tensor):
        return len(inputs)
    parts = inputs.values() if isinstance(inputs, Mapping) else inputs
    return max((count_images(part) for part in parts if isinstance(part, Tensor | Mapping | tuple)), default=0)


def _sample(call: Contraction) -> Tensor:
    """Return which rows of a call are used: one at random from each of equal intervals."""
    wanted = max(_ROWS, _ROWS_PER_COLUMN * call.weight[0].numel())
    if call.rows <= wanted:
        return torch.arange(call.rows, device=call.input.device)
    generator = torch.Generator().manual_seed(zlib.crc32(f"{call.weight_name}#{call.number}".encode()))
    jitter = torch.rand(wanted, generator=generator, dtype=torch.float64)
    rows = ((torch.arange(wanted) + jitter) * (call.rows / wanted)).long().clamp(max=call.rows - 1)
    return rows.to(call.input.device)


def _gather(batches: Iterable[Any], images: int) -> Any:
    """Return the first ``images`` of ``batches`` as one batch."""
    parts, count = [], 0
    for batch in batches:
        parts.append(batch)
        count += count_images(batch)
        if count >= images:
            break
    if count < 2:
        raise DataError(f"Calibration needs 2 images or more, got {count}: pass batches of inputs with several images.")
    return _first(_concatenate(parts), images)


def _concatenate(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(parts)
    if isinstance(first, Mapping):
        return {key: _concatenate([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple | list):
        return tuple(_concatenate(list(column)) for column in zip(*parts, strict=True))
    return first


def _first(inputs: Any, count: int) -> Any:
    return _slice(inputs, 0, count)


def _slice(inputs: Any, start: int, stop: int) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[start:stop]
    if isinstance(inputs, Mapping):
        return {key: _slice(value, start, stop) for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(_slice(value, start, stop) for value in inputs)
    return inputs
