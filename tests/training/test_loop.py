from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from netadapt.errors import Interrupted, NonFinite, UsageError
from netadapt.training.loop import Recipe, fine_tune, move

THREE_EPOCHS = Recipe(epochs=3, lr=0.05, ema=0.9)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_learns(task, network):
    model = network()
    before = task.evaluate(model, "test")
    result = fine_tune(model, task, Recipe(epochs=20, lr=0.1), seed=0)
    after = task.evaluate(model, "test")
    assert after.metric > 0.95 > before.metric
    assert after.loss < before.loss
    assert result.images >= 20 * task.train_images
    assert result.images < 20 * task.train_images + task.batch_size
    assert 0 < result.loss < 1.1
    assert result.seconds > 0


def test_the_same_seed_gives_the_same_weights_and_another_other_ones(task, network):
    results = []
    for seed in (1, 1, 2):
        model = network()
        fine_tune(model, task, THREE_EPOCHS, seed=seed)
        results.append(weights(model))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_any_seed_will_do(task, network):
    fine_tune(network(), task, Recipe(images=16), seed=2**63 - 1)


def test_nothing_global_is_left_behind(task, network):
    state = torch.get_rng_state()
    model, teacher = network().train(), network(seed=1).train()
    fine_tune(model, task, Recipe(images=32), seed=0, teacher=teacher)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    assert not any(module.training for module in model.modules())
    assert all(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(value.is_contiguous() for value in model.state_dict().values())


def test_a_teacher_is_used_but_not_changed(task, network):
    task.distillation = 1.0
    teacher, model = network(seed=1), network()
    before = weights(teacher)
    images = next(task.batches(0)).images

    def distance():
        return (model.eval()(images) - teacher.eval()(images)).abs().mean()

    start = distance()
    fine_tune(model, task, Recipe(epochs=10, lr=0.1), seed=0, teacher=teacher)
    assert distance() < start
    assert same(before, weights(teacher))


def test_frozen_parameters_stay(task, network):
    model = network()
    model[0].weight.requires_grad_(False)
    before = weights(model)
    fine_tune(model, task, Recipe(images=64), seed=0)
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[-1].weight, before["8.weight"])


def test_weight_decay_spares_norms_and_biases_unless_asked(network):
    class Still:
        """A task without gradients: only the weight decay moves anything."""

        def batches(self, seed):
            while True:
                yield torch.zeros(4, 3, 8, 8)

        def size(self, batch):
            return len(batch)

        def forward(self, model, batch):
            return sum(parameter.sum() for parameter in model.parameters()) * 0.0

        def loss(self, outputs, batch, teacher_outputs=None):
            return outputs

    for everything in (False, True):
        model = network()
        before = weights(model)
        fine_tune(model, Still(), Recipe(images=40, lr=0.1, weight_decay=0.5, decay_vectors=everything), seed=0)
        assert (model[0].weight.abs() < before["0.weight"].abs()).all()
        assert torch.equal(model[1].weight, before["1.weight"]) is not everything


def test_clipping_bounds_the_step(task, network):
    model = network()
    before = nn.utils.parameters_to_vector(model.parameters()).clone()
    recipe = Recipe(images=16, lr=1.0, momentum=0.0, weight_decay=0.0, schedule="constant", clip_norm=1e-3)
    fine_tune(model, task, recipe, seed=0)
    moved = (nn.utils.parameters_to_vector(model.parameters()) - before).norm()
    assert 0 < moved <= 1.01e-3


def test_the_average_of_the_weights_is_returned(task, network):
    average, last = network(), network()
    recipe = {"images": 320, "lr": 0.1, "schedule": "constant"}
    fine_tune(last, task, Recipe(**recipe), seed=0)
    fine_tune(average, task, Recipe(**recipe, ema=0.9), seed=0)
    start = network()
    moved = (average[0].weight - start[0].weight).norm(), (last[0].weight - start[0].weight).norm()
    assert 0 < moved[0] < moved[1]
    assert not torch.equal(average[1].running_mean, last[1].running_mean), "statistics are averaged too"


def test_epochs_need_a_task_that_knows_its_size(task, network):
    class Unknown:
        batches, size, forward, loss, evaluate = task.batches, task.size, task.forward, task.loss, task.evaluate

    with pytest.raises(UsageError, match="epochs=1 needs a task with train_images; give images instead"):
        fine_tune(network(), Unknown(), Recipe(epochs=1), seed=0)
    assert fine_tune(network(), Unknown(), Recipe(images=20), seed=0).images == 32


def test_a_loss_that_is_not_finite_is_raised_at_once_and_modes_are_restored(task, network):
    model = network()
    steps = []
    with pytest.raises(NonFinite, match=r"the training loss became .* after .* images at a rate of 1e"):
        fine_tune(model, task, Recipe(images=10_000, lr=1e20), seed=0, progress=lambda *step: steps.append(step))
    assert len(steps) < 10
    assert not model.training


def test_progress_is_told_after_every_step(task, network):
    steps = []
    result = fine_tune(network(), task, Recipe(images=64), seed=0, progress=lambda *step: steps.append(step))
    assert [images for images, _ in steps] == [16, 32, 48, 64]
    assert steps[-1][1] == result.loss


def interrupted_after(task, model, path, images, seed=3):
    seen = [0]

    def progress(done, _):
        seen[0] = done

    with pytest.raises(Interrupted, match=r"stopped after .* of 225 training images"):
        fine_tune(
            model,
            task,
            THREE_EPOCHS,
            seed=seed,
            progress=progress,
            should_stop=lambda: seen[0] >= images,
            checkpoint=path,
        )


def test_an_interrupted_training_goes_on_bit_for_bit(task, network, tmp_path):
    whole = network()
    expected = fine_tune(whole, task, THREE_EPOCHS, seed=3)
    interrupted_after(task, network(), tmp_path / "c", 180)
    resumed, steps = network(seed=9), []
    result = fine_tune(
        resumed, task, THREE_EPOCHS, seed=3, checkpoint=tmp_path / "c", progress=lambda done, _: steps.append(done)
    )
    assert steps[0] == 176, "the third epoch starts after 160 images"
    assert same(weights(whole), weights(resumed))
    assert (result.images, result.loss) == (expected.images, expected.loss)


def test_a_finished_training_is_not_repeated(task, network, tmp_path):
    first, second, steps = network(), network(), []
    fine_tune(first, task, THREE_EPOCHS, seed=3, checkpoint=tmp_path / "c")
    fine_tune(second, task, THREE_EPOCHS, seed=3, checkpoint=tmp_path / "c", progress=lambda *step: steps.append(step))
    assert same(weights(first), weights(second))
    assert steps == []


def test_a_checkpoint_of_another_training_is_not_used(task, network, tmp_path, caplog):
    interrupted_after(task, network(), tmp_path / "c", 180)
    model, alone = network(), network()
    fine_tune(model, task, THREE_EPOCHS, seed=4, checkpoint=tmp_path / "c")
    fine_tune(alone, task, THREE_EPOCHS, seed=4)
    assert same(weights(model), weights(alone))
    assert "is of another training (recipe, seed or network differ): training starts anew" in caplog.text


def test_batches_of_any_shape_are_moved():
    batch = {"a": [torch.zeros(1), (torch.ones(1), "text")]}
    moved = move(batch, torch.device("meta"))
    assert moved["a"][0].device.type == moved["a"][1][0].device.type == "meta"
    assert moved["a"][1][1] == "text"


def test_half_precision_trains_too(task, network):
    model = network()
    fine_tune(model, task, Recipe(images=64, precision="bfloat16"), seed=0)
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert math.isfinite(task.evaluate(model, "test").loss)
