"""The journal: whatever happens to its bytes, it is the same prefix or it is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netadapt.errors import Interrupted, RunDamaged
from netadapt.runs.journal import Journal, Record, decode, encode, read_records, scan_journal

RECORDS = [
    Record(number, f"2026-11-22T10:00:0{number}.000+00:00", kind, data)
    for number, (kind, data) in enumerate(
        [("start", {"seed": 0, "name": 'a "b" \n é'}), ("step", {"widths": {"g": 8}}), ("stop", {"reason": "done"})], 1
    )
]
CONTENT = b"".join(map(encode, RECORDS))


def types(records) -> list[str]:
    return [record.type for record in records]


def test_what_is_appended_is_read_back(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        first = journal.append("start", {"widths": (1, 2)})
        journal.append("step", {"accuracy": 0.1 + 0.2})
    records = read_records(tmp_path / "journal.jsonl")
    assert records[0] == first
    assert records[0].data == {"widths": [1, 2]}
    assert records[1].data == {"accuracy": 0.1 + 0.2}
    assert [record.seq for record in records] == [1, 2]


def test_reopening_goes_on_counting(tmp_path):
    for number in range(3):
        with Journal(tmp_path / "journal.jsonl") as journal:
            assert len(journal.records) == number
            assert journal.append("step", {}).seq == number + 1
    assert len(read_records(tmp_path / "journal.jsonl")) == 3


def test_appending_after_a_torn_line_loses_nothing(tmp_path):
    """Optuna's journal glues the next record to the torn one: record 3 is lost in silence, record 4 breaks the file."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(CONTENT[:-1][: len(CONTENT) - 20])
    for expected in (["start", "step", "three"], ["start", "step", "three", "four"]):
        with Journal(path) as journal:
            journal.append(expected[-1], {})
        assert types(read_records(path)) == expected


def test_the_torn_tail_is_kept_aside_and_told(tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(CONTENT + b'{"v":1,"seq":4,"t":"2026')
    with Journal(path) as journal:
        assert len(journal.records) == 3
    assert [aside.read_bytes() for aside in tmp_path.glob("journal.torn-*")] == [b'{"v":1,"seq":4,"t":"2026']
    assert path.read_bytes() == CONTENT
    assert "torn line" in caplog.text


def test_reading_repairs_nothing(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(CONTENT + b"{")
    assert len(read_records(path)) == 3
    assert path.read_bytes() == CONTENT + b"{"


def test_truncated_at_any_byte_it_is_a_prefix():
    for length in range(len(CONTENT) + 1):
        scan = scan_journal(CONTENT[:length], Path("j"))
        assert list(scan.records) == RECORDS[: CONTENT[:length].count(b"\n")]
        assert CONTENT[: scan.length] + scan.torn == CONTENT[:length]


@settings(max_examples=300, deadline=None)
@given(st.sets(st.integers(0, 8 * len(CONTENT) - 1), min_size=1, max_size=8))
def test_with_flipped_bits_it_is_a_prefix_or_refused(bits):
    content = bytearray(CONTENT)
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
    try:
        records = list(scan_journal(bytes(content), Path("j")).records)
    except RunDamaged:
        return
    assert records == RECORDS[: len(records)]
    assert len(records) >= 2 or min(bits) < 8 * len(encode(RECORDS[0]) + encode(RECORDS[1]))


@pytest.mark.slow
@settings(max_examples=5_000, deadline=None)
@given(st.data())
def test_any_damage_gives_a_prefix_or_a_refusal(data):
    start = data.draw(st.integers(0, len(CONTENT)))
    end = data.draw(st.integers(start, len(CONTENT)))
    content = CONTENT[:start] + data.draw(st.binary(max_size=40)) + CONTENT[end:]
    try:
        records = list(scan_journal(content, Path("j")).records)
    except RunDamaged:
        return
    assert records == RECORDS[: len(records)]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (CONTENT.replace(b'"widths":{"g":8}', b'"widths":{"g":9}'), "line 2 .*checksum"),
        (encode(RECORDS[0]) + encode(RECORDS[2]), "line 2 .*missing or doubled"),
        (encode(RECORDS[0]) * 2, "line 2 .*missing or doubled"),
        (b"garbage\n" + CONTENT, "line 1 .*head -n 0"),
    ],
)
def test_damage_that_no_crash_explains_is_refused_with_a_way_out(tmp_path, content, why):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunDamaged, match=why):
        Journal(path)
    assert path.read_bytes() == content


def test_the_way_out_works(tmp_path):
    import subprocess

    path = tmp_path / "journal.jsonl"
    path.write_bytes(CONTENT.replace(b'"g":8', b'"g":9'))
    with pytest.raises(RunDamaged) as caught:
        read_records(path)
    commands = str(caught.value).split("then run  ")[1].split("  and give")[0]
    subprocess.run(["sh", "-c", commands], cwd=tmp_path, check=True)
    assert types(read_records(path)) == ["start"]


def test_a_journal_of_a_later_format_is_not_taken_for_torn(tmp_path):
    import zlib

    line = encode(RECORDS[0]).replace(b'"v":1', b'"v":2')[:-19]
    path = tmp_path / "journal.jsonl"
    path.write_bytes(line + b',"crc":"%08x"}\n' % zlib.crc32(line))
    with pytest.raises(RunDamaged, match="format 2"):
        Journal(path)


def test_numbers_that_json_lacks_are_refused_and_leave_no_trace(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.append("step", {"loss": float("nan")})
        journal.append("step", {"loss": 1.0})
    assert len(read_records(tmp_path / "journal.jsonl")) == 1


def test_a_full_disk_stops_the_run_resumably(tmp_path, monkeypatch):
    path = tmp_path / "journal.jsonl"
    real = os.write
    left = [10]

    def nearly_full(file, data):
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(file, bytes(data)[: left.pop()])

    with Journal(path) as journal:
        journal.append("start", {})
        with monkeypatch.context() as patch, pytest.raises(Interrupted, match="No space left"):
            patch.setattr("netadapt.runs.journal.os.write", nearly_full)
            journal.append("step", {})
        journal.append("step", {"again": True})
    assert [record.data for record in read_records(path)] == [{}, {"again": True}]


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_any_json_survives(value):
    line = encode(Record(1, "t", "step", {"value": value}))
    assert line.count(b"\n") == 1
    assert decode(line[:-1]).data == {"value": value}


def test_no_run_folder(tmp_path):
    with pytest.raises(RunDamaged, match="folder of a run"):
        read_records(tmp_path / "journal.jsonl")


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(CONTENT)
    (tmp_path / "journal.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic|links"):
        Journal(tmp_path / "journal.jsonl")
