"""A program is data: whatever else is written into its file is refused; and a session gets its threads."""

from __future__ import annotations

import io
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from netadapt.platforms import on_device
from netadapt.platforms.on_device.engine_torch import EMPTY_PROGRAM, read_program
from netadapt.platforms.runtimes.torch_program import to_program

HERE = Path(on_device.__file__).parent
THREADS = """
import os, sys
sys.path.insert(0, sys.argv[1])
import engine_torch
engine_torch.version()
before = len(os.listdir("/proc/self/task"))
child = os.fork()
if child == 0:
    run = engine_torch.open_model(sys.argv[2], int(sys.argv[3]), {})
    run()
    print(before, engine_torch.torch.get_num_threads(), len(os.listdir("/proc/self/task")), flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def file_of(program, header=None):
    content = json.dumps({"__metadata__": {"program": json.dumps(program)}} | (header or {})).encode()
    return io.BytesIO(len(content).to_bytes(8, "little") + content)


def with_operation(*operation):
    return file_of(EMPTY_PROGRAM | {"operations": [list(operation)]})


def test_the_smallest_program_runs():
    assert read_program(file_of(EMPTY_PROGRAM)).module(torch.tensor([-1.0]))[0] == 0


@pytest.mark.parametrize(
    "operation",
    [
        ("aten.save.default", [{"input": 0}, "stolen"], {}),
        ("aten.from_file.default", ["stolen", True, 4], {}),
        ("aten.relu.default", [{"input": 0}], {"self=__import__('os').system('touch stolen'), x": 1}),
        ("aten.relu.default", [{"input": 0}, 1], {}),
        ("aten.relu.__class__", [], {}),
        ("aten.__class__.default", [], {}),
        ("prims.add.default", [{"input": 0}, {"input": 0}], {}),
        ("os.system", ["touch stolen"], {}),
        ("getitem", [{"input": 0}, "__class__"], {}),
        ("aten.relu.default", [{"input": -1}], {}),
        ("aten.relu.default", [{"input": 1}], {}),
        ("aten.relu.default", [{"result": 0}], {}),
        ("aten.relu.default", [{"weight": "missing"}], {}),
        ("aten.to.dtype", [{"input": 0}, {"dtype": "load"}], {}),
        ("aten.relu.default", [{"code": "1"}], {}),
        ("aten.relu.default", [{"input": 0, "result": 0}], {}),
        ("aten.relu.default",),
    ],
)
def test_what_is_no_operation_on_tensors_is_refused(operation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"\w"):
        read_program(with_operation(*operation))
    assert not list(tmp_path.iterdir())


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "stolen",))

    torch.save(Evil(), tmp_path / "evil.pt")
    for content in (pickle.dumps(Evil()), (tmp_path / "evil.pt").read_bytes()):
        with pytest.raises(ValueError, match="safetensors"):
            read_program(io.BytesIO(content))
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [0], "data_offsets": [-8, -8]},
        {"dtype": "F32", "shape": [1, "2"], "data_offsets": [0, 0]},
        {"dtype": "PICKLE", "shape": [0], "data_offsets": [0, 0]},
        {"shape": [0]},
        "weight",
    ],
)
def test_weights_that_do_not_fit_are_refused(entry):
    with pytest.raises(ValueError, match=r"weight 'w'"):
        read_program(file_of(EMPTY_PROGRAM, {"w": entry}))


def test_every_cut_is_noticed():
    content = to_program(nn.Linear(3, 2), torch.ones(1, 3))
    assert read_program(io.BytesIO(content)).module(torch.ones(1, 3))[0].shape == (1, 2)
    for length in range(len(content)):
        with pytest.raises(ValueError, match=r"\w"):
            read_program(io.BytesIO(content[:length]))


def test_another_version_is_refused():
    with pytest.raises(ValueError, match="compile again"):
        read_program(file_of(EMPTY_PROGRAM | {"version": 2}))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_server_has_one_thread_and_a_session_those_it_is_given(threads, tmp_path):
    path = tmp_path / "program.safetensors"
    path.write_bytes(to_program(nn.Conv2d(64, 64, 3), torch.ones(1, 64, 56, 56)))
    command = [sys.executable, "-P", "-c", THREADS, str(HERE), str(path), str(threads)]
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    before, inside, all_of_them = map(int, done.stdout.split())
    assert (before, inside) == (1, threads)
    assert all_of_them == 1 if threads == 1 else all_of_them >= threads  # more wait in pools that nothing uses
