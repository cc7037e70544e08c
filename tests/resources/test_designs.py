from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from netadapt.network.structure import AxisUse, ChannelGroup
from netadapt.resources.designs import design


class _Groups:
    """All that a design reads of a network."""

    def __init__(self, groups: tuple[ChannelGroup, ...]) -> None:
        self.groups = groups


_GROUP = st.builds(
    lambda step, units, least, block: ChannelGroup(
        "g", step * units, (), (), minimum=min(least, step * units), multiple=step, block=block
    ),
    st.integers(1, 6), st.integers(1, 200), st.integers(1, 40), st.sampled_from(["", "", "b"]),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(_GROUP, max_size=12), st.integers(0, 30), st.integers(0, 9), st.sampled_from([1, 4, 8, 16]))
def test_widths_are_allowed_unique_and_never_the_original(groups, count, seed, granule):
    network = _Groups(tuple(groups))
    widths = design(network, count, seed, granule=granule)
    whole = np.array([group.width for group in groups], dtype=np.int64)
    assert widths.shape[1] == len(groups) and len(widths) <= count
    assert len({tuple(row) for row in widths}) == len(widths)
    assert not any(np.array_equal(row, whole) for row in widths)
    for column, group in enumerate(groups):
        there = widths[:, column] > 0
        assert np.all(there) or group.block
        assert np.all(widths[there, column] >= group.minimum) and np.all(widths[:, column] <= group.width)
        assert np.all(widths[:, column] % group.multiple == 0)


def test_half_of_the_networks_lack_blocks_where_blocks_can_go():
    groups = tuple(ChannelGroup("g", 64, (), (), block="b" * (number > 1)) for number in range(8))
    gone = design(_Groups(groups), 80, 0) == 0
    assert not gone[:, :2].any()
    assert 0.3 < gone.any(axis=1).mean() < 0.7
    assert set(gone.sum(axis=1)) >= {0, 1, 6}


def test_a_longer_design_begins_with_the_shorter_one(mobile):
    assert np.array_equal(design(mobile, 60, 3)[:20], design(mobile, 20, 3))
    assert not np.array_equal(design(mobile, 20, 3), design(mobile, 20, 4))


def test_it_covers_small_large_and_uniform_networks(mobile):
    whole = np.array(list(mobile.widths.values()))
    widths = design(mobile, 64, 0)
    assert len(widths) == 64
    share = widths / whole
    assert share.mean(axis=1).min() < 0.35 and share.mean(axis=1).max() > 0.8
    assert np.sum(np.ptp(share, axis=1) < 0.35) >= 5  # nearly the same share everywhere
    assert np.mean((share == 1).mean(axis=1) > 0.5) > 0.15  # near-full
    big = widths[:, whole >= 48]
    assert np.all((big % 8 == 0) | (big == whole[whole >= 48]))
    assert 0.2 < np.mean(np.all((big % 16 == 0) | (big == whole[whole >= 48]), axis=1)) < 0.9


def test_a_network_with_few_combinations_gives_them_all():
    network = _Groups((ChannelGroup("g", 4, (), ()),))
    assert sorted(design(network, 50, 0)[:, 0]) == [1, 2, 3]


def test_units_that_are_blocks_of_channels_need_no_multiple_of_their_own():
    axis = AxisUse("qkv.weight", 0, np.arange(12 * 64).reshape(12, 64), "output")
    network = _Groups((ChannelGroup("heads", 12, (), (axis,)),))
    assert sorted(design(network, 50, 0)[:, 0]) == list(range(1, 12))
