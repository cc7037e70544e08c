from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from netadapt.baselines.uniform import UniformChooser, uniform_widths, widest_within
from netadapt.network.structure import ChannelGroup


def groups(*widths: int, multiple: int = 1) -> list[ChannelGroup]:
    return [ChannelGroup(f"g{i}", width, (), (), multiple=multiple) for i, width in enumerate(widths)]


class Sum:
    """An estimator: the sum of the widths."""

    def fit(self, widths: np.ndarray, values: np.ndarray) -> None: ...

    def estimate(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return widths.sum(1).astype(float), np.zeros(len(widths))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.sampled_from([1, 4, 8]), st.integers(1, 16))
def test_uniform_networks_fall_from_the_original_to_the_minimum(sizes: list[int], multiple: int, minimum: int) -> None:
    rows = uniform_widths(groups(*sizes), multiple=multiple, minimum=minimum)
    assert rows[0].tolist() == sizes
    assert (np.diff(rows, axis=0) <= 0).all()
    assert len(np.unique(rows, axis=0)) == len(rows)
    least = -(-minimum // multiple) * multiple
    assert all(w in (size, *range(least, size, multiple)) for row in rows for w, size in zip(row, sizes, strict=True))
    assert rows[-1].tolist() == [min(least, size) for size in sizes]


def test_half_width_is_half_of_every_group() -> None:
    rows = uniform_widths(groups(32, 64, 128), multiple=8, minimum=8).tolist()
    assert [16, 32, 64] in rows


def test_a_groups_own_multiple_is_kept() -> None:
    rows = uniform_widths(groups(48, multiple=12), multiple=8, minimum=8)
    assert rows[:, 0].tolist() == [48, 24]


def test_the_widest_network_within_a_limit_is_taken() -> None:
    rows = uniform_widths(groups(32, 64), multiple=8, minimum=8)
    found = widest_within(rows, Sum(), 50.0)
    assert found is not None
    assert found.sum() == max(row.sum() for row in rows if row.sum() <= 50)
    assert widest_within(rows, Sum(), 10.0) is None


def test_the_width_multiplier_proposes_one_network_within_the_constraint() -> None:
    both = groups(32, 64)
    chooser = UniformChooser(both, {"latency": Sum()}, multiple=8, minimum=8)
    (found,) = chooser.proposals({"g0": 32, "g1": 64}, {"latency": 96.0}, {"latency": 50.0})
    assert found.widths == {"g0": 16, "g1": 32}
    assert found.groups == ("g0", "g1")
    assert found.estimated == {"latency": 48.0}
    assert chooser.proposals({"g0": 32, "g1": 64}, {"latency": 96.0}, {"latency": 10.0}) == []


def test_the_width_multiplier_meets_every_resource() -> None:
    class Squares(Sum):
        def estimate(self, widths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return (widths**2).sum(1).astype(float), np.zeros(len(widths))

    chooser = UniformChooser(groups(32, 64), {"latency": Sum(), "macs": Squares()}, multiple=8, minimum=8)
    start, limits = {"latency": 96.0, "macs": 5120.0}, {"latency": 80.0, "macs": 400.0}
    (found,) = chooser.proposals({"g0": 32, "g1": 64}, start, limits)
    assert found.widths == {"g0": 8, "g1": 16}
