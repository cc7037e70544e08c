"""The benchmark programs: exact commands, and answers that are read strictly."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netadapt.errors import PlatformError
from netadapt.platforms.artifacts import store, store_several
from netadapt.platforms.devices.adb_programs import BenchmarkModel, BenchNcnn, Job

MODEL = "/data/local/tmp/netadapt/0123.param"


def ncnn_artifact(folder, *shapes, batch_axis=0):
    inputs = [{"name": f"in{i}", "shape": list(shape), "batch_axis": batch_axis} for i, shape in enumerate(shapes)]
    return store_several({".param": b"7767517\n", ".bin": b""}, folder, {"inputs": inputs})


@pytest.fixture
def job(tmp_path):
    return Job(
        artifact=ncnn_artifact(tmp_path, (1, 3, 32, 24)),
        model=MODEL,
        threads=2,
        cores="big",
        mask=0b11000000,
        seconds=0.25,
        warmups=3,
        options={},
        expected_ms=2.0,
        limit_s=60.0,
    )


def test_benchmark_models_command(job):
    assert BenchmarkModel().arguments("/x/benchmark_model", job) == [
        "taskset",
        "c0",
        "/x/benchmark_model",
        f"--graph={MODEL}",
        "--num_threads=2",
        "--num_runs=3",
        "--min_secs=0.25",
        "--max_secs=60",
        "--warmup_runs=3",
        "--warmup_min_secs=0.5",
        "--use_xnnpack=true",
    ]
    assert BenchmarkModel().arguments("/x/benchmark_model", replace(job, mask=0))[0] == "/x/benchmark_model"


def test_benchncnns_command(job):
    arguments = BenchNcnn().arguments("/x/benchncnn", job)
    assert arguments == ["/x/benchncnn", "125", "2", "2", "-1", "0", f"param={MODEL}", "shape=[24,32,3]"]
    little = replace(job, cores="little", options={"vulkan": 1})
    assert BenchNcnn().arguments("/x/benchncnn", little)[3:5] == ["1", "0"]


def test_benchncnns_loops_fill_the_time(job):
    program = BenchNcnn()
    assert program.loops(replace(job, expected_ms=None)) == 8
    assert program.loops(replace(job, expected_ms=5000.0)) == 8
    assert program.loops(replace(job, expected_ms=1e-3)) == 10_000
    assert program.needs_longer(1.0, replace(job, expected_ms=None))
    assert not program.needs_longer(1.0, replace(job, expected_ms=1.0))
    assert not program.needs_longer(40.0, replace(job, expected_ms=None))


def test_shapes_of_several_inputs(job, tmp_path):
    artifact = ncnn_artifact(tmp_path, (1, 8), (1, 3, 4, 5, 6))
    assert BenchNcnn().arguments("x", replace(job, artifact=artifact))[-1] == "shape=[8],[6,5,4,3]"
    whole = ncnn_artifact(tmp_path, (7, 8), batch_axis=None)
    assert BenchNcnn().arguments("x", replace(job, artifact=whole))[-1] == "shape=[8,7]"
    batch = ncnn_artifact(tmp_path, (2, 3, 4, 5))
    with pytest.raises(PlatformError, match=r"has no batch, and the input 'in0' has shape \[2, 3, 4, 5\]"):
        BenchNcnn().arguments("x", replace(job, artifact=batch))


def test_files_that_the_programs_need(job, tmp_path):
    assert BenchNcnn().file(job.artifact).suffix == ".param"
    lone = store(b"abc", tmp_path, ".tflite")
    assert BenchmarkModel().file(lone) == lone.path
    with pytest.raises(PlatformError, match=r"names no \.param"):
        BenchNcnn().file(lone)


@pytest.mark.parametrize("program", [BenchmarkModel(), BenchNcnn()])
def test_options_that_a_program_lacks_are_told(program, job):
    with pytest.raises(PlatformError, match="has no delegate"):
        program.arguments("x", replace(job, options={"delegate": "gpu"}))


OLD = """STARTING!
Loaded model /data/local/tmp/m.tflite
count=50 first=32891 curr=33978 min=32641 max=34005 avg=33209.4 std=450

Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, Inference (avg): 33209.4
"""
NEW = """INFO: Initialized TensorFlow Lite runtime.
INFO: count=1000 first=52162 curr=49785 min=49088 max=686105 avg=63743.2 std=60716 p5=49620 median=51891 p95=68628

INFO: Inference timings in us: Init: 119515, First inference: 87112, Warmup (avg): 58147.4, Inference (avg): 6.37e+04
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
"""


@pytest.mark.parametrize(("output", "latency_ms"), [(OLD, 33.2094), (NEW, 63.7)])
def test_benchmark_models_answer(job, output, latency_ms):
    assert BenchmarkModel().latency_ms(output, job) == pytest.approx(latency_ms)


@pytest.mark.parametrize(
    "output",
    [
        "",
        "ERROR: Benchmarking failed.\n",
        OLD + OLD,
        OLD.replace("33209.4\n", "nan\n"),
        OLD.replace("33209.4\n", "inf\n"),
        OLD.replace("(avg): 33209.4", "(avg): 0"),
        OLD.replace("(avg): 33209.4", "(avg): -1"),
        OLD.replace("(avg): 33209.4", "(avg): fast"),
        OLD.replace("Inference (avg)", "Inference (median)"),
    ],
)
def test_what_benchmark_model_does_not_print_is_refused(job, output):
    with pytest.raises(PlatformError, match="benchmark_model"):
        BenchmarkModel().latency_ms(output, job)


def ncnn_output(result=f"{MODEL}  min =    1.90  max =    2.40  avg =    2.01", loops=125, gpu=-1, extra=""):
    return f"""{extra}loop_count = {loops}
num_threads = 2
powersave = 2
gpu_device = {gpu}
cooling_down = 0
{result}
"""


def test_benchncnns_answer(job):
    assert BenchNcnn().latency_ms(ncnn_output(), job) == 2.01
    gpu = replace(job, options={"vulkan": 1})
    assert BenchNcnn().latency_ms(ncnn_output(gpu=0, extra="[0 Adreno (TM) 650]  queueC=0[3]\n"), gpu) == 2.01


@pytest.mark.parametrize(
    "output",
    [
        "",
        ncnn_output("layer Grid not exists or registered"),
        ncnn_output(extra="layer Grid not exists or registered\n"),
        ncnn_output(extra="[0 Adreno (TM) 650]\n"),
        ncnn_output(loops=4),
        ncnn_output(f"{MODEL}  min =    0.00  max =    0.00  avg =    0.00"),
        ncnn_output(f"{MODEL}  min =     nan  max =    2.40  avg =    2.01"),
        ncnn_output(f"{MODEL}  min =    2.10  max =    2.40  avg =    2.01"),
        ncnn_output("other.param  min =    1.90  max =    2.40  avg =    2.01"),
        ncnn_output() + ncnn_output(),
        ncnn_output("input 1 tensors while model has 2 inputs"),
    ],
)
def test_what_benchncnn_does_not_print_is_refused(job, output):
    with pytest.raises(PlatformError, match="benchncnn"):
        BenchNcnn().latency_ms(output, job)
