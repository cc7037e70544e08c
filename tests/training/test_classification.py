from __future__ import annotations

from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netadapt.errors import DataError, NonFinite
from netadapt.training.classification import Classification, evaluate_images, stratified_split
from netadapt.training.images import SYMMETRIC, Augment, ImageStore
from netadapt.training.task import PartlyEvaluated, Task


def test_it_is_a_task(task):
    assert isinstance(task, Task) and isinstance(task, PartlyEvaluated)


def test_the_selection_split_is_stratified_and_never_trained_on(task):
    chosen = set(task.selection_indices.tolist())
    assert torch.bincount(task.train.labels[task.selection_indices]).tolist() == [5, 5, 5]
    assert chosen.isdisjoint(task.train_indices.tolist())
    assert task.train_images == 75
    everything = task.with_selection()
    assert everything.train_images == 90
    assert task.train_images == 75
    assert torch.equal(everything.selection_indices, task.selection_indices)


def test_a_fraction_takes_that_share_of_each_class(store):
    taken, rest = stratified_split(store(per_class=20), 0.25, 0)
    assert torch.bincount(taken % 3).tolist() == [5, 5, 5]
    assert len(taken) + len(rest) == 60
    assert not torch.equal(taken, stratified_split(store(per_class=20), 0.25, 1)[0])


@pytest.mark.parametrize("selection", [0, -1, 1.0, 1.5, 0.0])
def test_a_selection_out_of_range_is_refused(store, selection):
    with pytest.raises(DataError, match=r"is not allowed: images per class .1 or more. or a fraction below 1 is"):
        stratified_split(store(), selection, 0)


def test_a_class_too_small_for_the_selection_is_named(store):
    with pytest.raises(
        DataError, match='store0: class "red" has 8 images, the selection split takes 10 and leaves none'
    ):
        stratified_split(store(per_class=8), 10, 0)


def test_an_epoch_shows_every_image_once(store):
    task = Classification(store(), store(seed=1), batch_size=25, selection=5, normalisation=SYMMETRIC)
    batches = list(islice(task.batches(3), 3))
    seen = torch.cat([batch.images for batch in batches])
    assert seen.shape == (75, 3, 12, 12)
    wanted = SYMMETRIC(task.train.pixels[task.train_indices])
    distance = torch.cdist(seen.flatten(1), wanted.flatten(1))
    assert sorted(distance.argmin(1).tolist()) == list(range(75))
    assert distance.min(1).values.max() < 1e-3


def test_the_stream_is_endless_full_and_fixed_by_its_seed(task):
    first, same, other = (list(islice(task.batches(seed), 12)) for seed in (1, 1, 2))
    assert all(task.size(batch) == 16 for batch in first)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, same, strict=True))
    assert not torch.equal(first[0].images, other[0].images)


def test_calibration_images_are_different_and_unchanged(task):
    batches = list(task.calibration(40))
    images = torch.cat([batch.images for batch in batches])
    assert len(images) == 40
    wanted = SYMMETRIC(task.train.pixels[task.train_indices])
    nearest = torch.cdist(images.flatten(1), wanted.flatten(1)).argmin(1)
    assert len(set(nearest.tolist())) == 40
    assert torch.equal(images, wanted[nearest])


def test_the_loss_is_cross_entropy_with_smoothing_and_distillation(store):
    task = Classification(store(), store(), label_smoothing=0.1, distillation=0.25, temperature=3.0)
    batch = next(task.batches(0))
    outputs, teacher = torch.randn(2, task.size(batch), 3).unbind(0)
    labels = F.cross_entropy(outputs, batch.labels, label_smoothing=0.1)
    torch.testing.assert_close(task.loss(outputs, batch), labels)
    soft, hard = (teacher / 3).softmax(1), (outputs / 3).softmax(1)
    distance = (soft * (soft / hard).log()).sum(1).mean()
    torch.testing.assert_close(task.loss(outputs, batch, teacher), 0.75 * labels + 0.25 * 9 * distance)


class Oracle(nn.Module):
    """Finds the brightest channel; wrong in train mode, so that a forgotten mode shows."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x):
        return x.mean((2, 3)) * (-10 if self.training else 10)


def test_evaluation_scores_each_split_in_eval_mode_and_restores_the_mode(task):
    model = Oracle().train()
    model.norm.eval()
    for split, count in (("selection", 15), ("test", 90)):
        score = task.evaluate(model, split)
        assert score.metric == 1.0
        assert 0 < score.loss < 0.2
        assert score.count == count
    assert model.training
    assert not model.norm.training


def test_evaluation_in_parts_equals_evaluation_at_once(store, network):
    images, model = store(per_class=150), network().eval()
    score = evaluate_images(model, images, SYMMETRIC)
    logits = model(SYMMETRIC(images.pixels))
    assert score.metric == pytest.approx((logits.argmax(1) == images.labels).float().mean().item())
    assert score.loss == pytest.approx(F.cross_entropy(logits, images.labels).item(), rel=1e-5)


def test_a_part_of_the_selection_split_is_the_same_for_all_and_of_all_classes(task, network):
    model = network().eval()
    part = task.evaluate_part(model, 6)
    assert part.count == 6 and part == task.evaluate_part(model, 6)
    every = task.selection_indices[[0, 3, 6, 8, 11, 14]]
    assert set(task.train.labels[every].tolist()) == {0, 1, 2}
    assert part == evaluate_images(model, task.train, task.normalisation, every)
    assert task.evaluate_part(model, 15) == task.evaluate_part(model, 99) == task.evaluate(model, "selection")


def test_outputs_that_are_not_finite_fail_the_network_not_the_run(task, network):
    model = network()
    model[-1].bias.data.fill_(float("nan"))
    with pytest.raises(NonFinite, match="the loss of Sequential on store1 is nan"):
        task.evaluate(model, "test")


def test_a_network_that_fits_passes_the_check(task, network):
    task.check(network(), torch.zeros(1, 3, 12, 12))


@pytest.mark.parametrize(
    ("classes", "side", "message"),
    [
        (5, 12, r"outputs for 2 images are \(2, 5\), the task has 3 classes: set classes = 3 under \[model\]"),
        (3, 16, r"expects inputs of 3x16x16, the task's images are 3x12x12: set resolution = 16 under \[task\]"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(task, network, classes, side, message):
    with pytest.raises(DataError, match=message):
        task.check(network(classes), torch.zeros(1, 3, side, side))


def test_stores_that_do_not_agree_are_refused(store):
    other = ImageStore(store().pixels, store().labels, ("red", "blue", "green"), "other")
    with pytest.raises(DataError, match=r"store0 has 3 classes \(red, green, blue, ...\), other 3 .*same order"):
        Classification(store(), other)
    with pytest.raises(DataError, match="store0 has images of 12x12 pixels, store0 of 8x8: set resolution"):
        Classification(store(), store(side=8))


def test_augmentation_can_be_switched_off(store):
    plain = Classification(store(), store(), augment=None)
    changed = Classification(store(), store(), augment=Augment())
    known = {bytes(image.numpy().tobytes()) for image in plain.normalisation(plain.train.pixels)}
    assert all(bytes(image.numpy().tobytes()) in known for image in next(plain.batches(0)).images)
    assert not all(bytes(image.numpy().tobytes()) in known for image in next(changed.batches(0)).images)
