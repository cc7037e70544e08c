from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netadapt.resources.yardsticks import on_scale, yardsticks


def test_they_are_the_original_its_half_and_its_quarter(mobile):
    original, half, quarter = (np.array(widths) for widths in yardsticks(mobile))
    assert original.tolist() == list(mobile.widths.values())
    assert np.abs(half / original - 0.5).max() <= 0.25 and np.abs(quarter / original - 0.25).max() <= 0.25
    assert np.all(half % 8 == 0) and np.all(quarter % 4 == 0)


moods = st.lists(st.floats(0.5, 2.0), min_size=3, max_size=3)


@given(moods, st.floats(0.01, 100.0))
@example([1.0, 0.5, 2.0 * (1 - 2e-6)], 1.5)
def test_yardsticks_themselves_are_put_where_they_were(factors, first_ms):
    reference = [first_ms, first_ms / 4, first_ms / 16]
    now = [ms * factor for ms, factor in zip(reference, factors, strict=True)]
    apart = 1 + 1e-6  # two that take the same time cannot both be put where they were
    if now[0] > apart * now[1] > apart**2 * now[2]:
        assert on_scale(np.array(now), now, reference) == pytest.approx(reference)


@given(st.floats(0.5, 2.0), st.floats(0.01, 10.0))
def test_what_slows_all_down_alike_changes_nothing(factor, level_ms):
    reference = [1.0, 0.3, 0.1]
    now = [factor * ms for ms in reference]
    assert on_scale(np.array([factor * level_ms]), now, reference) == pytest.approx([level_ms])


def test_between_yardsticks_the_slow_down_is_between_theirs():
    reference, now = [1.0, 0.25], [1.44, 0.25]  # only the wide one waits
    found = on_scale(np.array([1.44, 0.6, 0.25, 0.1]), now, reference)
    assert found == pytest.approx([1.0, 0.5, 0.25, 0.1])


def test_with_one_yardstick_it_is_the_ratio_to_it():
    assert on_scale(np.array([0.5, 3.0]), [2.0], [1.0]) == pytest.approx([0.25, 1.5])
    assert on_scale(np.array([0.5]), [2.0, 1.0, 0.5], [1.0]) == pytest.approx([0.25])
