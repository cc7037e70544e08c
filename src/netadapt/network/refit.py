"""Choose units by backward elimination and re-fit the layers that consume them by least squares (DESIGN, section 9).

`LeastSquaresRefit` is the `FilterChoice` for proposals; `refit_sequential` cuts many groups at once, for one-shot and
uniform networks. Far better starting points than norms: the consumers learn to make do with what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netadapt.errors import NonFinite
from netadapt.network.contractions import Contraction, Watch
from netadapt.network.elimination import System, removal_order
from netadapt.network.importance import Places, check_width, parameters_there, rank_by_norm
from netadapt.network.moments import Calibration, Finished, Moments, count_images, dense_weights, run
from netadapt.network.network import Network
from netadapt.network.norm_shift import SHIFT_IMAGES, NormShift

_log = logging.getLogger("netadapt")
# Moments of several layers are gathered in one pass over the images as long as they take less than this.
_MOMENT_BYTES = 2e9


@dataclass(frozen=True)
class _Layer:
    """What is known of one consumer in the prepared module."""

    moments: Moments
    centred: bool
    weights: Tensor  # (outputs, d), what the ridge pulls towards
    bias: str | None  # its name


class LeastSquaresRefit:
    """Keep the units that the others can replace least, and re-fit the weights of their consumers.

    The order of removal is nested, so that one elimination serves all widths of a group. A group without a dense
    consumer (none at all, grouped convolutions, a fan-in above 6144) is ordered by norm instead. Deterministic.

    Args:
        network: the trace of the original.
        original: a module of the original's widths; its pre-activations on the images are the target.
        batches: calibration inputs like the example inputs, training images; read once, here.
        images: how many to use at most.
        ridge: of the least squares, relative to the mean diagonal of the inputs' covariance; it pulls towards the
            weights as they are, and grows where samples are few.
        saw: told how many images a network has just seen, whenever one has but for the original's one pass here.

    Raises:
        DataError: fewer than two images.
    """

    def __init__(
        self,
        network: Network,
        original: nn.Module,
        batches: Iterable[Any],
        *,
        images: int = 800,
        ridge: float = 1e-2,
        saw: Callable[[int], None] = lambda images: None,
    ) -> None:
        self._network = network
        self._calibration = Calibration(original, batches, images=images)
        self._ridge = ridge
        self._saw = saw
        self._images = count_images(self._calibration.inputs)
        self.prepare(original)

    def prepare(self, module: nn.Module) -> None:
        """See `FilterChoice`; statistics are gathered when they are first needed."""
        self._module = module
        self._places = Places(self._network, module)
        self._orders: dict[str, tuple[int, ...]] = {}
        self._layers: dict[str, _Layer] = {}
        self._asked: set[str] = set()
        self._shift: NormShift | None = None

    def choose(self, group: str, width: int) -> tuple[int, ...]:
        """See `FilterChoice`.

        Raises:
            ConfigError: a width that the group cannot be shrunk to.
            NonFinite: activations are not finite.
        """
        units = self._places.units(group)
        check_width(self._network.group(group), width, len(units))
        if not width:  # its block goes
            return ()
        removed = self.removal_order(group)[: len(units) - width]
        return tuple(int(unit) for unit in np.setdiff1d(units, removed))

    def removal_order(self, group: str) -> tuple[int, ...]:
        """Return all units of ``group`` that the prepared module has, the most dispensable first.

        Args:
            group: name of a group.
        """
        if group not in self._orders:
            self._orders[group] = self._eliminate(group)
        return self._orders[group]

    def apply(self, kept: Mapping[str, Sequence[int]]) -> nn.Module:
        """See `FilterChoice`; batch-norm statistics are re-estimated on the images too.

        One group: its consumers are fitted on the prepared module's statistics, without another pass over the
        images. Several groups: one consumer after the other, see `refit_sequential`.

        Raises:
            NonFinite: activations or the new weights are not finite.
        """
        if self._shift is None:
            self._shift = NormShift(self._network, self._module, self._calibration.batches(SHIFT_IMAGES))
            self._saw(self._shift.images)
        self._saw(self._shift.images)
        if len(kept) > 1:
            self._saw(self._images)
            return _refit_in_order(self._network, kept, self._module, self._calibration, self._ridge, self._shift)
        module = self._network.shrink(kept, weights_of=self._module)
        places, there = Places(self._network, module), parameters_there(module)
        for name in self._gathered(*kept):
            if name in there:  # not where its block is gone
                self._fit_from_moments(module, places, name)
        self._shift.apply(module)
        return module

    def _fit_from_moments(self, module: nn.Module, places: Places, name: str) -> None:
        """Re-fit one consumer, which may have lost outputs too."""
        weight = module.get_parameter(name)
        before, kernel = self._module.get_parameter(name), weight[0, 0].numel()
        columns = _flat(np.searchsorted(self._places.present(name, 1), places.present(name, 1)), kernel)
        outputs = np.searchsorted(self._places.present(name, 0), places.present(name, 0))
        layer, rows = self._layers[name], torch.from_numpy(outputs).to(before.device)
        moments = layer.moments.part(rows)
        kept = torch.from_numpy(columns).to(before.device)
        solution = moments.system(self._ridge, layer.centred, layer.weights[rows]).solve(kept)
        bias = None if layer.bias is None else module.get_parameter(layer.bias)
        _write(name, weight, bias, solution, moments.bias(solution, kept))

    def _eliminate(self, group: str) -> tuple[int, ...]:
        units = self._places.units(group)
        names = self._gathered(group)
        if not names:
            _log.info("%s has no consumer that can be re-fitted: units ordered by norm", group)
            return tuple(rank_by_norm(self._network, self._module, group)[::-1])
        order = removal_order([self._system(name) for name in names], [self._columns(group, name) for name in names])
        last = set(range(len(units))) - set(order)
        return tuple(int(units[index]) for index in (*order, *last))

    def _system(self, name: str) -> System:
        layer = self._layers[name]
        normalised = name in self._calibration.normalised
        return layer.moments.system(self._ridge, layer.centred, layer.weights, normalised=normalised)

    def _columns(self, group: str, name: str) -> Tensor:
        """Return ``(units, entries)``: the columns of the flattened weight ``name`` that belong to each unit."""
        weight = self._module.get_parameter(name)
        entries = self._places.entries(group, name, "input", 1)
        columns = [_flat(row, weight[0, 0].numel()) for row in entries]
        return torch.from_numpy(np.stack(columns)).to(weight.device)

    def _gathered(self, group: str) -> list[str]:
        """Return the consumers of ``group`` whose moments are known; gather them first where they are not.

        One pass takes along as many of the layers that come after as memory allows: they will be asked for next.
        """
        there = parameters_there(self._module)
        layers = [name for name in self._calibration.layers if name in there]
        consumers = [name for name in _consumers(self._network, [group]) if name in layers]
        if not self._asked.issuperset(consumers):
            start = layers.index(consumers[0])
            wanted: dict[str, Tensor] = {}
            size = 0
            for name in dict.fromkeys((*consumers, *layers[start:], *layers[:start])):
                weight = self._module.get_parameter(name)
                size += 8 * weight[0].numel() * (weight[0].numel() + len(weight))
                if name in consumers or size < _MOMENT_BYTES:
                    wanted[name] = weight
            self._layers = _gather_layers(self._module, self._places, self._calibration, wanted)
            self._saw(self._images)
            self._asked = set(wanted)
        return [name for name in consumers if name in self._layers]


def refit_sequential(
    network: Network,
    kept: Mapping[str, Sequence[int]],
    weights_of: nn.Module | None,
    original: nn.Module,
    batches: Iterable[Any],
    *,
    images: int = 800,
    ridge: float = 1e-2,
) -> nn.Module:
    """Shrink many groups at once and re-fit every consumer in order of execution.

    Each consumer is fitted on what the partly re-fitted network before it really gives, so that it makes up for the
    errors of earlier layers; all in one pass over the images. Batch-norm statistics are re-estimated on the way.

    Args:
        network: the trace of the original.
        kept: units to keep by group, rising indices of the original.
        weights_of: the module to shrink, itself perhaps shrunk; ``None`` for the original's weights.
        original: a module of the original's widths; its pre-activations are the target.
        batches: calibration inputs like the example inputs.
        images: how many to use at most.
        ridge: see `LeastSquaresRefit`.

    Raises:
        DataError: fewer than two images.
        NonFinite: activations or the new weights are not finite.
    """
    calibration = Calibration(original, batches, images=images)
    source = network.model if weights_of is None else weights_of
    shift = NormShift(network, source, calibration.batches(SHIFT_IMAGES))
    return _refit_in_order(network, kept, source, calibration, ridge, shift)


def _refit_in_order(
    network: Network,
    kept: Mapping[str, Sequence[int]],
    source: nn.Module,
    calibration: Calibration,
    ridge: float,
    shift: NormShift,
) -> nn.Module:
    module = network.shrink(kept, weights_of=source)
    places, before = Places(network, module), Places(network, source)
    cut = [group for group in kept if len(places.units(group)) < len(before.units(group))]
    changed = set(_consumers(network, cut))

    def visit(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        # a weight that is used again keeps the fit of its first use
        if call.weight_name in changed and call.number == 0:
            moments = calibration.moments(call, places.present(call.weight_name, 0))
            if moments is not None:
                system = moments.system(ridge, calibration.is_centred(call), call.weight.flatten(1))
                columns = torch.arange(len(system.gram), device=system.gram.device)
                solution = system.solve(columns)
                _write(call.weight_name, call.weight, call.bias, solution, moments.bias(solution, columns))
        return compute()

    run(module, calibration.inputs, Watch(dense_weights(module), visit))
    shift.apply(module)
    return module


def _gather_layers(
    module: nn.Module, places: Places, calibration: Calibration, wanted: Mapping[str, Tensor]
) -> dict[str, _Layer]:
    """Return what is to be known of the layers ``wanted`` (weights by name) in ``module`` as it is."""
    gathered: dict[str, _Layer] = {}
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    last = max(wanted, key=calibration.layers.index)
    last_call = (last, calibration.last_call(last))

    def visit(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        name = call.weight_name
        moments = calibration.moments(call, places.present(name, 0))
        if moments is not None:
            earlier = gathered.get(name)
            moments = moments if earlier is None else earlier.moments + moments
            bias = None if call.bias is None else names[id(call.bias)]
            gathered[name] = _Layer(moments, calibration.is_centred(call), call.weight.detach().flatten(1), bias)
        if (name, call.number) == last_call:
            raise Finished
        return compute()

    run(module, calibration.inputs, Watch(wanted, visit))
    return gathered


def _write(name: str, weight: Tensor, bias: Tensor | None, solution: Tensor, constant: Tensor) -> None:
    """Overwrite a layer's parameters by ``solution`` ``(d, outputs)`` and ``constant`` ``(outputs,)``.

    Raises:
        NonFinite: they are not finite in the parameters' own precision.
    """
    with torch.no_grad():
        weight.copy_(solution.T.reshape(weight.shape))
        if bias is not None:
            bias.copy_(constant)
    if not (weight.isfinite().all() and (bias is None or bias.isfinite().all())):
        raise NonFinite(f"The re-fitted weights of {name} are not finite; raise the ridge.")


def _flat(entries: np.ndarray[Any, np.dtype[np.int64]], kernel: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the columns of a flattened weight for ``entries`` of its second axis, in the same order."""
    return (entries[:, None] * kernel + np.arange(kernel)).ravel()


def _consumers(network: Network, groups: Iterable[str]) -> tuple[str, ...]:
    """Return the weights that sum over units of ``groups`` along their second axis, as dense layers do."""
    names = (use.tensor for g in groups for use in network.group(g).axes if use.role == "input" and use.axis == 1)
    return tuple(dict.fromkeys(names))
