from __future__ import annotations

import numpy as np
import pytest
from curves import estimate
from outcomes import Resampled, outcome

from .conftest import IMAGES, document, ends, marks

REPLICATES = 200


def resampled(*documents):
    return Resampled([outcome(one) for one in documents], REPLICATES, 0)


def noisy(share, seed):
    return np.random.default_rng(seed).random(IMAGES) < share


def test_networks_as_accurate_at_half_the_latency_are_twice_as_fast():
    seeds = range(3)
    theirs = [
        document("uniform", b, r, a, seed=s) for b, r, a in (("50%", 0.5, 0.8), ("25%", 0.25, 0.6)) for s in seeds
    ]
    ours = [
        document("netadapt", b, r, a, seed=s) for b, r, a in (("50%", 0.25, 0.8), ("25%", 0.125, 0.6)) for s in seeds
    ]
    compared = resampled(*ours, *theirs).compare("netadapt", "uniform")
    assert compared is not None
    assert (compared.budgets, compared.seeds) == (("50%", "25%"), (0, 1, 2))
    np.testing.assert_allclose(compared.speedups[0], 2.0)
    found = estimate(compared.speedups)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((2, 2))  # the very same images are right


def test_the_same_accuracy_from_other_images_ties_within_the_interval():
    ours = [document("netadapt", "50%", 0.5, noisy(0.8, seed), seed=seed) for seed in range(3)]
    theirs = [document("uniform", "50%", 0.5, noisy(0.8, seed + 10), seed=seed) for seed in range(3)]
    compared = resampled(*ours, *theirs, *ends(seeds=range(3))).compare("netadapt", "uniform")
    assert compared is not None
    gain, faster = estimate(compared.gains), estimate(compared.speedups)
    assert gain is not None
    assert faster is not None
    assert gain.low < 0 < gain.high
    assert faster.low < 1 < faster.high


def test_networks_are_compared_on_the_same_images():
    """Two points of difference on 400 images are lost in two separate intervals, not in a paired one."""
    theirs, ours = noisy(0.7, 0), noisy(0.7, 0)
    wrong = np.flatnonzero(~theirs)[:12]
    ours[wrong] = True
    compared = resampled(document("netadapt", "50%", 0.5, ours), document("uniform", "50%", 0.5, theirs)).compare(
        "netadapt", "uniform"
    )
    assert compared is not None
    found = estimate(compared.gains)
    assert found is not None
    assert found.median == pytest.approx(12 / IMAGES)
    assert 0.01 < found.low < found.high < 0.05


def test_the_interval_covers_the_spread_of_the_seeds():
    shares = {0: 0.5, 1: 0.6, 2: 0.7}
    one = resampled(*(document("netadapt", "50%", 0.5, share, seed=seed) for seed, share in shares.items()))
    found = estimate(one.accuracy(("netadapt", "50%"), (0, 1, 2))[:, None])
    assert found is not None
    assert found.median == pytest.approx(0.6)
    assert found.high - found.low > 0.1


def test_only_budgets_and_seeds_of_both_methods_are_compared():
    ours = [document("netadapt", budget, 0.4, 0.8, seed=seed) for budget in ("50%", "25%") for seed in (0, 1)]
    one = resampled(*ours, document("uniform", "50%", 0.5, 0.8, seed=1), document("uniform", "10%", 0.1, 0.3))
    compared = one.compare("netadapt", "uniform")
    assert compared is not None
    assert (compared.budgets, compared.seeds) == (("50%",), (1,))
    assert one.compare("netadapt", "from-scratch") is None


def test_a_budget_with_fewer_seeds_than_another_still_counts():
    documents = [document(m, "50%", 0.5, 0.8, seed=s) for m in ("netadapt", "uniform") for s in range(3)]
    documents += [document(m, "25%", 0.25, 0.6, seed=0) for m in ("netadapt", "uniform")]
    compared = resampled(*documents).compare("netadapt", "uniform")
    assert compared is not None
    np.testing.assert_allclose(compared.gains[0], 0.0)
    assert np.isnan(compared.gains[1:, 1]).any()  # replicates that did not draw the only seed
    assert np.isfinite(compared.gains[1:, 0]).all()


def compared_at_half(ours, theirs, *more):
    """Return the comparison of two networks of half the latency, by their accuracies."""
    documents = (document("netadapt", "50%", 0.5, ours), document("uniform", "50%", 0.5, theirs), *more)
    compared = resampled(*documents).compare("netadapt", "uniform")
    assert compared is not None
    return compared


def test_accuracies_above_the_tuned_original_are_outside_the_curve_of_the_other():
    compared = compared_at_half(0.95, 0.8, *ends())
    assert np.isnan(compared.speedups[0, 0])
    assert compared.gains[0, 0] == pytest.approx(0.15)


def test_the_same_seed_draws_the_same():
    documents = [document(m, "50%", 0.5, noisy(0.8, 3), seed=s) for m in ("netadapt", "uniform") for s in range(3)]
    first, second = (resampled(*documents).compare("netadapt", "uniform") for _ in range(2))
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.gains, second.gains)


def test_cells_of_different_test_images_are_refused():
    with pytest.raises(ValueError, match="different numbers of test images"):
        resampled(
            document("netadapt", "50%", 0.5, marks(0.8, 40), original=marks(0.9, 40)),
            document("uniform", "50%", 0.5, marks(0.8, 41), original=marks(0.9, 41)),
        )


def test_the_start_network_is_the_mean_over_its_seeds():
    one = resampled(*(document("uniform", "50%", 0.5, 0.5, seed=s, original=a) for s, a in ((0, 0.8), (1, 0.9))))
    assert (one.original.milliseconds, one.original.accuracy) == pytest.approx((2.0, 0.85))


def test_without_a_tuned_original_nothing_is_known_beyond_the_methods_own_points():
    compared = compared_at_half(0.85, 0.8)  # the start network has 0.9, and is on no curve
    assert np.isnan(compared.speedups).all()
    assert compared.gains[0, 0] == pytest.approx(0.05)
    ours = [document("netadapt", b, r, a) for b, r, a in (("50%", 0.5, 0.8), ("25%", 0.25, 0.7))]
    theirs = [document("uniform", b, r, a) for b, r, a in (("50%", 0.6, 0.8), ("25%", 0.25, 0.6))]
    compared = resampled(*ours, *theirs).compare("netadapt", "uniform")
    assert compared is not None
    assert compared.speedups[0, 0] == pytest.approx(1.2)
    assert compared.speedups[0, 1] > 1  # between the points of the baseline
    assert np.isnan(compared.gains[0, 0])  # at a latency of 0.6, where our curve has ended
    assert compared.gains[0, 1] == pytest.approx(0.1)


def test_the_right_end_is_the_tuned_original_and_not_the_start():
    compared = compared_at_half(0.85, 0.8, *ends(0.95))
    assert compared.speedups[0, 0] == pytest.approx(2 ** (1 / 3))  # a third of the way from 0.8 to 0.95
    lower = compared_at_half(0.85, 0.8, *ends(0.85))
    assert lower.speedups[0, 0] == pytest.approx(2)
    assert np.isnan(compared_at_half(0.87, 0.8, *ends(0.85)).speedups[0, 0])  # the start's 0.9 would have reached it


def test_the_right_end_is_of_the_common_seeds():
    more = [document("uniform", "50%", 0.5, 0.8, seed=1), *ends(0.95), *ends(0.99, seeds=[1])]
    assert compared_at_half(0.85, 0.8, *more).speedups[0, 0] == pytest.approx(2 ** (1 / 3))
    assert np.isnan(compared_at_half(0.85, 0.8, *ends(0.95, seeds=[1])).speedups[0, 0])


def test_replicates_inside_the_curves_are_all_or_fewer():
    inside = estimate(compared_at_half(noisy(0.7, 1), noisy(0.6, 2), *ends(0.95)).speedups)
    borderline = estimate(compared_at_half(noisy(0.8, 1), noisy(0.6, 2), *ends(0.83)).speedups)
    assert inside is not None
    assert borderline is not None
    assert inside.inside == 1
    assert 0.3 < borderline.inside < 1
