from __future__ import annotations

from collections.abc import Mapping

from netadapt.baselines.remeasured import Remeasured
from netadapt.baselines.uniform import UniformChooser
from netadapt.network.structure import ChannelGroup
from netadapt.proposals import NumFilters
from netadapt.resources.estimator import Values, Widths

GROUPS = [ChannelGroup("a", 64, ("a",), ())]


class Optimistic:
    """An estimator that believes the latency to be the width."""

    def fit(self, widths: Widths, values: Values) -> None: ...

    def estimate(self, widths: Widths) -> tuple[Values, Values]:
        values = widths[:, 0].astype(float)
        return values, 0 * values


def chooser(truth: Mapping[int, float]) -> tuple[NumFilters, list[int]]:
    measured: list[int] = []

    def measure(widths: Mapping[str, int]) -> dict[str, float]:
        measured.append(widths["a"])
        return {"latency": truth[widths["a"]]}

    return Remeasured(UniformChooser(GROUPS, {"latency": Optimistic()}, multiple=8, minimum=8), measure), measured


def test_a_network_slower_than_estimated_is_followed_by_a_narrower_one() -> None:
    """The truth has an overhead of 16: width 32 takes 48, and from there one has to go to 24 for a limit of 40."""
    twice, measured = chooser({32: 48.0, 40: 56.0})
    (found,) = twice.proposals({"a": 64}, {"latency": 80.0}, {"latency": 40.0})
    assert measured == [32]
    assert found.widths == {"a": 24}


def test_a_network_faster_than_estimated_is_followed_by_a_wider_one() -> None:
    twice, _ = chooser({32: 24.0})
    (found,) = twice.proposals({"a": 64}, {"latency": 64.0}, {"latency": 32.0})
    assert found.widths == {"a": 40}


def test_what_is_out_of_reach_is_not_measured() -> None:
    twice, measured = chooser({})
    assert twice.proposals({"a": 64}, {"latency": 64.0}, {"latency": 2.0}) == []
    assert measured == []


def test_where_nothing_fits_after_all_the_first_proposals_stay() -> None:
    """Even the narrowest is too slow by measurement: the algorithm will see it measured and say so."""
    twice, _ = chooser({8: 100.0})
    (found,) = twice.proposals({"a": 64}, {"latency": 64.0}, {"latency": 8.0})
    assert found.widths == {"a": 8}
