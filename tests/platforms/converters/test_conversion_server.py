"""The conversion server: its messages, and what it says of converters that fail."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from netadapt.export.program import to_program
from netadapt.platforms import converters


@pytest.fixture(scope="module")
def server():
    path = Path(converters.__file__).with_name("conversion_server.py")
    spec = importlib.util.spec_from_file_location("conversion_server", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_messages_come_out_as_they_went_in(server):
    read, write = os.pipe()
    for message in (b"", b"one", bytes(range(256)) * 8):
        server.send(write, message)
        assert server.receive(read) == message
    os.write(write, (5).to_bytes(8, "big") + b"torn")
    os.close(write)
    assert server.receive(read) is None
    assert server.receive(read) is None
    os.close(read)


def request():
    buffer = io.BytesIO()
    torch.export.save(to_program(torch.nn.Linear(2, 1), torch.ones(1, 2))[0], buffer)
    return buffer.getvalue()


def test_the_answer_is_the_file_and_what_it_computes(server):
    converter = SimpleNamespace(
        convert=lambda program: str(program.module()(torch.ones(1, 2))[0].shape).encode(),
        run=lambda content, inputs: [inputs[0] + 1, np.array([True])],
    )
    head, content, outputs = server.answer(converter, request())
    assert json.loads(head) == {}
    assert content == b"torch.Size([1, 1])"
    with np.load(io.BytesIO(outputs)) as arrays:
        assert arrays["arr_0"].tolist() == [[2.0, 2.0]]
        assert arrays["arr_1"].tolist() == [True]


def test_the_first_lines_of_an_error_are_told(server):
    def convert(program):
        raise ValueError("one\ntwo\nthree\nfour")

    (head,) = server.answer(SimpleNamespace(convert=convert), request())
    assert json.loads(head) == {"error": "ValueError: one two three"}


def test_a_damaged_request_is_an_error(server):
    (head,) = server.answer(SimpleNamespace(), b"not a program")
    assert json.loads(head)["error"]
