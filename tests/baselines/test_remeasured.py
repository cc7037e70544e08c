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

    uniform = UniformChooser(GROUPS, {"latency": Optimistic()}, multiple=8, minimum=8)
    return Remeasured(uniform, measure, {"a": 64}), measured


def test_a_network_slower_than_estimated_is_followed_by_a_narrower_one() -> None:
    """The truth has an overhead of 16: width 32 takes 48, and from there one has to go to 24 for a limit of 40."""
    again, measured = chooser({32: 48.0, 24: 40.0})
    (found,) = again.proposals({"a": 64}, {"latency": 80.0}, {"latency": 40.0})
    assert measured == [32, 24]
    assert found.widths == {"a": 24}


def test_a_network_faster_than_estimated_is_followed_by_a_wider_one() -> None:
    again, measured = chooser({32: 20.0, 48: 31.0})
    (found,) = again.proposals({"a": 64}, {"latency": 64.0}, {"latency": 32.0})
    assert measured == [32, 48]
    assert found.widths == {"a": 48}


def test_measurements_that_contradict_each_other_come_to_an_end() -> None:
    again, measured = chooser({8: 1.0, 64: 60.0})
    found = again.proposals({"a": 64}, {"latency": 64.0}, {"latency": 8.0})
    assert len(measured) == 3
    assert len(found) == 1


def test_what_is_out_of_reach_is_not_measured() -> None:
    again, measured = chooser({})
    assert again.proposals({"a": 64}, {"latency": 64.0}, {"latency": 2.0}) == []
    assert measured == []


def test_where_nothing_fits_after_all_the_first_proposals_stay() -> None:
    """Even the narrowest is too slow by measurement: the algorithm will see it measured and say so."""
    again, _ = chooser({8: 100.0})
    (found,) = again.proposals({"a": 64}, {"latency": 64.0}, {"latency": 8.0})
    assert found.widths == {"a": 8}


def test_from_the_network_of_a_step_nothing_is_measured_in_passing() -> None:
    """It was measured end to end; a second, coarser measurement could propose it again, for ever."""
    again, measured = chooser({})
    (found,) = again.proposals({"a": 32}, {"latency": 41.0}, {"latency": 40.0})
    assert measured == []
    assert found.widths == {"a": 24}
