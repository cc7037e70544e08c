"""Tables of text."""

from __future__ import annotations

from netadapt.report.table import comparison, summary, table
from netadapt.runs.state import State, read_state


def test_plain_columns_line_up():
    assert table(["", "a"], [["latency", "1 ms"], ["x", "10.25 ms"]]) == (
        "                a\n-------  --------\nlatency      1 ms\nx        10.25 ms"
    )


def test_markdown_is_not_broken_by_names():
    text = table(["name", "n"], [["a|b\n<i>[x](y)`*_", "1"]], markdown=True)
    assert text.splitlines()[1].startswith("| ---")
    assert r"a\|b \<i\>\[x\](y)\`\*\_" in text
    assert len(text.splitlines()) == 3


def test_terminal_codes_are_removed():
    assert "\x1b" not in table(["x"], [["\x1b[31mred"]])


def test_summary_of_a_finished_run(make_run):
    text = summary(read_state(make_run()))
    for line in ("latency", "0.999 ms", "0.481 ms", "-51.9 %", "64.7 %", "-1.7 points", "49.5 MMAC"):
        assert line in text
    assert text.endswith("The found network beats uniform width by 3.5 ± 2.7 points.")


def test_summary_of_an_unfinished_run(make_run):
    rows = {row[0]: row for row in comparison(read_state(make_run(steps=2, finished=False)))}
    assert rows["latency"][2] == "0.937 ms"
    assert rows["accuracy (test)"][2] == ""
    assert summary(State()) == "The run has not measured the original network yet."
