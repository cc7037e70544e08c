"""Proof by values: the shrunk network must equal the original with the removed units masked at their consumers.

All groups are cut at once with different cuts, in eval and train mode, on the model and inputs of `bench.py`. Called by
`Network.prove`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from netadapt.network import surgery, twins
from netadapt.network.bench import SHAPES_ONLY, Bench, distance, outputs_of
from netadapt.network.groups import kin
from netadapt.network.source import SourceLine, line_of_error
from netadapt.network.stand_in import batch_of, telling

if TYPE_CHECKING:
    from netadapt.network.network import Network
    from netadapt.network.structure import ChannelGroup

logger = logging.getLogger("netadapt")

_Outputs = Mapping[str, list[Tensor]]  # by mode

SINGLE = 2  # the attempt with one unit of every group
# Of the effect of the masking, of the outputs: instance norms of nearly constant channels amplify rounding to 4e-12.
RELATIVE, ABSOLUTE = 1e-7, 1e-11
_FEW, _SHARE = 16, 24  # of what is expensive to run: so many units, or that part of them; a quarter of few
_STRETCHED, _ENDED = 8, 16  # units of a group from which on the first cut goes by stretches, and by its ends


@dataclass(frozen=True)
class Failure:
    """Why a group cannot be cut.

    Attributes:
        reason: one clause.
        line: the user's line that failed, if one did.
        stops: the mode in which the shrunk network does not run at all, if it is that.
    """

    reason: str
    line: SourceLine | None = None
    stops: str = ""


@dataclass(frozen=True)
class Proof:
    """What was checked by values.

    Attributes:
        failures: by group, for groups whose removal does not work.
        modes: ``eval`` and, if the module can be trained on the example, ``train`` (``train, shapes only`` if its
            outputs are random even with dropout off).
        batch: the batch size used.
        notes: what could not be checked, and why.
        narrow: groups that cannot be cut to a single unit, e.g. because ``forward`` squeezes all dimensions of size 1.
    """

    failures: dict[str, Failure] = field(default_factory=dict)
    modes: tuple[str, ...] = ()
    batch: int = 0
    notes: tuple[str, ...] = ()
    narrow: frozenset[str] = frozenset()


def difference(
    network: Network, kept: surgery.Kept, module: nn.Module, shrunk: nn.Module | None = None
) -> tuple[float, float]:
    """Return (largest difference between shrunk and masked ``module``, largest output) in float64.

    The inputs are the example's; random ones of their shape where those are all one number (zeros hide everything).
    """
    inputs = tree_map(telling, network.example_inputs)
    whole = copy.deepcopy(module).double()
    smaller = surgery.shrink(network, kept, module) if shrunk is None else copy.deepcopy(shrunk)
    with twins.masked(network, whole, kept):
        expected = outputs_of(whole, inputs)
    return distance(expected, outputs_of(smaller.double(), inputs)), _largest(expected)


def prove(network: Network, bench: Bench, *, first_passed: bool = False) -> Proof:
    """Check every group; a failure is narrowed down to groups that cause it, and the others are to be proved again.

    Args:
        network: whose groups are checked.
        bench: of that network.
        first_passed: the attempt with random cuts was made already, and all groups passed.
    """
    if not network.groups:
        return Proof()
    failures = {} if first_passed else _culprits(bench, network.groups, 0)
    if not failures:
        bench = bench.narrower or bench
        failures = _culprits(bench, network.groups, 1)
        bench = bench if failures else bench.narrower or bench
    for note in bench.notes:
        logger.info("proof of %s: %s", type(network.model).__name__, note)
    narrow = frozenset() if failures else _narrow(bench)
    return Proof(failures, bench.covered, batch_of(bench.inputs), tuple(bench.notes), narrow)


def _narrow(bench: Bench) -> frozenset[str]:
    """Return the groups that need two units: what a norm makes of one alone is the same for every input."""
    exact = [g for g in bench.network.groups if not g.inexact]
    normalised = {g.name for g in bench.network.groups if g.inexact}
    return frozenset(normalised.union(_culprits(bench, exact, SINGLE)))


def _culprits(bench: Bench, groups: Sequence[ChannelGroup], attempt: int, *, runs_in: str = "") -> dict[str, Failure]:
    """Return the groups that fail and why. Where it is that all together do not run, no values are looked at."""
    failure = failure_of(bench, groups, attempt, runs_in=runs_in) if groups else None
    if failure is None:
        return {}
    if len(groups) == 1:
        return {groups[0].name: failure}
    half = len(groups) // 2
    alike = sorted(groups, key=lambda group: kin(group.name))  # repeated blocks fail for the same reason
    halves = alike[:half], alike[half:]
    found = {k: v for part in halves for k, v in _culprits(bench, part, attempt, runs_in=failure.stops).items()}
    together = replace(failure, reason=f"only together with others, {failure.reason}")
    return found or {g.name: together for g in groups}


def _cut(group: ChannelGroup, units: Sequence[int], attempt: int, number: int, thrifty: bool) -> tuple[int, ...]:
    """Return units to keep: first one of each of many stretches, then a run at the beginning, then one.

    What fails with a single unit only has a minimum of two: no attempt but the last keeps less. Of ``units``, what is
    left after the attempts before, the first attempt leaves three, for the next ones to have something to remove.

    Args:
        group: of the network.
        units: which it still has.
        attempt: 0, 1 or `SINGLE`.
        number: of the group: seed of the random part.
        thrifty: few stretches in the first attempt.
    """
    width, rng = len(units), np.random.default_rng([number, len(units)])
    if attempt == SINGLE:
        return (units[width // 2],)
    if attempt == 1:
        return tuple(units[: max(min(2, group.width - 1), width * 2 // 5)])
    if thrifty:
        count = max(min(4, group.width - 1), width // _SHARE, min(width // 4, _FEW))
    else:
        fewest = min(3, group.width - 1)
        count = int(rng.integers(max(fewest, width // 4), max(fewest, width // 2) + 1))
    return tuple(units[place] for place in _one_of_each_stretch(width, count, rng))


def _one_of_each_stretch(width: int, count: int, rng: np.random.Generator) -> list[int]:
    """Return ``count`` of ``width`` places, ascending, drawn anew for every group.

    Units that were not known to go together are so cut apart. Where groups are not small the very first place goes and
    the very last stays: what ``forward`` does to the first place, the last one or the last quarter of all moves with no
    unit, and the kept ones show it. Small groups have few ways to be cut; for any two to be cut unlike, all are needed.
    """
    places = np.arange(width) if width >= _STRETCHED else rng.permutation(width)
    stretches = np.array_split(places, count)
    if width >= _ENDED:
        stretches[0], stretches[-1] = stretches[0][1:], stretches[-1][-1:]
    return sorted(int(rng.choice(stretch)) for stretch in stretches)


def failure_of(bench: Bench, groups: Sequence[ChannelGroup], attempt: int, *, runs_in: str = "") -> Failure | None:
    """Return why the groups cannot be cut together, ``None`` if they can.

    Args:
        bench: of the network.
        groups: some of the network's.
        attempt: 0, 1 or `SINGLE`.
        runs_in: the only mode to look at, and there only whether the shrunk network runs, whatever its values are.
    """
    exact = [g for g in groups if not g.inexact]
    if exact and len(exact) < len(groups) and (failure := failure_of(bench, exact, attempt, runs_in=runs_in)):
        return failure  # seen better where no twins make channels alike
    network, have = bench.network, surgery.kept_of(bench.network, bench.model)
    classes = {g.name: twins.classes_of(g.name, g.width) for g in groups if g.inexact}
    if few := [name for name, found in classes.items() if found.max() + 1 < twins.FEWEST_CLASSES]:
        return Failure(f"{network.group(few[0]).width} units cannot be copies of {twins.FEWEST_CLASSES} or more")
    kept = {g.name: _cut(g, have[g.name], attempt, i, bench.expensive) for i, g in enumerate(exact)}
    kept |= {name: twins.one_of_each(found, last=attempt > 0) for name, found in classes.items()}
    modes = (runs_in,) if runs_in else bench.modes if attempt == 0 else ("eval",)
    got, mode = dict[str, list[Tensor]](), ""
    try:
        with twins.twinned(network, bench.model, classes):
            shrunk = surgery.shrink(network, kept, bench.model, borrow=True)
            for mode in modes:
                got[mode] = bench.outputs(shrunk, mode)
            if runs_in:
                return None
            mode = ""
            here = replace(bench, whole={}) if classes else bench  # with copies of units the whole is another one
            if failure := _difference_in(here, kept, got):
                return failure
    except Exception as error:  # noqa: BLE001  the user's forward may raise anything on other sizes
        first = str(error).strip().splitlines()[:1]
        return Failure(f"{type(error).__name__}: {first[0] if first else ''}", line_of_error(error), mode)
    if len(groups) == len(network.groups) and not classes:
        # what equals the masked original stands for it from now on: it costs less to run
        bench.narrower = replace(bench, model=shrunk, whole=got, narrower=None)
    return None


def _difference_in(bench: Bench, kept: surgery.Kept, got: _Outputs) -> Failure | None:
    """Compare what the shrunk model gives with what the masked one does, by mode.

    Args:
        bench: of the model with all units.
        kept: which were kept.
        got: what the shrunk one gives.
    """
    copies = any(bench.network.group(name).inexact for name in kept)
    for mode in got:
        with twins.masked(bench.network, bench.model, kept, sparing=bench.expensive and not copies):
            expected = bench.outputs(bench.model, mode)
        if [t.shape for t in got[mode]] != [t.shape for t in expected]:
            return Failure(f"outputs of another shape in {mode} mode: a size is written into forward")
        gap, limit = distance(expected, got[mode]), ABSOLUTE * _largest(expected)
        if mode == SHAPES_ONLY or (gap <= limit and not copies):
            continue  # without what the whole gives, which is expensive to know
        effect = distance(bench.outputs_of_whole(mode), expected)
        if effect == 0 and copies:
            return Failure(f"copies hide what a removal changes in {mode} mode")
        if not gap <= limit + RELATIVE * effect:
            return Failure(f"values differ from the masked network in {mode} mode: a size is written into forward")
    return None


def _largest(tensors: Sequence[Tensor]) -> float:
    return max((float(t.abs().max()) for t in tensors if t.numel()), default=0.0)
