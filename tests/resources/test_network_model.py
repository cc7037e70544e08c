from __future__ import annotations

import numpy as np
import pytest

from netadapt.errors import MeasurementUnusable, UsageError
from netadapt.platforms.simulated import SimulatedPlatform, evaluated
from netadapt.resources.designs import design
from netadapt.resources.network_model import NetworkModel


def _truth(network, platform, widths, field="latency_ms"):
    return np.array([getattr(platform.predict(network, network.mapping(row)), field) for row in widths])


def _noisy(values, noise, seed=0):
    return values * np.exp(noise * np.random.default_rng(seed).standard_normal(len(values)))


@pytest.mark.parametrize("staircase", [1, 16])
def test_unseen_networks_within_a_percent_from_noisy_data(mobile, staircase):
    platform = SimulatedPlatform(staircase=staircase)
    seen, unseen = design(mobile, 64, 0), design(mobile, 150, 1)
    model = NetworkModel(mobile)
    model.fit(seen, _noisy(_truth(mobile, platform, seen), 0.01))
    values, sigma = model.estimate(unseen)
    truth = _truth(mobile, platform, unseen)
    error = np.abs(values / truth - 1)
    assert error.mean() < 0.008 and error.max() < 0.04
    assert model.vector == 16 if staircase == 16 else True
    assert 0.3 < np.sqrt(np.mean(((values - truth) / sigma) ** 2)) < 3  # sigma means what it says
    assert 0.005 < model.left_out_error < 0.02


def test_a_runtime_that_repacks_channels_between_layers_is_learnt(mobile, device):
    layers = [layer for layer in mobile.layers if layer.kind in ("conv", "linear")]

    def truth(widths):
        counts = [(layer.fan_in(widths), layer.outputs(widths)) for layer in layers]
        repacked = sum((read % 16 == 0) != (written % 16 == 0) for read, written in counts)
        return _truth(mobile, device, widths) * (1 + 0.03 * repacked)

    seen, unseen = design(mobile, 80, 0), design(mobile, 100, 1)
    model = NetworkModel(mobile)
    model.fit(seen, _noisy(truth(seen), 0.005))
    error = np.abs(model.estimate(unseen)[0] / truth(unseen) - 1)
    assert error.mean() < 0.02


@pytest.mark.parametrize("field", ["energy_mj", "memory_mb"])
def test_other_resources(mobile, device, field):
    seen, unseen = design(mobile, 64, 0), design(mobile, 100, 1)
    model = NetworkModel(mobile)
    model.fit(seen, _noisy(_truth(mobile, device, seen, field), 0.005))
    error = np.abs(model.estimate(unseen)[0] / _truth(mobile, device, unseen, field) - 1)
    assert error.mean() < 0.01


def test_estimates_do_not_depend_on_what_is_asked_together(mobile, device):
    seen, asked = design(mobile, 40, 0), design(mobile, 900, 2)
    model = NetworkModel(mobile)
    model.fit(seen, _truth(mobile, device, seen))
    values, sigma = model.estimate(asked)
    assert values.shape == sigma.shape == (len(asked),)
    few = [0, 5, 383, 384, 899]
    assert model.estimate(asked[few])[0] == pytest.approx(values[few], rel=1e-4)
    assert model.estimate(asked[:0])[0].shape == (0,)


def test_few_networks_are_taken_as_proportional_to_macs(mobile, device):
    widths = design(mobile, 30, 1)
    seen = np.array([list(mobile.widths.values())])
    model = NetworkModel(mobile)
    model.fit(seen, np.array([10.0]))
    expected = 10 * mobile.macs_of(widths) / mobile.macs()
    values, sigma = model.estimate(widths)
    assert np.all(np.abs(values - expected) < 0.35 * expected + 0.5)
    assert np.all(sigma > 0) and model.estimate(seen)[0] == pytest.approx([10.0], rel=0.01)


def test_more_networks_are_better_and_surer(mobile, device):
    unseen = design(mobile, 80, 1)
    truth = _truth(mobile, device, unseen)
    errors, sigmas = [], []
    for count in (5, 16, 64):
        seen = design(mobile, count, 0)
        model = NetworkModel(mobile)
        model.fit(seen, _truth(mobile, device, seen))
        values, sigma = model.estimate(unseen)
        errors.append(np.mean(np.abs(values / truth - 1)))
        sigmas.append(np.mean(sigma / values))
    assert errors[0] > errors[1] > errors[2] and sigmas[0] > sigmas[1] > sigmas[2]


def test_an_added_network_keeps_the_choice_and_is_learnt(mobile, device):
    seen = design(mobile, 40, 0)
    values = _noisy(_truth(mobile, device, seen), 0.005)
    model = NetworkModel(mobile)
    model.fit(seen, values)
    choice, added = model._choice, design(mobile, 1, 5)
    _, before = model.estimate(added)
    model.fit(np.concatenate([seen, added]), np.append(values, _truth(mobile, device, added)))
    assert model._choice is choice and model.networks_measured == 41
    assert model.estimate(added)[1] < before


def test_fitting_the_same_data_gives_the_same_estimates(mobile, device):
    seen, asked = design(mobile, 30, 0), design(mobile, 20, 1)
    first, second = NetworkModel(mobile), NetworkModel(mobile)
    for model in (first, second):
        model.fit(seen, _truth(mobile, device, seen))
    assert np.array_equal(first.estimate(asked)[0], second.estimate(asked)[0])


def test_wrong_data_is_refused(mobile):
    model, widths = NetworkModel(mobile), design(mobile, 3, 0)
    with pytest.raises(UsageError, match="before any data"):
        model.estimate(widths)
    for values in (np.array([1.0, np.nan, 2.0]), np.array([1.0, 0.0, 2.0]), np.array([1.0, np.inf, 2.0])):
        with pytest.raises(MeasurementUnusable, match="positive finite"):
            model.fit(widths, values)
    with pytest.raises(MeasurementUnusable):
        model.fit(widths[:0], np.zeros(0))
    with pytest.raises(UsageError, match="one column per channel group"):
        model.fit(widths[:, 1:], np.ones(3))


def test_parts_follow_the_layers(mobile):
    platform = SimulatedPlatform(staircase=16)
    seen = design(mobile, 64, 0)
    model = NetworkModel(mobile)
    model.fit(seen, _truth(mobile, platform, seen))
    for widths in design(mobile, 4, 5):
        parts = model.parts(widths)
        told = sum(parts.values())
        assert 0.3 < told / model.estimate(widths[None])[0][0] <= 1 + 1e-6  # the constant belongs to no layer
        records = [record for record in evaluated(mobile.layers, widths) if record.fan_in]
        # the first layer costs much the same whatever its width, which nobody can tell from the constant
        truth = np.array([platform.cost([record]).latency_ms for record in records[1:]])
        found = np.array([parts[record.name] for record in records[1:]])
        assert np.corrcoef(truth, found)[0, 1] > 0.95
    with pytest.raises(UsageError, match="before any data"):
        NetworkModel(mobile).parts(seen[0])
