"""What is known of a run while it goes on, as lines and as a picture."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from netadapt.cli.live import live, picture
from netadapt.cli.plain import line, plain
from netadapt.cli.progress import Progress, shown

START = {
    "budget": {"latency": 5.0},
    "initial": {"resources": {"latency": 10.0}, "accuracy_selection": 0.7},
    "noise": {"relative": 0.01},
    "groups": [{"name": "a", "width": 64}, {"name": "b[0]", "width": 32}],
}
ITERATION = {
    "iteration": 1,
    "constraint": {"latency": 9.0},
    "proposals": [{"groups": ["a"]}, {"groups": ["a", "b[0]"]}],
}
SCORED = {"iteration": 1, "group": "a", "widths": {"a": 48, "b[0]": 32}, "metric": 0.5, "loss": 1.25, "count": 100}
PROPOSAL = {
    "key": "001-x", "iteration": 1, "group": "a+b[0]", "widths": {"a": 48, "b[0]": 16}, "estimated": {"latency": 8.9},
    "score": {"metric": 0.6, "loss": 1.0}, "images": 64, "seconds": 2.0, "failed": None,
}  # fmt: skip
STEP = {
    "iteration": 1, "group": "a+b[0]", "widths": {"a": 48, "b[0]": 16}, "estimated": {"latency": 8.9},
    "measured": {"latency": 7.5}, "accuracy": 0.65, "variant": "001", "seconds": 12.0,
}  # fmt: skip
TOLD = [("start", START), ("iteration", ITERATION), ("scored", SCORED), ("proposal", PROPOSAL), ("step", STEP)]


def told(progress: Progress) -> Progress:
    for type_, data in TOLD:
        progress.take(type_, data)
    return progress


def test_the_share_is_of_the_way_from_start_to_budget() -> None:
    progress = Progress()
    assert progress.share == 0
    told(progress)
    assert progress.share == pytest.approx(0.5)
    assert progress.left_s() is not None
    assert progress.accuracy == 0.65


def test_another_metric_is_called_by_its_name() -> None:
    progress = told(Progress())
    assert progress.metric == "acc"
    progress.take("start", START | {"metric": "mIoU of 3 classes"})
    assert progress.metric == "mIoU_of_"
    assert any(" mIoU_of_=0.65" in line(told) for told in _lines(progress))


def _lines(progress: Progress) -> list[dict[str, object]]:
    from netadapt.cli.plain import _step

    return list(_step(progress, STEP))


def test_a_budget_on_another_resource_is_shown() -> None:
    progress = Progress()
    start = START | {"budget": {"macs": 4.0}, "initial": {"resources": {"latency": 1.0, "macs": 8.0}}}
    progress.take("start", start)
    assert (progress.resource, progress.start, progress.budget) == ("macs", 8.0, 4.0)


def test_unknown_records_are_skipped() -> None:
    progress = Progress()
    progress.take("of the future", {"x": 1})
    progress.take("take", {"x": 1})
    assert progress == Progress(began=progress.began)


def test_one_plain_line_per_proposal(capsys: pytest.CaptureFixture[str]) -> None:
    with plain(Progress()) as listen:
        for type_, data in TOLD:
            listen(type_, data)
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ \w+=", text) for text in lines)
    (tuned,) = (text for text in lines if "tuned=yes" in text)
    for word in ("it=1", "group=a+b[0]", "kept=48/64,16/32", "estimated=8.9", "acc=0.6", "images=64", "wall_s=2"):
        assert word in tuned
    (step,) = (text for text in lines if "step=" in text)
    assert "measured=7.5" in step


def test_long_work_is_told_by_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    with plain(Progress()) as listen:
        for images in range(0, 1001, 10):
            listen("training", {"key": "long-003", "images": images, "total": 1000, "loss": 1.0})
        for images in range(0, 1000, 10):
            listen("training", {"key": "start", "images": images, "total": None, "loss": 1.0})
    lines = capsys.readouterr().err.splitlines()
    assert len([text for text in lines if "long-term fine-tune of 003" in text]) == 11
    assert len([text for text in lines if "fine-tune of the original" in text]) == 1


def test_an_iteration_that_is_taken_up_is_shown_by_its_proposals() -> None:
    progress = Progress()
    progress.take("start", START)
    progress.take("scored", SCORED | {"iteration": 4})
    assert (progress.iteration, progress.doing) == (4, "search")


def test_values_with_spaces_are_quoted_and_controls_left_out() -> None:
    assert (
        line({"a": "x y", "b": None, "c": 0.123456789, "d": "\x1b[2J"}).partition(" ")[2] == 'a="x y" c=0.12346 d=[2J'
    )


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_picture_fits_the_terminal_and_takes_names_as_they_are(columns: int) -> None:
    progress = told(Progress())
    progress.take("iteration", ITERATION | {"iteration": 2})
    progress.take("scored", SCORED | {"iteration": 2, "group": "b[0]"})
    console = Console(file=io.StringIO(), width=columns)
    console.print(picture(progress, columns))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= columns
    assert "iteration 2" in text
    assert "#" in text
    if columns >= 80:
        assert "b[0] loss 1.250" in text
        assert "acc 65.0 %" in text


def test_live_keeps_steps_above_the_picture(capsys: pytest.CaptureFixture[str]) -> None:
    with live(Progress()) as listen:
        for type_, data in TOLD:
            listen(type_, data)
    assert "step   1  7.5 ms  65.0 %  a to 48, b[0] to 16" in capsys.readouterr().err


def test_a_run_taken_up_shows_what_is_done(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with shown(finished) as listen:
        listen("step", STEP | {"group": "3", "widths": {"3": 8}})
    assert "kept=8/32" in capsys.readouterr().err
