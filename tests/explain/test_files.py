"""Two files explained on the profiler of a real runtime."""

from __future__ import annotations

from contextlib import closing

import pytest
from needs import needs

from netadapt.errors import PlatformError
from netadapt.explain import explain_files
from netadapt.export.onnx import to_proto
from netadapt.platforms import resolve_platform


@pytest.fixture
def files(network, tmp_path):
    smaller = network.shrink({"first": range(8), "second": range(12)})
    paths = [tmp_path / "large.onnx", tmp_path / "small.onnx"]
    for path, model in zip(paths, (network.model, smaller), strict=True):
        path.write_bytes(to_proto(model, network.example_inputs).SerializeToString())
    return paths


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_operations_of_the_same_name_are_compared(network, files, runtime):
    needs(runtime)
    with closing(resolve_platform(runtime)) as platform:
        found = explain_files(files, platform, repeats=2, seconds=0.02)
    rows = {row.layer: row for row in found.rows}
    second = rows["/network/second/Conv"]
    assert (second.before.inputs, second.after.inputs, second.after.outputs) == (32, 8, 12)
    assert second.before.macs == 32 * 64 * 9 * 32 * 32
    assert second.after.latency_ms < second.before.latency_ms  # a twentieth of the arithmetic
    assert {"/network/first/Conv", "/network/third/Conv", "/network/classifier/Gemm"} < rows.keys()
    assert found.variant == "small.onnx" and runtime in found.source
    assert found.before.layers_ms == pytest.approx(sum(row.before.latency_ms for row in found.rows))
    assert not {row.cause for row in found.rows} & {"kept", "pinned"}  # nobody searched


def test_what_only_one_file_has_is_not_judged(network, files):
    files[1].write_bytes(to_proto(network.model.first, network.example_inputs).SerializeToString())
    with closing(resolve_platform("onnxruntime")) as platform:
        found = explain_files(files, platform, repeats=1, seconds=0.02)
    gone = next(row for row in found.rows if row.layer == "/network/second/Conv")
    assert (gone.after.latency_ms, gone.after.macs, gone.cause) == (0, 0, "")


def test_a_platform_without_profiler_is_refused(files):
    with closing(resolve_platform("torch")) as platform, pytest.raises(PlatformError, match="has no profiler"):
        explain_files(files, platform)
