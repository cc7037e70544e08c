"""Moments against plain sums over all rows; calibration leaves the user's module as it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netadapt.errors import DataError, NonFinite
from netadapt.network.contractions import Contraction, Watch
from netadapt.network.moments import Calibration, Moments, count_images, dense_weights, run


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, 2)).double()  # fmt: skip


def gather(model: nn.Module, calibration: Calibration, outputs: dict[str, int]) -> dict[str, Moments]:
    found: dict[str, Moments] = {}

    def visit(call: Contraction, compute: Callable[[], Tensor]) -> Tensor:
        moments = calibration.moments(call, np.arange(outputs[call.weight_name]))
        assert moments is not None
        found[call.weight_name] = moments
        return compute()

    run(model, calibration.inputs, Watch(dense_weights(model), visit))
    return found


def test_moments_are_the_sums_over_all_rows() -> None:
    model, x = small(), torch.randn(10, 3, 6, 6, dtype=torch.float64)
    calibration = Calibration(model, x.split(4), images=10)
    found = gather(model, calibration, {"0.weight": 6, "2.weight": 3, "5.weight": 2})
    inputs = model[1](model[0](x)).detach().movedim(1, -1).reshape(-1, 6)
    wanted = model[:3](x).detach().movedim(1, -1).reshape(-1, 4)[:, :3]
    moments = found["2.weight"]
    assert moments.rows == 160
    for got, expected in (
        (moments.xx, inputs.T @ inputs),
        (moments.xy, inputs.T @ wanted),
        (moments.yy, wanted.square().sum(0)),
        (moments.x, inputs.sum(0)),
        (moments.y, wanted.sum(0)),
    ):
        assert torch.allclose(got, expected)
    assert torch.equal((moments + moments).xx, 2 * moments.xx)
    assert torch.equal(moments.part(torch.tensor([2])).xy, moments.xy[:, [2]])
    weights = moments.system(1e-9, True, torch.zeros(3, 6)).solve(torch.arange(6))
    assert torch.allclose(weights.T, model[2].weight[:3, :, 0, 0].detach(), atol=1e-5)
    assert torch.allclose(moments.bias(weights, torch.arange(6)), model[2].bias[:3].detach(), atol=1e-5)


def test_positions_are_sampled_alike_in_both_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netadapt.network.moments._ROWS", 200)
    model, x = small(), torch.randn(40, 3, 9, 9, dtype=torch.float64)
    found = gather(model, Calibration(model, [x], images=40), {"0.weight": 6, "2.weight": 4, "5.weight": 2})
    moments = found["2.weight"]
    assert moments.rows == 200
    weights = moments.system(1e-9, True, torch.zeros(4, 6)).solve(torch.arange(6))
    assert torch.allclose(weights.T, model[2].weight[:, :, 0, 0].detach(), atol=1e-4)


def test_the_ridge_grows_where_samples_are_few_and_pulls_towards_the_prior() -> None:
    x = torch.randn(50, 4, dtype=torch.float64)
    moments = Moments(x.T @ x, torch.zeros(4, 1, dtype=torch.float64), torch.ones(1), x.sum(0), torch.zeros(1), 50)
    prior = torch.ones(1, 4)
    amount = (moments.system(1e-2, False, prior).gram - moments.xx).diagonal() / moments.xx.diagonal().mean()
    assert (amount > 1e-2).all()
    many = Moments(moments.xx, moments.xy, moments.yy, moments.x, moments.y, 10**6)
    amount = (many.system(1e-2, False, prior).gram - moments.xx).diagonal() / moments.xx.diagonal().mean()
    assert torch.allclose(amount, torch.full((4,), 1e-2, dtype=torch.float64))
    strong = moments.system(1e9, False, prior).solve(torch.arange(4))
    assert torch.allclose(strong, torch.ones(4, 1, dtype=torch.float64), atol=1e-6)


def test_errors_count_relative_to_each_output_where_a_norm_follows() -> None:
    x = torch.eye(2, dtype=torch.float64)
    y = torch.tensor([[1.0, 10.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    moments = Moments(x.T @ x, x.T @ y, y.square().sum(0), x.sum(0), y.sum(0), 2)
    together = moments.system(1e-2, False, torch.zeros(3, 2)).energy
    assert torch.allclose(together, torch.full((3,), 102.0, dtype=torch.float64), rtol=1e-4)
    each = moments.system(1e-2, False, torch.zeros(3, 2), normalised=True).energy
    assert torch.allclose(each[:2], torch.tensor([6.0, 300.0], dtype=torch.float64))
    assert each[2] > 0


def test_inputs_that_are_all_zero_give_the_prior() -> None:
    zero = torch.zeros(3, 3, dtype=torch.float64)
    moments = Moments(zero, zero[:, :1], zero[0, :1], zero[0], zero[0, :1], 9)
    assert torch.equal(moments.system(1e-2, True, torch.ones(1, 3)).solve(torch.arange(3)), torch.ones(3, 1).double())


def test_calibration_leaves_the_module_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Conv2d(4, 2, 1)).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibration = Calibration(model, torch.randn(30, 3, 5, 5).split(10), images=25)
    assert calibration.layers == ("0.weight", "3.weight")
    assert calibration.normalised == {"0.weight"}
    assert count_images(calibration.inputs) == 25
    assert [len(batch) for batch in calibration.batches(800)] == [25]
    assert [part.training for part in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_inputs_may_be_tuples_and_dicts() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.fc(a + b)

    a, b = torch.randn(4, 3), torch.randn(4, 3)
    assert count_images(Calibration(Sum(), [(a, b), (a, b)], images=6).inputs) == 6
    inputs = Calibration(Sum(), [{"a": a, "b": b}] * 2, images=100).inputs
    assert torch.equal(inputs["b"], torch.cat([b, b]))


def test_batches_have_equal_sizes() -> None:
    calibration = Calibration(nn.Linear(3, 2), [torch.randn(210, 3)], images=210)
    assert [len(batch) for batch in calibration.batches(800)] == [70, 70, 70]
    assert [len(batch) for batch in calibration.batches(150)] == [75, 75]


def test_large_activations_cost_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netadapt.network.moments._ACTIVATION_BYTES", 12_000)
    calibration = Calibration(small(), [torch.randn(50, 3, 6, 6, dtype=torch.float64)], images=50)
    assert 2 <= count_images(calibration.inputs) < 10


def test_a_single_image_is_refused() -> None:
    with pytest.raises(DataError, match="2 images or more, got 1"):
        Calibration(small(), [torch.randn(1, 3, 6, 6, dtype=torch.float64)], images=800)


def test_activations_that_are_not_finite_are_refused() -> None:
    model, x = small(), torch.randn(10, 3, 6, 6, dtype=torch.float64)
    calibration = Calibration(model, [x], images=10)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(NonFinite, match=r"2\.weight"):
        gather(model, calibration, {"0.weight": 6, "2.weight": 4, "5.weight": 2})
