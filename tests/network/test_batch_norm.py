from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netadapt.errors import DataError, ModelError, NonFinite
from netadapt.models.mobilenet_v1 import MobileNetV1
from netadapt.models.mobilenet_v2 import MobileNetV2
from netadapt.network.batch_norm import refresh_batch_norm, restored_modes, unfold_batch_norm


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )


def test_refreshed_statistics_are_those_of_the_batches():
    model, batches = small().eval(), [torch.randn(50, 3, 6, 6) + 1 for _ in range(4)]
    model[1].running_mean.fill_(99)
    refresh_batch_norm(model, batches)
    outputs = [model[0](batch).detach() for batch in batches]
    expected = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    torch.testing.assert_close(model[1].running_mean, expected)
    spread = torch.stack([output.var((0, 2, 3)) for output in outputs]).mean(0)
    torch.testing.assert_close(model[1].running_var, spread)


def test_refreshing_keeps_modes_momenta_parameters_and_grad_mode():
    model = small().train()
    model[3].eval()
    modes = [module.training for module in model.modules()]
    model[1].momentum = 0.3
    parameters = copy.deepcopy(list(model.parameters()))
    refresh_batch_norm(model, [torch.randn(8, 3, 6, 6)])
    assert [module.training for module in model.modules()] == modes
    assert model[1].momentum == 0.3
    assert all(torch.equal(one, other) for one, other in zip(parameters, model.parameters(), strict=True))
    assert torch.is_grad_enabled()


def test_dropout_is_off_while_refreshing():
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm1d(3)).train()
    batch = torch.randn(200, 3)
    refresh_batch_norm(model, [batch])
    torch.testing.assert_close(model[1].running_mean, batch.mean(0))


def test_refreshing_understands_tuples_dicts_and_a_forward_of_ones_own():
    norm = nn.BatchNorm1d(3)
    batch = torch.randn(20, 3)
    for batches, forward in (([(batch,)], None), ([{"input": batch}], None), ([{"x": batch}], lambda m, b: m(b["x"]))):
        norm.reset_running_stats()
        refresh_batch_norm(norm, batches, *([forward] if forward else []))
        torch.testing.assert_close(norm.running_mean, batch.mean(0))


def test_without_norms_nothing_happens():
    refresh_batch_norm(nn.Linear(2, 2), [])


def test_without_images_it_is_refused_and_the_old_statistics_stay():
    model = small()
    model[1].running_mean.fill_(7)
    with pytest.raises(DataError, match="no images to re-estimate the batch norms on: give at least one batch"):
        refresh_batch_norm(model, [])
    assert (model[1].running_mean == 7).all()


def test_statistics_that_are_not_finite_are_refused_and_the_old_ones_stay():
    model = small()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(NonFinite, match="the statistics of 1 are not finite"):
        refresh_batch_norm(model, [torch.full((4, 3, 6, 6), float("inf"))])
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", [MobileNetV1, MobileNetV2])
def test_an_unfolded_network_is_identical_in_eval_mode_and_has_the_class_with_norms(kind):
    torch.manual_seed(0)
    folded = kind(0.25, 48, 5, same_padding=True, batch_norm=False).eval()
    for parameter in folded.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, -0.5, 0.5)
    images = torch.randn(40, 3, 48, 48)
    unfolded = unfold_batch_norm(folded, images)
    torch.testing.assert_close(unfolded(images), folded(images), rtol=1e-4, atol=1e-5)
    twin = kind(0.25, 48, 5, same_padding=True).eval()
    twin.load_state_dict(unfolded.state_dict())
    assert torch.equal(twin(images), unfolded(images))


def test_an_unfolded_network_stays_the_same_when_refreshed_on_the_same_images():
    torch.manual_seed(0)
    folded = MobileNetV1(0.25, 48, 5, batch_norm=False).eval()
    images = torch.randn(60, 3, 48, 48)
    unfolded = unfold_batch_norm(folded, images)
    refresh_batch_norm(unfolded, [images])
    torch.testing.assert_close(unfolded(images), folded(images), rtol=1e-2, atol=1e-3)


def test_it_also_unfolds_a_network_without_slots_and_leaves_the_rest_alone():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
    ).eval()
    images = torch.randn(30, 3, 6, 6)
    unfolded = unfold_batch_norm(model, images.split(10))
    assert [type(module) for module in unfolded] == [nn.Sequential, nn.ReLU, nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]
    assert unfolded[0][0].bias is None
    assert unfolded[4].bias is not None, "the output's convolution keeps its bias"
    torch.testing.assert_close(unfolded(images), model(images))
    assert isinstance(model[0], nn.Conv2d), "the model itself is not changed"


def test_constant_channels_survive():
    folded = MobileNetV1(0.25, 32, 5, batch_norm=False).eval()
    with torch.no_grad():
        folded.stem.weight[0] = 0  # a dead filter: variance 0
    images = torch.randn(20, 3, 32, 32)
    unfolded = unfold_batch_norm(folded, images)
    torch.testing.assert_close(unfolded(images), folded(images), rtol=1e-4, atol=1e-5)
    assert all(torch.isfinite(value).all() for value in unfolded.state_dict().values())


def test_what_cannot_be_unfolded_is_refused():
    with pytest.raises(ModelError, match="MobileNetV1 has no convolution with a folded batch norm: nothing to un-fold"):
        unfold_batch_norm(MobileNetV1(0.25), torch.randn(2, 3, 32, 32))
    folded = MobileNetV1(0.25, batch_norm=False)
    for nothing in (torch.zeros(0, 3, 32, 32), []):
        with pytest.raises(DataError, match="no images to un-fold the batch norms with: give about 1,000"):
            unfold_batch_norm(folded, nothing)
    with pytest.raises(NonFinite, match="the output of stem is not finite"):
        unfold_batch_norm(folded, torch.full((2, 3, 32, 32), float("nan")))


def test_modes_come_back_after_an_error():
    model = small().train()
    model[0].eval()
    with pytest.raises(KeyError), restored_modes(model):
        model.eval()
        raise KeyError
    assert [module.training for module in model.modules()] == [True, False, True, True, True, True]
