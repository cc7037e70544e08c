"""Explains the difference of two ONNX files: both are profiled and measured, nodes are matched by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netadapt.errors import PlatformError
from netadapt.explain.causes import BYTES, LayerTime, Work, judge_works
from netadapt.explain.explain import Progress, explanation_of, profiled_source
from netadapt.explain.onnx_work import NodeWork, OnnxFile
from netadapt.explain.profiling import take_profiles, times_of
from netadapt.explain.record import Explanation
from netadapt.platforms.artifacts import artifact_of
from netadapt.platforms.base import Platform
from netadapt.platforms.environment import whole_vectors
from netadapt.platforms.stopwatch import StopwatchProtocol, measure

_NOTHING = NodeWork(0, 0, 0, 0, 0)  # of a node that a file does not have
_LISTED = 5  # nodes that a note names


def explain_files(
    files: Sequence[Path],
    platform: Platform,
    *,
    repeats: int = 5,
    seconds: float = 0.2,
    progress: Progress | None = None,
) -> Explanation:
    """Explain why the second of two files is, or is not, faster than the first.

    Args:
        files: two ONNX files; what has the same name in both is compared.
        platform: whose runtime loads ONNX and has a profiler.
        repeats: fresh sessions, profiled and measured, of each file.
        seconds: per session.
        progress: called with the profiled sessions done and in all.

    Raises:
        UsageError: a file is missing, is not ONNX, or cannot be used.
        PlatformError: the runtime cannot run a file, or has no profiler.
        MeasurementUnusable: the platform is too noisy, or others hold the measuring lock.
    """
    first, second = (OnnxFile(path) for path in files)
    artifacts = [artifact_of(path) for path in files]
    profiles = take_profiles(platform, artifacts, repeats=repeats, seconds=seconds, progress=progress)
    if profiles is None:
        raise PlatformError(f"{platform.name} has no profiler; give --platform onnxruntime or openvino.")
    protocol = StopwatchProtocol(sessions=max(repeats, 3), seconds=seconds)
    measured = measure(platform, artifacts, sentinel=artifacts[0], protocol=protocol)
    before, after = times_of(profiles[0], first), times_of(profiles[1], second)
    names = [n for n in dict.fromkeys([*first.works, *second.works]) if n in before.layers or n in after.layers]
    source = profiled_source(platform, repeats)
    overhead_ms = min(before.shortest_ms, after.shortest_ms)
    nodes = [(first.works.get(n, _NOTHING), second.works.get(n, _NOTHING)) for n in names]
    works = [_both(*pair, source.vector) for pair in nodes]
    times = [(before.layers.get(n, LayerTime(0.0)), after.layers.get(n, LayerTime(0.0))) for n in names]
    rows = judge_works(names, works, times, [("", "")] * len(names), vector=source.vector, overhead_ms=overhead_ms)
    others_ms = before.other_ms, after.other_ms
    notes = _notes([name for name, pair in zip(names, nodes, strict=True) if not all(work.known for work in pair)])
    return explanation_of(platform, files[1].name, source, measured, others_ms, overhead_ms, rows, notes)


def _both(first: NodeWork, second: NodeWork, step: int) -> tuple[Work, Work]:
    """Return what one node does in both files; counts that differ are rounded up to whole vectors for ``padded``."""
    known = first.known and second.known  # what only one file tells does not compare

    def work(mine: NodeWork) -> Work:
        if not known:
            return Work(mine.inputs, mine.outputs, 0, 0, 0)
        outputs = whole_vectors(mine.outputs, step) if first.outputs != second.outputs else mine.outputs
        fan_in = whole_vectors(mine.fan_in, step) if first.fan_in != second.fan_in else mine.fan_in
        macs = mine.outputs * mine.fan_in * mine.area
        return Work(mine.inputs, mine.outputs, macs, outputs * fan_in * mine.area, BYTES * mine.elements)

    return work(first), work(second)


def _notes(uncounted: Sequence[str]) -> list[str]:
    """Return what is said of the nodes whose work is not known."""
    if not uncounted:
        return []
    listed = ", ".join(uncounted[:_LISTED]) + (f" and {more} more" if (more := len(uncounted) - _LISTED) > 0 else "")
    return [
        f"no work is counted and no cause looked for in {listed}: a file leaves sizes in it open (only a free batch "
        "counts as 1); export with fixed sizes to have it judged"
    ]
