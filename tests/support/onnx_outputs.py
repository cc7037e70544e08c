"""What ONNX files compute, for tests that compare two of them."""

from __future__ import annotations

import numpy as np
import onnxruntime


def outputs(path):
    """Return the outputs of an ONNX file on fixed random inputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options)
    random = np.random.default_rng(1)
    feeds = {e.name: random.standard_normal(e.shape).astype(np.float32) for e in session.get_inputs()}
    return session.run(None, feeds)


def assert_same_onnx(first, second):
    """Check that two artifacts compute the same, within rounding."""
    for a, b in zip(outputs(first.path), outputs(second.path), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
