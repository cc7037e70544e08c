from __future__ import annotations

import numpy as np
import pytest
from curves import Curve, estimate, gain, speedup
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def points(draw):
    """Ratios falling from 1 and accuracies falling with them."""
    steps = draw(st.lists(st.tuples(st.floats(0.3, 0.9), st.floats(0.01, 0.2)), min_size=1, max_size=4))
    ratios, accuracies = np.cumprod([1.0, *(r for r, _ in steps)]), 0.95 - np.cumsum([0.0, *(a for _, a in steps)])
    return list(zip(ratios.tolist(), accuracies.tolist(), strict=True))


@given(points(), st.floats(0.5, 3), st.floats(0, 1))
def test_a_curve_shifted_in_latency_is_faster_by_the_shift(theirs, shift, share):
    ours = [(ratio / shift, accuracy) for ratio, accuracy in theirs]
    accuracy = theirs[-1][1] + share * (theirs[0][1] - theirs[-1][1])
    assert speedup(Curve.through(ours), Curve.through(theirs), accuracy) == pytest.approx(shift)


@given(points(), st.floats(-0.3, 0.3), st.floats(0, 1))
def test_a_curve_lifted_in_accuracy_gains_the_lift(theirs, lift, share):
    ours = [(ratio, accuracy + lift) for ratio, accuracy in theirs]
    ratio = theirs[-1][0] ** share
    if ratio >= theirs[-1][0]:
        assert gain(Curve.through(ours), Curve.through(theirs), ratio) == pytest.approx(lift)


@given(points(), points(), st.floats(0.1, 0.95), st.floats(0.01, 1))
def test_the_other_way_round_it_is_the_inverse(first, second, accuracy, ratio):
    a, b = Curve.through(first), Curve.through(second)
    assert speedup(a, b, accuracy) == pytest.approx(1 / speedup(b, a, accuracy), nan_ok=True)
    assert gain(a, b, ratio) == pytest.approx(-gain(b, a, ratio), nan_ok=True)


@given(points())
def test_a_curve_against_itself_is_nothing_won(one):
    curve = Curve.through(one)
    assert [speedup(curve, curve, accuracy) for _, accuracy in one] == [1.0] * len(one)
    assert [gain(curve, curve, ratio) for ratio, _ in one] == [0.0] * len(one)


def test_between_points_accuracy_is_linear_over_the_logarithm_of_the_latency():
    curve = Curve.through([(1.0, 0.9), (0.25, 0.7)])
    assert curve.accuracy_at(0.5) == pytest.approx(0.8)
    assert curve.ratio_at(0.8) == pytest.approx(0.5)


def test_outside_a_curve_nothing_is_known():
    curve = Curve.through([(1.0, 0.9), (0.25, 0.7)])
    assert np.isnan(
        [curve.accuracy_at(0.24), curve.accuracy_at(1.01), curve.ratio_at(0.69), curve.ratio_at(0.91)]
    ).all()
    assert curve.accuracy_at(0.25) == 0.7
    assert curve.ratio_at(0.9) == 1.0


def test_a_slower_network_that_is_worse_counts_with_the_faster_one():
    curve = Curve.through([(1.0, 0.9), (0.5, 0.7), (0.4, 0.8)])
    assert curve.ratio_at(0.8) == 0.4
    assert curve.ratio_at(0.85) == pytest.approx(0.5**0.5)


def test_an_estimate_is_the_median_over_its_parts_with_the_quantiles_of_the_replicates():
    replicates = np.linspace(1, 3, 101)
    found = estimate(np.column_stack([np.r_[2.0, replicates], np.r_[1.0, replicates], np.r_[3.0, replicates]]))
    assert found is not None
    assert (found.median, found.low, found.high) == pytest.approx((2, 1.05, 2.95))
    assert found.inside == 1


def test_parts_that_were_not_measured_do_not_count():
    nothing = np.full((11, 1), np.nan)
    assert estimate(nothing) is None
    part = np.full((11, 1), 2.0)
    found = estimate(np.column_stack([nothing, part]))
    assert found is not None
    assert (found.median, found.low, found.high) == (2, 2, 2)
    assert found.inside == 1


def test_replicates_outside_the_curves_are_counted():
    part = np.full((11, 2), 2.0)
    part[1:4, 0] = np.nan
    found = estimate(part)
    assert found is not None
    assert found.inside == pytest.approx(17 / 20)
    assert found.to_json() == {"median": 2, "low": 2, "high": 2, "inside": 0.85}


def test_a_curve_of_one_point_is_known_there_alone():
    curve = Curve.through([(0.5, 0.8)])
    assert (curve.accuracy_at(0.5), curve.ratio_at(0.8)) == (0.8, 0.5)
    assert np.isnan([curve.accuracy_at(0.51), curve.ratio_at(0.79), curve.ratio_at(0.81)]).all()
