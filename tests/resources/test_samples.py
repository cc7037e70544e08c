from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netadapt.errors import UsageError
from netadapt.resources.samples import SampleFile

SUBJECT = {"platform": {"device": "here"}, "network": "abc"}


def _file(folder):
    return SampleFile(folder, "local/onnxruntime?threads=1", SUBJECT)


def _append(folder, start):
    for number in range(start, start + 40):
        _file(folder).append({"number": number})


def test_records_come_back_in_order(tmp_path):
    file = _file(tmp_path)
    assert file.read() == []
    file.append({"a": 1, "b": [1.5, 2.0]}, {"a": 2})
    file.append({"a": 3})
    assert _file(tmp_path).read() == [{"a": 1, "b": [1.5, 2.0]}, {"a": 2}, {"a": 3}]
    header = json.loads(file.path.read_text().splitlines()[0])
    assert header == {"format": "netadapt-samples", "version": 1, "subject": SUBJECT}


def test_subjects_do_not_share_a_file(tmp_path):
    assert _file(tmp_path).path != SampleFile(tmp_path, "local/onnxruntime?threads=1", {"network": "abd"}).path


@settings(max_examples=80, deadline=None)
@given(position=st.integers(0, 10**6), letter=st.sampled_from(b'x0"}\n \xff'))
def test_one_wrong_byte_costs_at_most_the_lines_it_touches(tmp_path_factory, position, letter):
    folder = tmp_path_factory.mktemp("samples")
    file = _file(folder)
    file.append(*({"number": number} for number in range(5)))
    content = bytearray(file.path.read_bytes())
    head = content.index(b"\n") + 1
    content[head + position % (len(content) - head)] = letter
    file.path.write_bytes(content)
    numbers = [record["number"] for record in file.read()]
    assert numbers == sorted(set(numbers) & set(range(5))) and len(numbers) >= 3
    assert [record["number"] for record in file.read()] == numbers  # repaired: nothing more is lost
    file.append({"number": 9})
    assert [record["number"] for record in file.read()] == [*numbers, 9]


def test_a_torn_line_is_moved_aside_and_told(tmp_path, caplog):
    file = _file(tmp_path)
    file.append({"number": 1}, {"number": 2})
    file.path.write_bytes(file.path.read_bytes()[:-7])  # the machine stopped in the middle of a write
    file.append({"number": 3})
    assert file.read() == [{"number": 1}, {"number": 3}]
    assert "1 damaged line(s) (3) moved to" in caplog.text
    assert b'{"check":' in file.path.with_suffix(".jsonl.damaged").read_bytes()


@pytest.mark.parametrize("content", ["\n", "nonsense\n", '{"format": "netadapt-samples", "version": 2}\n'])
def test_a_foreign_file_is_refused(tmp_path, content):
    file = _file(tmp_path)
    file.path.parent.mkdir(exist_ok=True)
    file.path.write_text(content)
    with pytest.raises(UsageError, match="Move the file away"):
        file.read()


def test_numbers_that_are_not_finite_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        _file(tmp_path).append({"value": float("nan")})
    assert _file(tmp_path).read() == []


def test_several_may_append_at_the_same_time(tmp_path):
    with ThreadPoolExecutor(4) as pool:  # each opens the files anew, which is what the lock goes by
        list(pool.map(lambda start: _append(tmp_path, start), (0, 100, 200, 300)))
    numbers = [record["number"] for record in _file(tmp_path).read()]
    assert sorted(numbers) == [start + number for start in (0, 100, 200, 300) for number in range(40)]
