"""What ncnn's files compute, for tests that compare two of them."""

from __future__ import annotations

import json

import numpy as np

from netadapt.platforms.runtimes.ncnn import run_once


def outputs(artifact):
    """Return the outputs of a network's files on fixed random inputs."""
    shapes = [entry["shape"] for entry in json.loads(artifact.path.read_bytes())["inputs"]]
    random = np.random.default_rng(1)
    return run_once(artifact, {}, [random.standard_normal(shape).astype(np.float32) for shape in shapes])


def assert_same_ncnn(first, second):
    """Check that two artifacts compute the same, within rounding."""
    for a, b in zip(outputs(first), outputs(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
