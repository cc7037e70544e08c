"""``netadapt report``."""

from __future__ import annotations

from pathlib import Path


def test_one_run_has_its_page_in_its_folder(cli, finished: Path) -> None:
    answer = cli("report", finished)
    assert answer.out.strip() == str(finished / "report.html")
    assert "<html" in (finished / "report.html").read_text().lower()


def test_several_runs_are_compared_in_the_working_directory(here: Path, cli, finished: Path) -> None:
    assert cli("report", finished, finished).out.strip() == "netadapt-report.html"
    assert (here / "netadapt-report.html").is_file()


def test_out_wins(cli, finished: Path, tmp_path: Path) -> None:
    assert cli("report", finished, "--out", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").is_file()
