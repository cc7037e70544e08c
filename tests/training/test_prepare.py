from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from netadapt.errors import DataError, ModelError
from netadapt.models.mobilenet_v1 import MobileNetV1
from netadapt.training.loop import Recipe
from netadapt.training.prepare import calibration_batches, check_fit, fit_head, head_of, prepare, replace_head


def test_the_head_is_the_last_linear_layer_or_else_convolution():
    assert head_of(MobileNetV1(0.25)) == "classifier"
    assert head_of(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 5, 1), nn.Flatten())) == "2"
    with pytest.raises(ModelError, match="ReLU has no linear layer or convolution: there is no classifier to replace"):
        head_of(nn.ReLU())


@pytest.mark.parametrize("head", [nn.Linear(8, 5), nn.Conv2d(8, 5, 1)])
def test_replacing_the_head_is_reproducible_and_leaves_the_original(head):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), head)
    state = torch.get_rng_state()
    one, other = replace_head(model, 7, seed=1), replace_head(model, 7, seed=1)
    assert one[1].weight.shape[:2] == (7, 8)
    assert torch.equal(one[1].weight, other[1].weight)
    assert model[1] is head
    assert torch.equal(one[0].weight, model[0].weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_fitted_head_separates_what_the_features_allow(task, network):
    model = replace_head(network().train(), 3, 0)
    backbone = model[0].weight.clone()
    fit_head(model, task)
    assert task.evaluate(model, "test").metric > 0.9
    assert torch.equal(model[0].weight, backbone)
    assert model.training


@pytest.mark.parametrize("seed", [0, 1])
def test_the_fine_tune_does_not_begin_with_the_images_of_the_probe(task, network, seed):
    """Both would else be the same permutation, and the head knows the images of the first steps by heart."""
    asked = []
    recording = copy.copy(task)
    recording.calibration = lambda images, seed=0: asked.append(seed) or task.calibration(images, seed)
    fit_head(replace_head(network(), 3, 0), recording, images=16, seed=seed)
    probe = torch.cat([batch.images for batch in task.calibration(16, asked[0])])
    first = torch.cat([batch.images for batch in task.calibration(16, seed)])  # the order of `batches` with this seed
    assert not torch.equal(probe, first)


def test_a_fitted_convolution_works_too(task):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 3, 1), nn.Flatten()).eval()
    fit_head(model, task)
    assert task.evaluate(model, "test").metric > 0.95


def test_prepare_unfolds_replaces_and_tunes_a_copy(task):
    torch.manual_seed(0)
    model = MobileNetV1(0.25, 12, 9, batch_norm=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    example = torch.zeros(1, 3, 12, 12)
    ready = prepare(model, example, task, classes=3, unfold=True, first_tune=Recipe(images=32, lr=1e-3))
    assert ready(example).shape == (1, 3)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in ready.modules()) == 27
    assert not ready.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_prepare_without_wishes_gives_an_equal_copy(task, network):
    model = network().eval()
    ready = prepare(model, torch.zeros(1, 3, 12, 12), task)
    assert ready is not model
    assert torch.equal(ready[0].weight, model[0].weight)


def test_what_does_not_fit_is_found_before_training(task, network):
    with pytest.raises(DataError, match="the task has 3 classes"):
        prepare(network(classes=4), None, task, first_tune=Recipe(images=10**9))


class Own:
    """A task of a user's own: regression."""

    def batches(self, seed):
        while True:
            yield torch.ones(4, 3, 12, 12)

    def size(self, batch):
        return len(batch)

    def forward(self, model, batch):
        return model(batch)

    def loss(self, outputs, batch, teacher_outputs=None):
        return outputs.square().mean()

    def evaluate(self, model, split): ...


def test_a_task_of_ones_own_is_tried_on_one_batch(network):
    check_fit(network(), None, Own())
    message = "Own failed on its first batch with this network: RuntimeError: "
    with pytest.raises(DataError, match=message):
        check_fit(nn.Linear(7, 1), None, Own())

    class Vector(Own):
        def loss(self, outputs, batch, teacher_outputs=None):
            return outputs

    with pytest.raises(DataError, match=r"Vector returned a loss of shape \(4, 3\): a scalar is needed"):
        check_fit(network(), None, Vector())
    with pytest.raises(ModelError, match="fits a new classifier on digits, parquet: and folder: tasks only"):
        prepare(network(), None, Own(), classes=3)


def test_calibration_batches_end(task):
    assert sum(task.size(batch) for batch in calibration_batches(task, 30)) == 30
    assert len(list(calibration_batches(Own(), 10))) == 3
