"""A Gaussian process for few points and many columns: linear columns in blocks plus one radial term.

Hyperparameters by marginal likelihood with analytic gradients, leave-one-out errors in closed form, predictions as
one matrix product. Rasmussen and Williams, Gaussian Processes for Machine Learning, equations 2.30, 5.9 and 5.12.
Used by `network_model.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

Floats = NDArray[np.float64]
Columns = NDArray[np.float32]
_F = TypeVar("_F", np.float32, np.float64)

#: standard deviations, relative to the target, that are plausible before any data, and their spread in e-folds
_PRIOR_AMPLITUDE, _PRIOR_LENGTH, _PRIOR_NOISE = 0.05, 1.0, 0.01
_PRIOR_SPREAD = (2.0, 0.7, 1.5)
_BOUNDS = ((1e-4, 1.0), (0.2, 5.0), (5e-4, 0.3))


@dataclass(frozen=True)
class Hyperparameters:
    """What the marginal likelihood chooses.

    Attributes:
        amplitudes: standard deviation of the weights of each block of columns, ``(blocks,)``.
        radial: standard deviation of the radial term.
        length: its length scale.
        noise: standard deviation of one target.
    """

    amplitudes: tuple[float, ...]
    radial: float
    length: float
    noise: float

    @classmethod
    def prior(cls, blocks: int) -> Hyperparameters:
        """Return what is assumed before any data."""
        return cls((_PRIOR_AMPLITUDE,) * blocks, _PRIOR_AMPLITUDE, _PRIOR_LENGTH, _PRIOR_NOISE)


class Process:
    """A Gaussian process of zero mean, conditioned on targets.

    Args:
        linear: ``(n, columns)`` of the points.
        blocks: ``(columns,)`` block of each column, numbered from 0.
        position: ``(n, d)`` coordinates of the radial term.
        targets: ``(n,)``.
        chosen: hyperparameters; ``None`` chooses them by marginal likelihood.
    """

    def __init__(
        self,
        linear: Columns,
        blocks: NDArray[np.int64],
        position: Columns,
        targets: Floats,
        chosen: Hyperparameters | None = None,
    ) -> None:
        exact, coordinates = linear.astype(np.float64), position.astype(np.float64)
        self.hyperparameters = chosen or _maximise(exact, blocks, coordinates, targets)
        hyper = self.hyperparameters
        variances = np.square(hyper.amplitudes)[blocks]
        kernel = (exact * variances) @ exact.T
        kernel += hyper.radial**2 * np.exp(-0.5 * _square_distances(coordinates, coordinates) / hyper.length**2)
        kernel[np.diag_indices_from(kernel)] += hyper.noise**2
        inverse = solve_triangular(np.linalg.cholesky(kernel), np.eye(len(targets)), lower=True)
        alpha = inverse.T @ (inverse @ targets)
        self._left_out: Floats = alpha / np.sum(inverse**2, axis=0)
        # Cross covariances times `both` give square roots of the explained variance (their squares' sum), and the mean.
        both = np.concatenate([inverse.T, alpha[:, None]], axis=1)
        self._columns_map = ((exact * variances).T @ both).astype(np.float32)
        self._radial_map = both.astype(np.float32)
        self._variances = variances.astype(np.float32)
        self._position = position

    def leave_one_out(self) -> Floats:
        """Return for each point its target minus what the other points predict."""
        return self._left_out

    def predict(self, linear: Columns, position: Columns) -> tuple[Floats, Floats]:
        """Return means and variances (without noise), both ``(m,)``."""
        both = linear @ self._columns_map
        both += self._radial(position) @ self._radial_map
        prior = np.square(linear) @ self._variances + self.hyperparameters.radial**2
        mean = both[:, -1].astype(np.float64)
        return mean, np.asarray(np.maximum(prior - np.square(both[:, :-1]).sum(axis=1), 0.0), dtype=np.float64)

    def _radial(self, position: Columns) -> Columns:
        hyper = self.hyperparameters
        scaled = _square_distances(position, self._position)
        scaled *= np.float32(-0.5 / hyper.length**2)
        np.exp(scaled, out=scaled)
        scaled *= np.float32(hyper.radial**2)
        return scaled


def _square_distances(left: NDArray[_F], right: NDArray[_F]) -> NDArray[_F]:
    product: NDArray[_F] = -2 * (left @ right.T)
    product += np.square(left).sum(axis=1)[:, None]
    product += np.square(right).sum(axis=1)
    np.maximum(product, 0, out=product)
    return product


def _maximise(linear: Floats, blocks: NDArray[np.int64], position: Floats, targets: Floats) -> Hyperparameters:
    """Maximise the marginal likelihood times a broad log-normal prior over the logarithms of all hyperparameters."""
    count = int(blocks.max()) + 1
    kernels = np.stack([linear[:, blocks == b] @ linear[:, blocks == b].T for b in range(count)])
    distances = _square_distances(position, position)
    prior = Hyperparameters.prior(count)
    start = np.log([*prior.amplitudes, prior.radial, prior.length, prior.noise])
    kinds = [0] * (count + 1) + [1, 2]
    spread = np.array(_PRIOR_SPREAD)[kinds]

    def objective(point: Floats) -> tuple[float, Floats]:
        loss, gradient = _negative_evidence(point, kernels, distances, targets)
        away = (point - start) / spread
        return loss + 0.5 * float(away @ away), gradient + away / spread

    bounds: Any = [tuple(np.log(_BOUNDS[kind])) for kind in kinds]
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
    best = np.exp(found.x)
    return Hyperparameters(tuple(map(float, best[:count])), float(best[-3]), float(best[-2]), float(best[-1]))


def _negative_evidence(point: Floats, kernels: Floats, distances: Floats, targets: Floats) -> tuple[float, Floats]:
    """Return minus the logarithm of the marginal likelihood, and its gradient by the logarithms in ``point``."""
    variances, length = np.exp(2 * point[:-2]), float(np.exp(point[-2]))
    radial = variances[-1] * np.exp(-0.5 * distances / length**2)
    linear = np.einsum("b,bij->ij", variances[:-1], kernels)
    noise = float(np.exp(2 * point[-1]))
    factor = cho_factor(linear + radial + noise * np.eye(len(targets)), lower=True)
    inverse = cho_solve(factor, np.eye(len(targets)))
    alpha = inverse @ targets
    loss = 0.5 * float(targets @ alpha) + float(np.log(np.diag(factor[0])).sum())
    pull = 0.5 * (inverse - np.outer(alpha, alpha))
    gradient = np.concatenate(
        [
            2 * variances[:-1] * np.einsum("ij,bij->b", pull, kernels),
            [2 * np.sum(pull * radial), np.sum(pull * radial * distances) / length**2],
            [2 * noise * np.trace(pull)],
        ]
    )
    return loss, gradient
