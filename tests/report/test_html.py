"""The report in a real browser: it draws, it asks for nothing, and nothing of a run is executed."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from needs import lacking

from netadapt.errors import RunDamaged
from netadapt.report import write_report
from netadapt.report.html import render

HOSTILE = '</script><script>document.title="pwned"</script><img src="http://evil.example/x" onerror="alert(1)"><b>x</b>'


@pytest.fixture(scope="session")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    lacking("chromium is not installed; apt-get install chromium")


def dom_of(browser: str, page: Path, size: str = "1200,2000") -> str:
    """What the page has become after its scripts ran; every request would fail, for there is no name resolution."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom",
               f"--window-size={size}", "--host-resolver-rules=MAP * ~NOTFOUND",
               f"--user-data-dir={page.parent / 'profile'}", page.resolve().as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def without_scripts(dom: str) -> str:
    return re.sub(r"<script\b.*?</script>", "", dom, flags=re.S)


def test_every_chart_is_drawn(browser, make_run, tmp_path):
    write_report([make_run()], tmp_path / "report.html")
    dom = without_scripts(dom_of(browser, tmp_path / "report.html"))
    for part in ("js-plotly-plot", 'class="scatterlayer', 'class="barlayer', "errorbar"):
        assert part in dom
    assert dom.count('class="js-plotly-plot"') == 3
    for text in ("budget 0.499 ms", "features.13", "estimated = measured", "uniform width (test split)"):
        assert text in dom


def test_it_asks_for_nothing(browser, make_run, tmp_path):
    write_report([make_run(steps=3)], tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in unescape(source[:2000])
    dom = without_scripts(dom_of(browser, tmp_path / "report.html"))
    links = re.findall(r"""(?:src|href|srcset|action|poster)\s*=\s*["']([^"']*)""", dom)
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    targets = [unescape(target).strip("\"' ") for target in re.findall(r"url\(([^)]*)\)", dom)]
    assert [target for target in targets if not target.startswith(("#", "data:"))] == []
    assert "@import" not in dom


def test_hostile_names_stay_text(browser, make_run, tmp_path):
    write_report([make_run(steps=3, rename={"features.8": HOSTILE})], tmp_path / "report.html")
    dom = dom_of(browser, tmp_path / "report.html")
    assert "<title>netadapt: mobilenet-half</title>" in dom
    body = without_scripts(dom)
    assert "evil.example" in body  # it is shown, as text
    assert re.findall(r"<(?:img|b)\b[^>]*(?:evil|onerror)", body) == []
    assert dom.count('class="js-plotly-plot"') == 3


def test_even_markup_that_got_in_would_not_run(browser, make_run, tmp_path):
    page = render([make_run(steps=1, finished=False)])
    (tmp_path / "report.html").write_text(page.replace("</main>", f"{HOSTILE[9:]}</main>"))
    assert "<title>netadapt: mobilenet-half</title>" in dom_of(browser, tmp_path / "report.html")


def test_several_runs_share_one_curve(browser, make_run, tmp_path):
    folders = [make_run("one"), make_run("two", seed=1), make_run("open", steps=4, finished=False)]
    write_report(folders, tmp_path / "report.html")
    dom = without_scripts(dom_of(browser, tmp_path / "report.html"))
    assert dom.count('class="js-plotly-plot"') == 1 + 2 * 3
    assert "3 runs side by side" in dom
    for text in ("one: step by step", "two: step by step", "open: step by step"):
        assert text in dom


def test_it_fits_a_phone(browser, make_run, tmp_path):
    write_report([make_run()], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert 'name="viewport"' in page
    dom = without_scripts(dom_of(browser, tmp_path / "report.html", "500,2000"))
    widths = [int(w) for w in re.findall(r'<svg class="main-svg"[^>]*? width="(\d+)"', dom)]
    assert len(widths) >= 3
    assert min(widths) <= 500


@pytest.mark.parametrize(("steps", "finished"), [(0, False), (1, False), (26, True), (2, True)])
def test_every_stage_of_a_run_has_a_page(make_run, steps, finished):
    page = render([make_run(steps=steps, finished=finished)] if steps or not finished else [])
    assert "Accuracy against latency" in page
    badge = "budget met" if steps == 26 else "budget not met" if finished else "interrupted"
    assert f">{badge}" in page


def test_the_page_says_what_it_must(make_run):
    page = render([make_run()])
    for text in [
        "2.08 times as fast: 0.481 ms instead of 0.999 ms, with 1.7 points less accuracy.",
        "beats uniform width by 3.5 ± 2.7 points",
        "Filters before and after",
        "Estimated against measured",
        "a measurement is known to ± 0.60 %",
        "the original took 0.999 ms at the start and 1.004 ms at the end (+0.5 %)",
        "fitted to 64 networks",
        "AMD EPYC 9654",
        "family.best.load(model=original)",
        "width=0.5&amp;resolution=128",
    ]:
        assert text in page


def test_the_page_is_made_from_the_folder_alone(make_run, tmp_path):
    folder = make_run()
    moved = folder.rename(tmp_path / "moved")
    for derived in ("environment.json", "config.toml", "curve.csv"):
        (moved / derived).unlink()
    assert "beats uniform width" in render([moved])


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(RunDamaged, match="folder of a run"):
        write_report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
