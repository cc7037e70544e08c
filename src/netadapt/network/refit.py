"""Choose units by backward elimination and re-fit the layers that consume them by least squares (DESIGN, section 9).

`LeastSquaresRefit` is the `FilterChoice` for proposals; `refit_sequential` cuts many groups at once, for one-shot and
uniform networks. Far better starting points than norms: the consumers learn to make do with what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netadapt.errors import NonFinite
from netadapt.network.contractions import Contraction, Watch
from netadapt.network.elimination import System, removal_order
from netadapt.network.importance import check_width, current_units, positions, present_entries, rank_by_norm
from netadapt.network.moments import Calibration, Finished, Moments, dense_weights, run
from netadapt.network.network import Network

_log = logging.getLogger("netadapt")
# Moments of several layers are gathered in one pass over the images as long as they take less than this.
_MOMENT_BYTES = 2e9


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

    Raises:
        DataError: fewer than two images.
    """

    def __init__(
        self, network: Network, original: nn.Module, batches: Iterable[Any], *, images: int = 800, ridge: float = 1e-2
    ) -> None:
        self._network = network
        self._calibration = Calibration(original, batches, images=images)
        self._ridge = ridge
        self.prepare(original)

    def prepare(self, module: nn.Module) -> None:
        """See `FilterChoice`; statistics are gathered when `choose` first needs them."""
        self._module = module
        self._kept = self._network.kept_of(module)
        self._orders: dict[str, tuple[int, ...]] = {}
        self._systems: dict[str, System] = {}

    def choose(self, group: str, width: int) -> tuple[int, ...]:
        """See `FilterChoice`.

        Raises:
            NonFinite: activations are not finite.
        """
        units = current_units(self._network, self._module, group)
        check_width(group, width, len(units))
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

        Raises:
            NonFinite: activations or the new weights are not finite.
        """
        return _shrink_and_fit(self._network, kept, self._module, self._calibration, self._ridge)

    def _eliminate(self, group: str) -> tuple[int, ...]:
        units = current_units(self._network, self._module, group)
        consumers = [name for name in _consumers(self._network, [group]) if name in self._calibration.layers]
        self._require(consumers)
        systems = [(name, self._systems[name]) for name in consumers if name in self._systems]
        if not systems:
            _log.info("%s has no consumer that can be re-fitted: units ordered by norm", group)
            return tuple(rank_by_norm(self._network, self._module, group)[::-1])
        columns = [self._columns(group, name, units) for name, _ in systems]
        order = removal_order([system for _, system in systems], columns)
        last = set(range(len(units))) - set(order)
        return tuple(int(units[index]) for index in (*order, *last))

    def _columns(self, group: str, name: str, units: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        """Return ``(units, entries)``: the columns of the flattened weight ``name`` that belong to each unit."""
        weight = self._module.get_parameter(name)
        present = present_entries(self._network, self._kept, name, 1)
        uses = [use for use in self._network.group(group).axes if use.tensor == name and use.role == "input"]
        entries = np.concatenate([positions(present, use.indices[units]) for use in uses], axis=1)
        kernel = weight[0, 0].numel()
        columns = entries[:, :, None] * kernel + np.arange(kernel)
        return torch.from_numpy(columns.reshape(len(units), -1)).to(weight.device)

    def _require(self, consumers: Sequence[str]) -> None:
        """Gather the systems of ``consumers`` and, as memory allows, of the layers that come after them."""
        if not consumers or all(name in self._systems for name in consumers):
            return
        layers = self._calibration.layers
        start = layers.index(consumers[0])
        wanted: dict[str, Tensor] = {}
        size = 0
        for name in dict.fromkeys((*consumers, *layers[start:], *layers[:start])):
            weight = self._module.get_parameter(name)
            size += 8 * weight[0].numel() * (weight[0].numel() + len(weight))
            if name in consumers or size < _MOMENT_BYTES:
                wanted[name] = weight
        self._systems = _gather_systems(self._network, self._module, self._kept, self._calibration, wanted, self._ridge)


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
    return _shrink_and_fit(network, kept, weights_of, calibration, ridge)


def _shrink_and_fit(
    network: Network,
    kept: Mapping[str, Sequence[int]],
    weights_of: nn.Module | None,
    calibration: Calibration,
    ridge: float,
) -> nn.Module:
    module = network.shrink(kept, weights_of=weights_of)
    source = network.model if weights_of is None else weights_of
    after = network.kept_of(module)
    cut = [g for g in kept if len(current_units(network, module, g)) < len(current_units(network, source, g))]
    changed = set(_consumers(network, cut))

    def visit(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        # a weight that is used again keeps the fit of its first use
        if call.weight_name in changed and call.number == 0:
            moments = calibration.moments(call, _outputs(network, after, call))
            if moments is not None:
                _fit(call, moments, ridge, normalised=call.weight_name in calibration.normalised)
        return compute()

    run(module, calibration.inputs, Watch(dense_weights(module), visit, refresh=True))
    return module


def _fit(call: Contraction, moments: Moments, ridge: float, *, normalised: bool) -> None:
    """Overwrite weight and bias of ``call``.

    Raises:
        NonFinite: the solution is not finite in the weight's own precision.
    """
    columns = torch.arange(len(moments.xx), device=call.weight.device)
    centred = normalised or call.bias is not None
    weights = moments.system(ridge, centred, call.weight.flatten(1)).solve(columns)
    call.weight.copy_(weights.T.reshape(call.weight.shape))
    if call.bias is not None:
        call.bias.copy_(moments.bias(weights, columns))
    if not (call.weight.isfinite().all() and (call.bias is None or call.bias.isfinite().all())):
        raise NonFinite(f"The re-fitted weights of {call.weight_name} are not finite; raise the ridge ({ridge:g}).")


def _gather_systems(
    network: Network,
    module: nn.Module,
    kept: Mapping[str, Sequence[int]],
    calibration: Calibration,
    wanted: Mapping[str, Tensor],
    ridge: float,
) -> dict[str, System]:
    """Return the normal equations of the layers ``wanted`` (weights by name) in ``module`` as it is."""
    gathered: dict[str, Moments] = {}
    centred: dict[str, bool] = {}
    last = max(wanted, key=calibration.layers.index)
    last_call = calibration.last_call(last)

    def visit(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        moments = calibration.moments(call, _outputs(network, kept, call))
        if moments is not None:
            earlier = gathered.get(call.weight_name)
            gathered[call.weight_name] = moments if earlier is None else earlier + moments
            centred[call.weight_name] = call.bias is not None or call.weight_name in calibration.normalised
        if (call.weight_name, call.number) == (last, last_call):
            raise Finished
        return compute()

    run(module, calibration.inputs, Watch(wanted, visit))
    return {
        name: moments.system(ridge, centred[name], wanted[name].detach().flatten(1))
        for name, moments in gathered.items()
    }


def _outputs(network: Network, kept: Mapping[str, Sequence[int]], call: Contraction) -> Tensor:
    """Return which outputs of the original the layer of ``call`` still has."""
    return torch.from_numpy(present_entries(network, kept, call.weight_name, 0)).to(call.input.device)


def _consumers(network: Network, groups: Iterable[str]) -> tuple[str, ...]:
    """Return the weights that sum over units of ``groups`` along their second axis, as dense layers do."""
    names = (use.tensor for g in groups for use in network.group(g).axes if use.role == "input" and use.axis == 1)
    return tuple(dict.fromkeys(names))
