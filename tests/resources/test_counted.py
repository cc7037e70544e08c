from __future__ import annotations

import numpy as np
import pytest

from netadapt.errors import BudgetError
from netadapt.resources.counted import Counted
from netadapt.resources.designs import design


def test_counts_equal_the_shrunk_network(tiny):
    widths = design(tiny, 6, 0)
    for resource, scale in (("parameters", 1.0), ("size", 4e-6)):
        values, sigma = Counted(tiny, resource).estimate(widths)
        for row, value in zip(widths, values, strict=True):
            kept = {name: range(width) for name, width in tiny.mapping(row).items()}
            shrunk = tiny.shrink(kept)
            assert value == pytest.approx(scale * sum(p.numel() for p in shrunk.parameters()), rel=1e-12)
        assert np.all(sigma == 0)


def test_macs_equal_the_algebra(tiny):
    widths = design(tiny, 6, 0)
    estimator = Counted(tiny, "macs")
    estimator.fit(widths, np.ones(6))
    assert estimator.estimate(widths)[0].tolist() == [tiny.macs(tiny.mapping(row)) for row in widths]


def test_a_measured_resource_cannot_be_counted(tiny):
    with pytest.raises(BudgetError, match="counted are macs, parameters, size"):
        Counted(tiny, "latency")
