"""The sweep as a user runs it: two tiny networks, both tools, resumed, gathered."""

from __future__ import annotations

import json
import re

import coverage_page
import graph_coverage
import pytest
from graph_coverage import chosen, line, path_of, source_version, sweep, tools

NAMES = ["timm:test_resnet", "timm:test_vit"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Results of two networks, in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_coverage, "FOUND", tmp_path_factory.mktemp("found"))
        graph_coverage.warm_up()
        assert sweep(NAMES, ["ours", "theirs"], again=False, limit_s=0) == 4
        assert sweep(NAMES, ["ours", "theirs"], again=False, limit_s=1e9) == 0
        yield


def test_results_are_kept_with_the_version_they_are_of(swept, capsys):
    folders = tools()
    found = [json.loads(path_of(name, folders[tool]).read_text()) for name in NAMES for tool in ("ours", "theirs")]
    assert [document["name"] for document in found] == [NAMES[0]] * 2 + [NAMES[1]] * 2
    assert {document["tool"] for document in found} == set(folders.values())
    assert all("machine" in document and "processor_s" in document for document in found)
    assert sweep(NAMES, ["ours", "theirs"], again=False, limit_s=1e9) == 0
    assert capsys.readouterr().out == ""


def test_lines_say_what_was_found(swept):
    told = [line(json.loads(path_of(NAMES[1], folder).read_text())) for folder in tools().values()]
    assert re.search(r"trace [\d.]+ s \([\d.]+ x\), \d+ MB, \d+ groups, pinned \d+ %, equal", told[0])
    assert "FAILED RuntimeError: shape" in told[1]


def test_results_are_gathered_into_a_file_and_a_page(swept, tmp_path, monkeypatch):
    monkeypatch.setattr(coverage_page, "RESULTS", tmp_path)
    monkeypatch.setattr(coverage_page, "PAGE", tmp_path / "page.md")
    coverage_page.write_all()
    document = json.loads((tmp_path / "graph_coverage.json").read_text())
    assert set(document["networks"]) == set(NAMES)
    counted = document["totals"]["timm"]
    assert (counted["networks"], counted["cut_equal"], counted["wrong"], counted["not_traced"]) == (2, 2, 0, 0)
    assert counted["torch_pruning"] == {"equal": 1, "error": 1}
    assert document["versions_compared"] == tools()
    assert document["found"]["first"] <= document["found"]["last"]
    assert len(document["found"]["processors"]) == 1
    text = (tmp_path / "page.md").read_text()
    assert all(f"| `{name}` |" in text for name in NAMES)


def test_patterns_choose_networks():
    assert chosen(["torchvision:vgg11", "timm:vgg*"]) == ["torchvision:vgg11", "timm:vgg11", "timm:vgg11_bn"]
    assert len(chosen([])) > 200


def test_the_version_is_that_of_the_source():
    assert re.fullmatch(r"[0-9a-f]{12}(-changed)?", source_version())
