"""The how-to runs: a user's own network and task, on a device made of formulas and on onnxruntime."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import segmentation
import torch

import netadapt
from netadapt.runs.status import status

ROOT = Path(__file__).parents[2]
QUICK = {"networks": 12, "images": 160}


def check(family: netadapt.Family, run: Path) -> None:
    """The budget is met by the last measurement, the metric is told by its name, and the network loads and works."""
    told = status(run)
    best = family.best
    limit = told["budget"]["latency"]
    assert told["met"] and best.resources["latency"] <= limit < family.initial.resources["latency"]
    assert told["metric"] == "mIoU"
    assert best.test_accuracy is not None and best.test_accuracy > 0.6 < family.initial.test_accuracy
    small = best.load(segmentation.SmallUNet().eval())
    again = netadapt.load(best.folder, segmentation.SmallUNet().eval())
    with torch.inference_mode():
        outputs = small(torch.ones(2, 3, segmentation.SIZE, segmentation.SIZE))
        assert torch.equal(outputs, again(torch.ones(2, 3, segmentation.SIZE, segmentation.SIZE)))
    assert outputs.shape == (2, segmentation.CLASSES, segmentation.SIZE, segmentation.SIZE)
    score = segmentation.Shapes().evaluate(small, "test")
    assert score.metric == pytest.approx(best.test_accuracy, abs=1e-6)
    page = (run / "report.html").read_text()
    assert "mIoU against latency" in page and "mIoU (test)" in page
    assert "uniform width" in page and "accuracy (test)" not in page


def test_it_is_adapted_on_a_simulated_device(tmp_path):
    check(segmentation.adapt("simulated", tmp_path / "run", **QUICK), tmp_path / "run")


@pytest.mark.slow
def test_it_is_adapted_on_this_machine(tmp_path):
    run = tmp_path / "run"
    family = segmentation.adapt("local/onnxruntime?threads=1", run, "85%", networks=24, images=320)
    check(family, run)


def test_the_task_is_a_task_whose_figures_are_right():
    task = segmentation.Shapes()
    assert isinstance(task, netadapt.Task)
    first, again = next(task.batches(3)), next(task.batches(3))
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], next(task.batches(4))[0])
    masks = first[1]
    assert set(masks.unique().tolist()) == set(range(segmentation.CLASSES))
    assert segmentation.intersection_over_union(masks, masks).min() == 1
    assert segmentation.intersection_over_union((masks + 1) % 3, masks).max() == 0


def test_the_document_shows_the_code_that_runs():
    def squeezed(code: str) -> str:  # the formatter breaks lines of a document in its own way
        return re.sub(r",(?=[)\]])", "", re.sub(r"\s+", "", code))

    text = (ROOT / "docs" / "howto_segmentation.md").read_text()
    source = squeezed((ROOT / "examples" / "segmentation.py").read_text())
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(blocks) >= 3
    for block in blocks:
        for part in block.split("# ...\n"):
            assert squeezed(part) in source, part
