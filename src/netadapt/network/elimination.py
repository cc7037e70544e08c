"""Backward elimination on normal equations: in which order units leave so that least squares loses least.

Pure linear algebra in float64 on the systems of one group's consumers; called by `refit.py`. In the style of optimal
brain surgeon: the cost of a unit counts what the remaining inputs can make up for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from netadapt.errors import NonFinite

# Columns of downdates that are gathered before they are applied in one matrix product: at least this many, and for
# large systems this part of their size, so that the matrices are rewritten only a few dozen times.
_PANEL_COLUMNS = 64
_PANEL_FRACTION = 12


@dataclass(frozen=True)
class System:
    """Regularised normal equations of one consumer: its weights are ``solve(gram, target)``, transposed.

    Attributes:
        gram: ``(d, d)``, inputs times inputs plus the ridge, positive definite, float64.
        target: ``(d, outputs)``, inputs times wanted outputs (plus ridge times prior).
        energy: ``(outputs,)``, what the squared error of each output is divided by; makes outputs and consumers of
            different scale comparable.
    """

    gram: Tensor
    target: Tensor
    energy: Tensor

    def solve(self, columns: Tensor) -> Tensor:
        """Return the best weights ``(len(columns), outputs)`` when only ``columns`` of the inputs remain.

        Raises:
            NonFinite: the equations have no finite solution.
        """
        gram = self.gram[columns[:, None], columns]
        weights: Tensor = torch.cholesky_solve(self.target[columns], factor(gram))
        return weights


def factor(gram: Tensor) -> Tensor:
    """Return the lower Cholesky factor of ``gram`` ``(..., d, d)``.

    Raises:
        NonFinite: it is not positive definite or not finite.
    """
    lower: Tensor
    lower, info = torch.linalg.cholesky_ex(gram)
    if bool(info.any()) or not bool(lower.isfinite().all()):
        raise NonFinite(
            "The least-squares re-fit has no finite solution: activations are not finite or the ridge is too small. "
            "Check the calibration images and the network's weights, or raise the ridge."
        )
    return lower


def removal_order(systems: Sequence[System], columns: Sequence[Tensor], minimum: int = 1) -> list[int]:
    """Return which units to remove, the cheapest first, until ``minimum`` remain.

    The cost of a unit is summed over consumers and their outputs: the growth of the squared error relative to the
    energy of the wanted output, the diagonal of ``W_u inv(inv(gram)_uu) W_u^T`` over ``energy``, where ``W`` are the
    best weights of what remains. After each removal inverse and weights are downdated, so the order is nested: its
    first ``n`` units are the greedy choice of ``n`` units. Ties go to the lower unit.

    Args:
        systems: one for each consumer.
        columns: for each consumer ``(units, entries)``: the rows of its system that leave with each unit.
        minimum: how many units stay.

    Raises:
        NonFinite: a system is not positive definite.
    """
    states = [_State(system, unit_columns) for system, unit_columns in zip(systems, columns, strict=True)]
    units = len(columns[0])
    alive = torch.ones(units, dtype=torch.bool, device=columns[0].device)
    order: list[int] = []
    for _ in range(units - max(minimum, 0)):
        cost = torch.stack([state.costs() for state in states]).sum(0)
        unit = int(torch.where(alive, cost, torch.inf).argmin())
        alive[unit] = False
        order.append(unit)
        for state in states:
            state.remove(unit)
    return order


class _State:
    """One consumer during the elimination: inverse ``P`` of its gram, ``G`` = weights' inner products, both by column.

    Removing the columns ``B`` of a unit, with ``P_BB = L L^T``, ``V = P_:B L^-T`` and ``C = G_:B L^-T - V S / 2``,
    ``S = L^-1 G_BB L^-T``, leaves ``P - V V^T`` and ``G - C V^T - V C^T``. Only the diagonal blocks (for the costs)
    are kept up to date at once; the rest waits in a panel (as in blocked Cholesky), so that nearly all the arithmetic
    is in large matrix products.
    """

    def __init__(self, system: System, columns: Tensor) -> None:
        lower = factor(system.gram)
        weights = torch.cholesky_solve(system.target, lower)
        self.P: Tensor = torch.cholesky_inverse(lower)
        self.G = weights / system.energy @ weights.T
        self.columns = columns.clone()
        self.kept = torch.ones(len(system.gram), dtype=torch.bool, device=columns.device)
        self.gone = torch.zeros(len(columns), dtype=torch.bool, device=columns.device)
        self._read_blocks()
        self._clear_panel()

    def costs(self) -> Tensor:
        """Return ``(units,)``; of no meaning for units already removed."""
        if self.columns.shape[1] == 1:
            return (self.G_blocks / self.P_blocks).flatten()
        lower, _ = torch.linalg.cholesky_ex(self.P_blocks)
        solved: Tensor = torch.cholesky_solve(self.G_blocks, lower)
        return solved.diagonal(dim1=-2, dim2=-1).sum(-1)

    def remove(self, unit: int) -> None:
        """Take the columns of ``unit`` out."""
        block = self.columns[unit]
        V, C = self.V[:, : self.filled], self.C[:, : self.filled]
        P = self.P[:, block] - V @ V[block].T
        G = self.G[:, block] - C @ V[block].T - V @ C[block].T
        lower = factor(P[block])
        V = torch.linalg.solve_triangular(lower, P.T, upper=False).T
        C = torch.linalg.solve_triangular(lower, G.T, upper=False).T
        S = torch.linalg.solve_triangular(lower, C[block], upper=False)
        C = C - V @ S / 2
        self.V[:, self.filled : self.filled + len(block)] = V
        self.C[:, self.filled : self.filled + len(block)] = C
        self.filled += len(block)
        self.kept[block] = False
        self.gone[unit] = True
        self._downdate_blocks(V, C)
        if self.filled + len(block) > self.V.shape[1]:
            self._flush()

    def _clear_panel(self) -> None:
        entries = self.columns.shape[1]
        panel = max(_PANEL_COLUMNS, len(self.P) // _PANEL_FRACTION, entries)
        self.V, self.C = self.P.new_empty(len(self.P), panel), self.P.new_empty(len(self.P), panel)
        self.filled = 0

    def _downdate_blocks(self, V: Tensor, C: Tensor) -> None:
        V_blocks, C_blocks = V[self.columns], C[self.columns]
        cross = C_blocks @ V_blocks.mT
        self.P_blocks -= V_blocks @ V_blocks.mT
        self.G_blocks -= cross + cross.mT
        # what is left of removed units is rounding error: an identity keeps the arithmetic regular
        identity = torch.eye(self.columns.shape[1], dtype=V.dtype, device=V.device)
        self.P_blocks[self.gone] = identity

    def _flush(self) -> None:
        """Apply the panel and drop the columns that are gone."""
        keep = self.kept.nonzero().flatten()
        V, C = self.V[keep, : self.filled], self.C[keep, : self.filled]
        self.P = self.P[keep][:, keep].addmm_(V, V.T, alpha=-1)
        self.G = self.G[keep][:, keep].addmm_(C, V.T, alpha=-1).addmm_(V, C.T, alpha=-1)
        # removed units keep pointing at some column; their costs are never looked at
        position = (self.kept.cumsum(0) - 1).clamp(min=0)
        self.columns = position[self.columns]
        self.kept = torch.ones(len(keep), dtype=torch.bool, device=keep.device)
        self._read_blocks()
        self._clear_panel()

    def _read_blocks(self) -> None:
        self.P_blocks: Tensor = self.P[self.columns[:, :, None], self.columns[:, None, :]]
        self.G_blocks: Tensor = self.G[self.columns[:, :, None], self.columns[:, None, :]]
        identity = torch.eye(self.columns.shape[1], dtype=self.P.dtype, device=self.P.device)
        self.P_blocks[self.gone] = identity
