"""The converter's process: it answers, prints, refuses, hangs, dies and is started again.

The converters here are small ones, so that no test waits for a real one to be imported; those are seen in
`test_executorch.py` and `test_litert.py`.
"""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch

from netadapt.errors import PlatformError
from netadapt.export.program import to_program
from netadapt.platforms.runtimes import conversion_client
from netadapt.platforms.runtimes.conversion_client import ConversionClient

CONVERTER = """
import os, signal, sys, time, torch
def convert(program):
    print("chatter on stdout"); print("chatter on stderr", file=sys.stderr, flush=True)
    kind = int(program.example_inputs[0][0][0])
    if kind == 1: raise ValueError("an operator is missing")
    if kind == 2: os.kill(os.getpid(), signal.SIGKILL)
    if kind == 3: time.sleep(60)
    return str(os.getpid()).encode()
def run(content, inputs):
    return [2 * inputs[0]]
"""


def request(kind):
    return to_program(torch.nn.Identity(), torch.tensor([float(kind)]))[0]


@pytest.fixture
def client(tmp_path, monkeypatch):
    (tmp_path / "converter_small.py").write_text(CONVERTER)
    (tmp_path / "converter_broken.py").write_text("import no_such_module")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    clients = []

    def make(name="small", **arguments):
        clients.append(ConversionClient(name, **arguments))
        return clients[-1]

    yield make
    for one in clients:
        one.close()
        one.close()


def test_one_process_answers_and_survives_a_network_that_it_refuses(client):
    made = client()
    first, (outputs,) = made.convert(request(4))
    np.testing.assert_array_equal(outputs, [8.0])
    with pytest.raises(PlatformError, match="small cannot convert the network: ValueError: an operator is missing"):
        made.convert(request(1))
    assert made.convert(request(5))[0] == first


def test_a_process_that_dies_is_told_and_replaced(client):
    made = client()
    with pytest.raises(PlatformError, match=r"died with status -9[^$]*chatter on stderr"):
        made.convert(request(2))
    pid = int(made.convert(request(4))[0])
    os.kill(pid, signal.SIGKILL)  # while idle
    assert made._process.status(limit_s=10) == -signal.SIGKILL
    assert int(made.convert(request(4))[0]) != pid


def test_a_process_that_hangs_is_ended(client):
    made = client(limit_s=1.0)
    with pytest.raises(PlatformError, match="gave no answer within 1 s"):
        made.convert(request(3))
    assert made._process.pid is None


def test_a_process_that_has_grown_is_replaced(client, monkeypatch):
    made = client()
    pid = made.convert(request(4))[0]
    monkeypatch.setattr(conversion_client, "_LARGEST_BYTES", 1)
    assert made.convert(request(4))[0] != pid


def test_a_converter_that_cannot_be_imported_is_told(client):
    with pytest.raises(PlatformError, match=r"died[^$]*when it started[^$]*no_such_module"):
        client("broken").convert(request(4))


def test_it_ends_with_its_client(client):
    made = client()
    pid = int(made.convert(request(4))[0])
    made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
