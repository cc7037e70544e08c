"""The elimination against brute force: solve every candidate system anew."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from netadapt.errors import NonFinite
from netadapt.network.elimination import System, removal_order


def make(seed: int, units: int, entries: int, outputs: int, rows: int = 60) -> tuple[System, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    d = units * entries
    x = torch.randn(rows, d, generator=generator, dtype=torch.float64)
    x = x @ (torch.eye(d, dtype=torch.float64) + 0.4 * torch.randn(d, d, generator=generator, dtype=torch.float64))
    y = x @ torch.randn(d, outputs, generator=generator, dtype=torch.float64) * (1 + 9 * (seed % 2))
    gram = x.T @ x + 1e-3 * torch.eye(d, dtype=torch.float64)
    columns = torch.randperm(d, generator=generator).reshape(units, entries)
    return System(gram, x.T @ y, y.square().sum(0) * outputs), columns


def loss(system: System, columns: Tensor) -> float:
    """The regularised squared error, each output's relative to its energy, up to a constant, at the best weights."""
    if not len(columns):
        return 0.0
    weights = torch.linalg.solve(system.gram[columns][:, columns], system.target[columns])
    return -float((weights * system.target[columns] / system.energy).sum())


def brute_force(systems: list[System], columns: list[Tensor], minimum: int) -> list[int]:
    alive, order = list(range(len(columns[0]))), []
    while len(alive) > minimum:
        costs = []
        for unit in alive:
            rest = [other for other in alive if other != unit]
            costs.append(sum(loss(s, c[rest].flatten()) for s, c in zip(systems, columns, strict=True)))
        order.append(alive.pop(costs.index(min(costs))))
    return order


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 9), st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=2))
def test_order_is_that_of_brute_force(seed: int, units: int, entries: list[int]) -> None:
    made = [make(seed + i, units, b, 3 + i) for i, b in enumerate(entries)]
    systems, columns = [system for system, _ in made], [c for _, c in made]
    assert removal_order(systems, columns) == brute_force(systems, columns, 1)


def test_panels_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    system, columns = make(3, 40, 2, 5, rows=200)
    whole = removal_order([system], [columns])
    monkeypatch.setattr("netadapt.network.elimination._PANEL_COLUMNS", 6)
    assert removal_order([system], [columns]) == whole
    assert whole == brute_force([system], [columns], 1)


def test_order_is_nested_and_stops_at_the_minimum() -> None:
    system, columns = make(1, 12, 1, 4)
    order = removal_order([system], [columns])
    assert len(order) == len(set(order)) == 11
    assert removal_order([system], [columns], minimum=5) == order[:7]
    assert removal_order([system], [columns], minimum=12) == []


def test_inputs_outside_the_group_are_never_removed_but_can_take_over() -> None:
    x = torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.cat([x, x[:, :1]], 1)  # column 3, outside the group, is a copy of unit 0
    gram = x.T @ x + 1e-6 * torch.eye(4, dtype=torch.float64)
    system = System(gram, x.T @ (x @ torch.tensor([[5.0], [1.0], [1.0], [0.0]], dtype=torch.float64)), torch.ones(1))
    assert removal_order([system], [torch.tensor([[0], [1], [2]])])[0] == 0


def test_a_redundant_unit_goes_first_and_only_once() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    x = torch.cat([x, (x[:, 1:2] + x[:, 2:3]), x[:, 4:5]], 1)  # unit 5 is a sum of two, unit 6 a copy of unit 4
    gram = x.T @ x + 1e-8 * torch.eye(7, dtype=torch.float64)
    target = x.T @ (x @ torch.randn(7, 4, generator=generator, dtype=torch.float64))
    order = removal_order([System(gram, target, torch.ones(4))], [torch.arange(7)[:, None]])
    assert {bool(unit in (4, 6)) for unit in order[:2]} == {True, False}
    assert next(unit for unit in order[:2] if unit not in (4, 6)) in (1, 2, 5)


def test_a_singular_system_is_refused() -> None:
    with pytest.raises(NonFinite, match="raise the ridge"):
        removal_order(
            [System(torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, 1), torch.ones(1))], [torch.eye(2).long()]
        )
