from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from netadapt.resources.process import Hyperparameters, Process, _negative_evidence, _square_distances


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    linear = random.normal(size=(30, 6)).astype(np.float32)
    position = random.normal(size=(30, 2)).astype(np.float32)
    blocks = np.array([0, 1, 1, 2, 2, 2])
    targets = linear @ [0.1, 0.02, -0.03, 0.0, 0.0, 0.0] + 0.05 * np.sin(position[:, 0])
    return linear, blocks, position, targets + random.normal(0, 0.005, 30)


HYPER = Hyperparameters((0.1, 0.03, 0.001), 0.05, 0.8, 0.01)


def _dense(linear, blocks, position, other_linear, other_position):
    """The covariance function, written out."""
    variances = np.square(HYPER.amplitudes)[blocks]
    distances = ((position[:, None] - other_position[None]) ** 2).sum(axis=2)
    return linear * variances @ other_linear.T + HYPER.radial**2 * np.exp(-distances / 2 / HYPER.length**2)


def test_predictions_equal_the_textbook(data):
    linear, blocks, position, targets = (np.asarray(array) for array in data)
    random = np.random.default_rng(1)
    new_linear = random.normal(size=(7, 6)).astype(np.float32)
    new_position = random.normal(size=(7, 2)).astype(np.float32)
    mean, variance = Process(linear, blocks, position, targets, HYPER).predict(new_linear, new_position)
    inverse = np.linalg.inv(_dense(linear, blocks, position, linear, position) + HYPER.noise**2 * np.eye(30))
    cross = _dense(new_linear, blocks, new_position, linear, position)
    assert mean == pytest.approx(cross @ inverse @ targets, abs=1e-5)
    prior = np.diag(_dense(new_linear, blocks, new_position, new_linear, new_position))
    assert variance == pytest.approx(prior - np.sum(cross @ inverse * cross, axis=1), abs=1e-5)


def test_leave_one_out_equals_leaving_one_out(data):
    linear, blocks, position, targets = data
    left_out = Process(linear, blocks, position, targets, HYPER).leave_one_out()
    for index in (0, 7, 29):
        rest = np.arange(30) != index
        process = Process(linear[rest], blocks, position[rest], targets[rest], HYPER)
        mean, _ = process.predict(linear[[index]], position[[index]])
        assert left_out[index] == pytest.approx(targets[index] - mean[0], abs=1e-5)


def test_the_gradient_of_the_evidence_is_right(data):
    linear, blocks, position, targets = (np.asarray(array, dtype=np.float64) for array in data)
    kernels = np.stack([linear[:, blocks == b] @ linear[:, blocks == b].T for b in range(3)])
    distances = _square_distances(position, position)
    point = np.log([0.1, 0.03, 0.02, 0.05, 0.8, 0.01])
    loss = lambda p: _negative_evidence(p, kernels, distances, targets)[0]  # noqa: E731
    _, gradient = _negative_evidence(point, kernels, distances, targets)
    assert gradient == pytest.approx(approx_fprime(point, loss, 1e-6), rel=1e-3, abs=1e-3)


def test_it_finds_the_noise_and_what_matters(data):
    chosen = Process(*data).hyperparameters
    assert 0.003 < chosen.noise < 0.009
    assert chosen.amplitudes[2] < 0.3 * chosen.amplitudes[0]
