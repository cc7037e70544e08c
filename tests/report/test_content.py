"""What the report says."""

from __future__ import annotations

from netadapt.report.content import read_page
from netadapt.runs.config import load_config
from netadapt.runs.folder import RunFolder


def levels(page):
    return {line.label: line.level for line in page.trust}


def test_all_is_well(make_run):
    page = read_page(make_run())
    assert page.badge == ("budget met", "good")
    assert set(levels(page).values()) == {"good", "plain"}
    assert dict(page.environment)["processor.governor"] == "performance"
    assert len(page.steps) == 26
    assert page.steps[0] | {"estimated": ""} == {
        "variant": "001", "group": "features.8", "width": "192", "estimated": "", "measured": "0.9673",
        "accuracy": "67.7 %", "images": "6,000",
    }  # fmt: skip


def test_doubts_are_shown(make_run):
    folder = make_run(steps=2, finished=False)
    with RunFolder(folder, load_config(folder / "config.toml")) as run:
        start = dict(run.journal.records[0].data)
        run.append("start", start | {"noise": {"relative": 0.08, "half_width_ms": 0.08}})
        step = dict(next(r.data for r in run.journal.records if r.type == "step"))
        measured = step["measurement"] | {"verdict": "noisy"}
        run.append("step", step | {"iteration": 3, "measurement": measured, "estimated": {"latency": 2.0}})
        run.append("proposal", {"key": "x", "iteration": 3, "failed": "non-finite"})
        run.append("final", {"variant": "002", "met": False, "initial_measurement": {"median_ms": 1.2}, "ratio": 0.9})
    found = levels(read_page(folder))
    assert {label for label, level in found.items() if level == "doubt"} == {
        "noise", "drift", "estimator", "measurements", "failed proposals",
    }  # fmt: skip


def test_what_exchanges_have_found_is_told(make_run):
    folder = make_run(steps=1, finished=False)
    assert read_page(folder).exchanged == ""
    with RunFolder(folder, load_config(folder / "config.toml")) as run:
        for loss in (2.5, None, 2.25, 2.75):
            run.append("exchange", {"widths": [8], "loss": loss, "forward_images": 10})
        step = next(r.data for r in run.journal.records if r.type == "step")
        run.append("step", step | {"loss": 2.375})
    told = read_page(folder).exchanged
    assert "4 whole networks" in told
    assert "the curves' choice has 2.500, the network found 2.375" in told


def test_a_stop_is_told(make_run):
    folder = make_run(steps=1, finished=False)
    with RunFolder(folder, load_config(folder / "config.toml")) as run:
        run.append("stop", {"reason": "unreachable", "detail": "floor at 0.7 ms"})
    page = read_page(folder)
    assert (page.badge, page.notice) == (("unreachable", "bad"), "floor at 0.7 ms")


def test_an_interrupted_run_says_how_to_go_on(make_run):
    page = read_page(make_run(steps=1, finished=False))
    assert page.badge == ("interrupted", "busy")
    assert "the same command resumes it" in page.notice


def test_a_run_that_goes_on(make_run):
    folder = make_run(steps=1, finished=False)
    with RunFolder(folder, load_config(folder / "config.toml")):
        assert read_page(folder).badge == ("running", "busy")
        assert read_page(folder).headline == "Down from 0.999 ms to 0.967 ms after 1 step."


def test_a_broken_environment_does_not_stop_the_report(make_run):
    folder = make_run(steps=1, finished=False)
    (folder / "environment.json").write_text("[" * 100_000)
    assert read_page(folder).environment == ()


def test_drift_follows_from_the_ratio_where_the_original_was_not_timed_again(make_run):
    folder = make_run(steps=2, finished=False)
    with RunFolder(folder, load_config(folder / "config.toml")) as run:
        run.append("final", {"variant": "002", "met": False, "measurement": {"median_ms": 0.6, "ratio": 0.5}})
    drift = next(line for line in read_page(folder).trust if line.label == "drift")
    assert "0.999 ms at the start and 1.2 ms at the end" in drift.text
    assert drift.level == "doubt"


def test_a_damaged_explanation_does_not_stop_the_report(make_run, caplog):
    folder = make_run(steps=1, finished=False)
    assert read_page(folder).why is None
    (folder / "explanation.json").write_text("{}")
    assert read_page(folder).why is None
    assert "run netadapt explain again" in caplog.text
