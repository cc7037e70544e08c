from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.network import bench as bench_module
from netadapt.network import surgery, trace
from netadapt.network.bench import prepare
from netadapt.network.prove import failure_of
from netadapt.network.spread import Multiples, Spread, masked_in_use, spread
from netadapt.network.surgery import mask_consumers, masked

WIDE = 1024  # a square of it is big


def drawn(count: int) -> Tensor:
    return torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5


def made(*shape: int) -> Spread:
    weight = spread(shape, drawn)
    assert isinstance(weight, Spread)
    return weight


def memory(module: nn.Module) -> int:
    """Count the numbers that the parameters hold in memory, shared ones once."""
    return sum({p.untyped_storage()._cdata: p.untyped_storage().nbytes() // 8 for p in module.parameters()}.values())


class Attentive(nn.Module):
    """Weights used by their owners, by others, as views, as parts, and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Linear(6, WIDE), nn.Linear(WIDE, WIDE)
        self.twice, self.viewed = nn.Linear(WIDE, WIDE, bias=False), nn.Linear(WIDE, WIDE)
        self.attention = nn.MultiheadAttention(WIDE, 8, batch_first=True)
        self.conv, self.head = nn.Conv1d(WIDE, WIDE, 3, padding=1), nn.Linear(WIDE, 3)
        self.tied = nn.Linear(WIDE, WIDE, bias=False)
        self.tied.weight = self.twice.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(F.relu(self.stem(x)))
        x = self.twice(F.relu(x)) + self.tied(F.silu(x))
        x = F.relu(x @ self.viewed.weight.view(-1, x.shape[-1]).t() + self.viewed.bias)
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.head(F.relu(self.conv(x.transpose(1, 2))).mean(2))


@pytest.fixture(scope="module")
def attentive():
    torch.manual_seed(0)
    return trace(Attentive().eval(), torch.randn(1, 4, 6), prove=False)


def test_no_two_rows_or_columns_are_alike_and_little_memory_is_needed():
    weight = made(2000, 600).detach()
    assert weight.untyped_storage().nbytes() < 0.1 * weight.nbytes
    assert weight.unique(dim=0).shape[0] == 2000 and weight.unique(dim=1).shape[1] == 600
    assert spread((1000, 200), drawn) is None and spread((2_000_000,), drawn) is None
    assert spread((1, 2_000_000), drawn) is None  # one row: nothing overlaps


@pytest.mark.parametrize("masks", [{}, {1: 5}, {0: 3, 1: 2}])
@pytest.mark.parametrize(
    ("shape", "run"),
    [
        ((1500, 900), lambda w: F.linear(made(3, 900 * 1000)[:, :900].detach(), w, torch.ones(1500).double())),
        ((1500, 900), lambda w: torch.einsum("oi,bi->bo", w, torch.ones(2, 900).double())),
        ((1500, 900), lambda w: w.view(-1)[::7] + w.data.flatten()[0]),
        ((600, 300, 3, 3), lambda w: F.conv2d(torch.ones(2, 300, 5, 4).double(), w, padding=1)),
        ((600, 300, 3, 3), lambda w: F.conv2d(torch.ones(300, 5, 4).double(), w, stride=2)),
        ((600, 300, 3, 3), lambda w: F.conv2d(torch.ones(2, 600, 4, 4).double(), w, groups=2, bias=None)),
        ((600, 300, 3, 3), lambda w: F.conv_transpose2d(torch.ones(1, 600, 2, 2).double(), w)),
        ((600, 900), lambda w: F.embedding(torch.tensor([[1, 599]]), w)),
    ],
)
def test_operators_get_what_an_ordinary_masked_tensor_would_give_them(shape, run, masks):
    weight = made(*shape)
    factors = []
    for axis, step in masks.items():
        factor = (torch.arange(shape[axis]) % step > 0).double()
        factors.append(factor.reshape([-1 if dim == axis else 1 for dim in range(len(shape))]))
    plain = math.prod(factors, start=weight.detach().contiguous())
    with masked_in_use(weight, factors):
        got = run(weight)
    assert type(got) is Tensor and torch.allclose(got, run(plain), rtol=1e-12, atol=1e-12)
    assert torch.equal(run(weight), run(weight)) and not weight.factors


def test_tied_viewed_and_projected_weights_are_masked_where_they_are_used(attentive):
    bench = prepare(attentive)
    assert all(isinstance(p, Spread) for p in bench.model.parameters() if p.numel() >= WIDE**2)
    assert memory(bench.model) < 0.15 * sum(p.numel() for p in bench.model.parameters())
    ordinary = surgery.copy_with(bench.model, lambda _, t: t.contiguous())
    kept = {g.name: range(0, g.width, 2) for g in attentive.groups}
    used = {use.tensor for g in attentive.groups for use in g.axes if use.role == "input"}
    assert {"twice.weight", "viewed.weight", "attention.in_proj_weight", "conv.weight"} <= used
    mask_consumers(attentive, ordinary, kept)
    before = bench.outputs(bench.model, "eval")[0]
    with masked(attentive, bench.model, kept):
        got = bench.outputs(bench.model, "eval")[0]
    assert torch.allclose(got, bench.outputs(ordinary, "eval")[0], rtol=1e-11)
    assert not torch.allclose(got, before) and torch.equal(before, bench.outputs(bench.model, "eval")[0])


def test_a_proof_with_big_weights_passes_and_needs_little_memory(attentive):
    bench = prepare(attentive)
    assert failure_of(bench, attentive.groups, 0) is None
    whole, shrunk = (sum(p.numel() for p in m.parameters()) for m in (bench.model, bench.narrower.model))
    assert shrunk < 0.4 * whole and memory(bench.narrower.model) <= shrunk + memory(bench.model)


@pytest.mark.parametrize("expensive_macs", [0, 1e15])
@pytest.mark.parametrize("layer", ["inner", "conv"])
def test_a_wrong_cut_of_big_weights_is_caught(attentive, layer, expensive_macs, monkeypatch):
    monkeypatch.setattr(bench_module, "_EXPENSIVE_MACS", expensive_macs)
    bench, slice_module = prepare(attentive), surgery.slice_module

    def wrong(source, positions, **options):
        rows = dict(positions)
        axis = rows[f"{layer}.weight"][0].copy()
        axis[0] = next(i for i in range(WIDE) if i not in axis)  # one unit of hundreds is another one
        rows[f"{layer}.weight"] = {**rows[f"{layer}.weight"], 0: axis}
        return slice_module(source, rows, **options)

    monkeypatch.setattr(surgery, "slice_module", wrong)
    for attempt in (0, 1):
        failure = failure_of(bench, attentive.groups, attempt)
        assert failure is not None and "values differ" in failure.reason


def test_a_group_that_does_not_work_is_found_among_big_ones():
    class Sized(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * (WIDE / x.shape[1])

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, WIDE), Sized(), nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE))
    network = trace(net, torch.randn(1, 4))
    assert network.widths == {"2": WIDE} and "removing its channels does not work" in network.pinned[0].reason


@pytest.mark.parametrize("side", [2, 20])
@pytest.mark.parametrize("bias", [None, torch.randn(300, dtype=torch.float64)])
def test_what_multiples_of_rows_would_give_is_given(side, bias):
    weight = nn.Parameter(torch.randn(300, 200, 3, 3, dtype=torch.float64), requires_grad=False)
    kept, inputs = torch.rand(300) < 0.2, (torch.rand(1, 200, 1, 1) < 0.3).double()
    multiples = Multiples.of_kept(kept, weight)
    rows = (weight.detach()[multiples.computed][multiples.of] * multiples.times.reshape(2, -1, 1, 1, 1)).sum(0)
    assert torch.equal(rows[kept], weight.detach()[kept]) and rows.unique(dim=0).shape[0] == 300
    x = torch.randn(2, 200, side, side, dtype=torch.float64)
    with masked_in_use(weight, [inputs], multiples):
        got = F.conv2d(x, weight, bias, padding=1)
    assert torch.allclose(got, F.conv2d(x, rows * inputs, bias, padding=1), rtol=1e-11, atol=1e-11)
    matrix = weight.detach()[:, :, 0, 0].clone()
    linear = nn.Parameter(matrix, requires_grad=False)
    with masked_in_use(linear, [], Multiples.of_kept(kept, linear)):
        got = F.linear(x[..., 0, 0], linear, bias)
    assert torch.allclose(got, F.linear(x[..., 0, 0], rows[:, :, 0, 0], bias), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("alike", [True, False])
def test_grouped_convolutions_compute_the_same_rows_of_every_group(alike):
    weight = nn.Parameter(torch.randn(60, 20, 3, 3, dtype=torch.float64), requires_grad=False)
    kept = (torch.arange(20) % 4 == 1).repeat(3) if alike else torch.arange(60) % 7 == 1
    bias, inputs = torch.randn(60, dtype=torch.float64), (torch.rand(1, 20, 1, 1) < 0.4).double()
    multiples = Multiples.of_kept(kept, weight)
    x = torch.randn(2, 60, 5, 4, dtype=torch.float64)
    plain = F.conv2d(x, weight.detach() * inputs, bias, 1, 1, 1, 3)
    with masked_in_use(weight, [inputs], multiples):
        got = F.conv2d(x, weight, bias, 1, 1, 1, 3)
    assert torch.allclose(got[:, kept], plain[:, kept], rtol=1e-11, atol=1e-11)
    same = torch.isclose(got, plain).all((0, 2, 3))
    assert torch.equal(same, kept) if alike else bool(same.all())


def test_groups_may_be_named():
    weight = nn.Parameter(torch.randn(60, 20, 3, 3, dtype=torch.float64), requires_grad=False)
    x, kept = torch.randn(2, 60, 5, 4, dtype=torch.float64), (torch.arange(20) % 4 == 1).repeat(3)
    with masked_in_use(weight, [], Multiples.of_kept(kept, weight)):
        got = F.conv2d(x, weight, bias=None, padding="same", groups=3)
    assert torch.allclose(got[:, kept], F.conv2d(x, weight.detach(), padding=1, groups=3)[:, kept])


def test_units_that_are_ignored_are_multiples_of_others_and_do_not_matter(attentive):
    bench, ones = prepare(attentive), torch.ones(1, WIDE).double()
    kept = {g.name: range(0, g.width, 8) for g in attentive.groups}
    with masked(attentive, bench.model, kept):
        plain, inner = bench.outputs(bench.model, "eval")[0], F.linear(ones, bench.model.inner.weight)[0]
    with masked(attentive, bench.model, kept, sparing=True):
        assert torch.allclose(bench.outputs(bench.model, "eval")[0], plain, rtol=1e-11)
        other = F.linear(ones, bench.model.inner.weight)[0]
    same = torch.isclose(inner, other).nonzero()[:, 0].tolist()
    assert same == list(range(0, WIDE, 8)), "the others must be other units, or a leak would go unseen"


def test_a_masked_parameter_gets_its_class_back():
    weight = nn.Parameter(torch.ones(WIDE, WIDE))
    with masked_in_use(weight, [torch.zeros(1, WIDE)]):
        assert isinstance(weight, Spread) and not F.linear(torch.ones(1, WIDE), weight).any()
    assert type(weight) is nn.Parameter and not vars(weight) and copy.deepcopy(weight).sum() == WIDE**2


@pytest.mark.parametrize("side", [2, 20])
def test_a_convolution_leaves_masked_inputs_out_where_that_pays(side):
    weight = nn.Parameter(torch.randn(300, 200, 3, 3, dtype=torch.float64), requires_grad=False)
    x = torch.randn(1, 200, side, side, dtype=torch.float64)
    inputs = (torch.rand(1, 200, 1, 1) < 0.3).double()
    outputs = (torch.rand(300, 1, 1, 1) < 0.5).double()
    expected = F.conv2d(x, weight * inputs * outputs, padding=1)
    with masked_in_use(weight, [inputs, outputs]):
        assert torch.allclose(F.conv2d(x, weight, padding=1), expected, rtol=1e-12, atol=1e-12)
    with masked_in_use(weight, [inputs * 0]):
        assert not F.conv2d(x, weight, padding=1).any()
