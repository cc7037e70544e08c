"""Class `Network`: a trained model with its channel groups, its algebra and its surgery. Made by `trace`."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from netadapt.errors import ModelError, SurgeryError, did_you_mean
from netadapt.network import surgery
from netadapt.network.algebra import Forms, build_layers, count_parameters
from netadapt.network.bench import Bench, outputs_of, prepare
from netadapt.network.blocks import exact_blocks, residual_blocks
from netadapt.network.constants import find_constant, find_input_size
from netadapt.network.followers import Choice, concerned, followers, options, rehearse
from netadapt.network.groups import Grouping, build_groups
from netadapt.network.labels import RANK_PROOF
from netadapt.network.operation import Propagation
from netadapt.network.prove import Failure, Proof, difference, failure_of, prove
from netadapt.network.reads import Reads, Watching
from netadapt.network.stand_in import telling
from netadapt.network.structure import ChannelGroup, Layer, Pinned, within

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Channels:
    """Which unit of which group each channel of an activation belongs to (-1: to none)."""

    names: tuple[str, ...]
    group: Ints
    unit: Ints

    def mask(self, kept: Mapping[str, Sequence[int]]) -> NDArray[np.bool_]:
        """Return which channels stay."""
        mask = np.ones(len(self.group), dtype=bool)
        for index, name in enumerate(self.names):
            mine = self.group == index
            mask[mine] = np.isin(self.unit[mine], kept[name])
        return mask


class Network:
    """A trained model as netadapt sees it.

    Attributes:
        model: the user's module, never changed.
        example_inputs: as given to `trace`: tensor, tuple or dict.
        groups: channel groups in order of execution; the columns of every vector of widths.
        pinned: layers some of whose channels cannot be removed, and why.
        layers: operations that cost something.
        forms: their channel counts as matrices, for estimators.
        shapes: original shapes of all parameters and buffers, by canonical name.
        channels: for modules whose attributes follow from activations, what goes in and out.
        proof: what was checked by values; ``None`` if `trace` was told not to.
        followers: attributes that follow the widths although nobody registered a fixer, by module.
        standardised: weights of which an axis is normalised over in ``forward`` (`twins.py`).
        asked_to_keep: names of the modules that the user asked to keep.
        foreign_record: what ``model`` had lost already when it was traced; it is the original here.
    """

    def __init__(self, model: nn.Module, example_inputs: Any, found: Propagation) -> None:
        self.model, self.example_inputs = model, example_inputs
        self.foreign_record = surgery.record_of(model)
        self.proof: Proof | None = None
        self._found, self._choice = found, Choice()
        self._parameters = [name for name, _ in model.named_parameters()]
        self.shapes = found.shapes
        self.standardised: Set[str] = found.standardised
        self.asked_to_keep: Set[str] = found.asked
        self._rebuild()

    def _rebuild(self) -> None:
        grouping = build_groups(self._found)
        self._group_of = grouping.group_of
        self.groups: tuple[ChannelGroup, ...] = grouping.groups
        self.pinned: tuple[Pinned, ...] = grouping.pinned
        self.layers: tuple[Layer, ...] = build_layers(self._found, grouping)
        self._counts = count_parameters(self._parameters, self._found, grouping)
        self.forms = Forms(self.layers, self._counts, len(self.groups))
        self.channels = {
            name: (self._channels(inputs, grouping), self._channels(outputs, grouping))
            for name, (inputs, outputs) in self._found.channels.items()
        }
        self._options = options(self._found.sizes, grouping)
        self._follow(self._choice)

    def _follow(self, choice: Choice) -> None:
        """Let the attributes that nobody registered a fixer for follow ``choice``."""
        self._choice = choice
        self.followers = followers(self._options, choice, self.model)

    def _channels(self, labels: Tensor, grouping: Grouping) -> Channels:
        atoms = labels.numpy()
        group = np.where(atoms >= 0, grouping.group_of[atoms], -1)
        return Channels(
            tuple(g.name for g in grouping.groups), group, np.where(atoms >= 0, grouping.unit_of[atoms], -1)
        )

    # --- widths ------------------------------------------------------------------------------------------------

    @property
    def unseen(self) -> tuple[str, ...]:
        """Parameters that no operation reads in eval mode, e.g. those of an auxiliary head."""
        return tuple(name for name in self._parameters if name not in self._found.used)

    @property
    def widths(self) -> dict[str, int]:
        """The original width of every group."""
        return {g.name: g.width for g in self.groups}

    def group(self, name: str) -> ChannelGroup:
        """Return a group by name.

        Raises:
            ModelError: there is no such group.
        """
        for group in self.groups:
            if group.name == name:
                return group
        names = [g.name for g in self.groups]
        raise ModelError(f"there is no channel group {name!r}{did_you_mean(name, names)}; groups: {', '.join(names)}")

    def vector(self, widths: Mapping[str, int]) -> Ints:
        """Return ``(groups,)`` widths in the order of `groups`; groups not named keep their full width."""
        for name, width in widths.items():
            group = self.group(name)
            if not group.narrowest <= width <= group.width:
                raise ModelError(f"width {width} of group {name!r} is outside {group.narrowest}..{group.width}")
        return np.array([widths.get(g.name, g.width) for g in self.groups], dtype=np.int64)

    def mapping(self, vector: Sequence[int] | Ints) -> dict[str, int]:
        """Return ``{group: width}`` for ``(groups,)`` widths."""
        return {g.name: int(w) for g, w in zip(self.groups, vector, strict=True)}

    # --- algebra -----------------------------------------------------------------------------------------------

    def macs(self, widths: Mapping[str, int] | None = None) -> int:
        """Return the multiply-accumulates of one call on the example input, at ``widths`` (default: original)."""
        return int(self.macs_of(self.vector(widths or {})[None])[0])

    @property
    def pinned_share(self) -> float:
        """The part, 0 to 1, of the original's multiply-accumulates that is in layers whose cost no group can change."""
        original = self.vector({})[None]
        each = np.array([int(layer.macs(original)[0]) for layer in self.layers], dtype=np.float64)
        fixed = np.array([layer.fixed for layer in self.layers], dtype=bool)
        return float(each[fixed].sum() / max(each.sum(), 1.0))

    def parameters(self, widths: Mapping[str, int] | None = None) -> int:
        """Return the number of parameters at ``widths`` (default: original); shared ones count once."""
        return int(self.parameters_of(self.vector(widths or {})[None])[0])

    def macs_of(self, vectors: Ints) -> Ints:
        """Return the multiply-accumulates ``(m,)`` of ``vectors`` ``(m, groups)``."""
        return self.forms.macs(vectors)

    def parameters_of(self, vectors: Ints) -> Ints:
        """Return the numbers of parameters ``(m,)`` of ``vectors`` ``(m, groups)``."""
        return self.forms.parameters(vectors)

    def activations_of(self, vectors: Ints) -> Ints:
        """Return the elements written by all layers ``(m,)`` of ``vectors`` ``(m, groups)``."""
        return self.forms.activations(vectors)

    # --- surgery -----------------------------------------------------------------------------------------------

    def shrink(self, kept: Mapping[str, Sequence[int]], weights_of: nn.Module | None = None) -> nn.Module:
        """Return a smaller module of the user's own class that has only the units ``kept``.

        Args:
            kept: ascending indices of the *original* network by group; groups not named keep all that there is. None
                at all where a whole block can go (`ChannelGroup.block`).
            weights_of: a shrunk (and tuned) version of this network to take weights from; default the original.

        Raises:
            ModelError: indices that cannot be kept, or ``weights_of`` is no version of this network.
        """
        return surgery.shrink(self, kept, weights_of)

    def kept_of(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        """Return which units of the original network ``module`` still has, for every group."""
        return surgery.kept_of(self, module)

    def widths_of(self, module: nn.Module) -> dict[str, int]:
        """Return the widths of a shrunk module."""
        return {name: len(kept) for name, kept in self.kept_of(module).items()}

    def equals_masked(self, kept: Mapping[str, Sequence[int]], module: nn.Module | None = None) -> float:
        """Return the largest difference, in float64 on the example input, between `shrink` and masking.

        Args:
            kept: as in `shrink`.
            module: whose weights to use; default the original's.
        """
        return difference(self, kept, self.model if module is None else module)[0]

    def verify_shrink(
        self, before: nn.Module, kept: Mapping[str, Sequence[int]], after: nn.Module | None = None
    ) -> None:
        """Check that ``after`` (default: ``shrink(kept, before)``) equals ``before`` with the removed units masked.

        Where units of an inexact group go, values must differ: shapes are compared, and outputs must be finite.

        Raises:
            SurgeryError: it does not.
        """
        have = self.kept_of(before)
        if any(g.inexact and len(kept.get(g.name, have[g.name])) < len(have[g.name]) for g in self.groups):
            return self._verify_outputs(before, self.shrink(kept, before) if after is None else after)
        error, scale = difference(self, kept, before, after)
        if not error <= 1e-9 * max(scale, 1e-30):
            raise SurgeryError(
                f"the shrunk network differs from the masked one by {error:.3g} at outputs up to {scale:.3g}; "
                "this is a defect: please report it with the model"
            )

    def _verify_outputs(self, before: nn.Module, after: nn.Module) -> None:
        inputs = tree_map(telling, self.example_inputs)
        old, new = (outputs_of(copy.deepcopy(module).double(), inputs) for module in (before, after))
        if [t.shape for t in old] != [t.shape for t in new] or not all(bool(t.isfinite().all()) for t in new):
            raise SurgeryError(
                "outputs of the shrunk network are not finite or have another shape; "
                "this is a defect: please report it with the model"
            )

    def prove(self) -> Proof:
        """Prove all groups by values, pin those that fail, and remember what was checked in `proof`."""
        if not self.groups:
            self.proof = Proof()
            return self.proof
        bench = prepare(self)
        passed = failure_of(bench, self.groups, 0) is None
        if bench.presumed and not passed:  # maybe the whole does not accept what a narrow version does
            bench = prepare(self, presume=False)
            passed = failure_of(bench, self.groups, 0) is None
        if not passed:  # maybe some attributes should follow other widths, or none
            choice, failures = rehearse(self._options, [g.name for g in self.groups], self.model, self._trial(bench))
            self._follow(choice)
            self._pin_failures(failures)
        while True:
            proof = prove(self, bench, first_passed=passed)
            passed = False
            if not proof.failures:
                self.proof = proof
                self.groups = tuple(replace(g, minimum=2) if g.name in proof.narrow else g for g in self.groups)
                return proof
            self._pin_failures(proof.failures)

    def offer_blocks(self) -> None:
        """Let whole residual blocks go too: from now on groups know theirs, see `ChannelGroup.block`."""
        found = residual_blocks(self)
        self._set_blocks(found)
        self._set_blocks({group: found[group] for group in exact_blocks(self, list(found))})

    def _set_blocks(self, blocks: Mapping[str, str]) -> None:
        self.groups = tuple(replace(group, block=blocks.get(group.name, "")) for group in self.groups)
        columns = {column: group.block for column, group in enumerate(self.groups) if group.block}
        self.layers = tuple(replace(layer, gate=_gate(layer, columns)) for layer in self.layers)
        self.forms = Forms(self.layers, self._counts, len(self.groups), columns)

    def _trial(self, bench: Bench) -> Callable[[str, Choice], tuple[Failure | None, Reads]]:
        def failure(name: str, choice: Choice) -> tuple[Failure | None, Reads]:
            self._follow(choice)
            watching = Watching(**vars(bench), parts=concerned(self._options, self.groups.index(self.group(name))))
            return failure_of(watching, [self.group(name)], 1), watching.seen

        return failure

    def _pin_failures(self, failures: Mapping[str, Failure]) -> None:
        for name, failure in failures.items():
            self._pin(name, failure)
        if failures:
            self._rebuild()

    def _pin(self, name: str, failure: Failure) -> None:
        """Pin a group that failed the proof, and tell which constant of the source ties it, where that is seen."""
        index = [group.name for group in self.groups].index(name)
        atoms = np.flatnonzero(self._group_of == index)
        reason, where = f"removing its channels does not work: {failure.reason}", failure.line
        constant = find_constant(self._found.sized, atoms, self.model, failure.line)
        if size := find_input_size(failure.line):
            reason = f"tied to {size}, a size of what comes in, in forward (-1 or an attribute would follow); {reason}"
        elif constant is not None:
            reason, where = f"tied to the constant {constant} in forward; {reason}", constant.at
        self._found.atoms.pin(torch.from_numpy(atoms), reason, RANK_PROOF, str(where or ""))

    # --- identity ----------------------------------------------------------------------------------------------

    def structure_hash(self) -> str:
        """Return a hash of groups, layers and input shapes, the same in every session and for all weights."""
        groups = [
            [
                *(g.name, g.width, [[a.tensor, a.axis, a.role, a.indices.tolist()] for a in g.axes]),
                *([g.block] if g.block else []),
            ]
            for g in self.groups
        ]
        layers = [
            [
                x.name,
                x.kind,
                x.operation,
                x.kernel,
                x.stride,
                x.input_size,
                x.output_size,
                x.batch,
                *([f.constant, f.coefficients.tolist()] for f in (x.inputs, x.outputs, x.fan_in)),
            ]
            for x in self.layers
        ]
        shapes = [list(t.shape) for t in torch.utils._pytree.tree_leaves(self.example_inputs) if isinstance(t, Tensor)]
        text = json.dumps([groups, layers, shapes], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def __repr__(self) -> str:
        """Say the sizes in one line."""
        return (
            f"Network({type(self.model).__name__}: {len(self.groups)} groups, {len(self.pinned)} pinned layers, "
            f"{self.macs() / 1e6:.1f} MMAC, {self.parameters() / 1e6:.3f} M parameters)"
        )


def _gate(layer: Layer, blocks: Mapping[int, str]) -> int | None:
    """Return the column of the group whose block a layer is in."""
    return next((column for column, block in blocks.items() if within(layer.name, [block])), None)
