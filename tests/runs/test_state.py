"""The fold of a journal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netadapt.errors import RunDamaged
from netadapt.runs.journal import Record, read_records
from netadapt.runs.state import State, fold, read_state


def records(*entries):
    return [Record(number, f"t{number}", kind, data) for number, (kind, data) in enumerate(entries, 1)]


def step(iteration, **more):
    return ("step", {"iteration": iteration, "variant": f"{iteration:03d}", "widths": {}, "measured": {}} | more)


def proposal(key, iteration, **more):
    return ("proposal", {"key": key, "iteration": iteration} | more)


def test_nothing_gives_nothing():
    assert fold([]) == State()
    assert fold([]).training_images == 0


def test_a_record_written_again_replaces_the_older():
    state = fold(
        records(proposal("a", 1, images=1), step(1, accuracy=0.1), proposal("a", 1, images=5), step(1, accuracy=0.2))
    )
    assert [s["accuracy"] for s in state.steps] == [0.2]
    assert state.proposals["a"]["images"] == 5


def test_unknown_types_are_skipped():
    assert fold(records(("resumed", {"anything": 1}), step(1))).steps != ()


def test_a_stop_that_was_resumed_from_is_over():
    assert fold(records(step(1), ("stop", {"reason": "interrupted"}))).stop == {"reason": "interrupted"}
    assert fold(records(step(1), ("stop", {"reason": "interrupted"}), step(2))).stop is None


def test_a_record_without_what_readers_need_is_refused():
    with pytest.raises(RunDamaged, match=r"line 1 \(step\) lacks variant, widths"):
        fold(records(("step", {"iteration": 1, "measured": {}})))


def test_costs_count_steps_open_iterations_and_the_long_term_tune():
    state = fold(records(
        ("estimator", {"seconds": 30.0}),
        proposal("1/a", 1, images=100, seconds=1.0), proposal("1/b", 1, images=100, seconds=1.0),
        step(1, training_images=200, forward_images=50, seconds=2.5),
        proposal("2/a", 2, images=70, seconds=1.0),
        ("long_term", {"variant": "001", "images": 1000}),
        ("uniform", {"images": 1000}),
    ))  # fmt: skip
    assert state.search_images == 270
    assert state.training_images == 1270
    assert state.forward_images == 50
    assert state.search_seconds == 33.5


def test_the_noise_of_a_step_is_known_by_resource_and_from_the_first_runs_as_one_figure():
    def start(**noise):
        return fold(records(("start", {"budget": {}, "initial": {}, "noise": noise})))

    by_resource = {"latency": 0.02, "memory": 0.0}
    assert start(of_a_step=0.02, of_a_step_by_resource=by_resource).noise == by_resource
    assert start(of_a_step=by_resource).noise == by_resource  # of one day
    assert start(of_a_step=0.02).noise == {"latency": 0.02, "energy": 0.02, "memory": 0.02}


def test_steps_are_in_order_of_iteration():
    assert [s["iteration"] for s in fold(records(step(2), step(1))).steps] == [1, 2]


def test_every_prefix_of_a_run_can_be_folded(make_run):
    all_records = read_records(make_run(steps=2) / "journal.jsonl")
    for length in range(len(all_records) + 1):
        assert len(fold(all_records[:length]).steps) <= 2


@given(
    st.lists(st.tuples(st.sampled_from(["start", "step", "final", "other"]), st.dictionaries(st.text(), st.integers())))
)
def test_any_records_are_folded_or_refused(entries):
    try:
        fold(records(*entries))
    except RunDamaged as error:
        assert "lacks" in str(error)


def test_a_folder_without_journal(tmp_path):
    with pytest.raises(RunDamaged, match="folder of a run"):
        read_state(tmp_path)
