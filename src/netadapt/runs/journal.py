"""The append-only journal of a run: one JSON line per record, each with a sequence number and a checksum.

`RunFolder` opens it for its one writer; everything that reads a run (`state.py`) only folds what `read_records` gives.
What a crash can leave behind, a torn last line, is repaired when the writer opens it; anything else is refused.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from netadapt.errors import Interrupted, RunDamaged
from netadapt.files import sync_folder, write_atomic

log = logging.getLogger("netadapt")

NAME = "journal.jsonl"
VERSION = 1
_CHECKSUM = re.compile(rb',"crc":"([0-9a-f]{8})"\}')
_CHECKSUM_LENGTH = len(',"crc":"01234567"}')


@dataclass(frozen=True)
class Record:
    """One line of a journal.

    Attributes:
        seq: its number, from 1 without gaps.
        time: when it was written, ISO 8601 in UTC.
        type: what it tells, e.g. ``step``; see `state.py` for the types and their data.
        data: its content.
    """

    seq: int
    time: str
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Scan:
    """What is found in the bytes of a journal.

    Attributes:
        records: the good records, in order.
        length: how many bytes they take.
        torn: the bytes behind them, of at most one line; empty if the last line is whole.
    """

    records: tuple[Record, ...]
    length: int
    torn: bytes


class Journal:
    """The journal of one run, open for writing; hold the run's lock while it is open.

    Args:
        path: the file; it is made if it does not exist.

    Raises:
        RunDamaged: a line other than the last cannot be trusted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        is_new = not path.exists()
        content = b"" if is_new else path.read_bytes()
        scan = scan_journal(content, path)
        if scan.torn:
            self._set_aside(scan)
        self.records: list[Record] = list(scan.records)
        self._length = scan.length
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        os.ftruncate(self._file, self._length)
        os.fsync(self._file)
        if is_new:
            sync_folder(path.parent)

    def append(self, type_: str, data: Mapping[str, Any]) -> Record:
        """Write one record; when this returns it is on the disk.

        Args:
            type_: what the record tells, e.g. ``step``.
            data: JSON values only; no NaN and no infinity.

        Raises:
            Interrupted: the disk is full or gone; what was written before is whole and the run can be resumed.
        """
        record = Record(len(self.records) + 1, datetime.now(UTC).isoformat(timespec="milliseconds"), type_, data)
        line = encode(record)
        try:
            self._write(line)
        except OSError as error:
            self._forget()
            raise Interrupted(
                f"{self.path} cannot be written: {error.strerror}. Everything before is safe; "
                f"make room or mend the disk, then run the same command again: it resumes."
            ) from error
        self._length += len(line)
        stored = decode(line[:-1])
        self.records.append(stored)
        return stored

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, line: bytes) -> None:
        """Append ``line`` whole and wait for the disk."""
        rest = memoryview(line)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)

    def _forget(self) -> None:
        """Remove what a failed append left; if even that fails the next opening repairs it."""
        try:
            os.ftruncate(self._file, self._length)
        except OSError as error:
            log.warning("%s keeps a torn last line: %s; it is repaired when the run resumes", self.path, error)

    def _set_aside(self, scan: Scan) -> None:
        """Keep a torn tail for people to look at, before it is cut off."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        aside = self.path.with_name(f"journal.torn-{stamp}")
        write_atomic(aside, scan.torn)
        log.warning(
            "%s ended in a torn line (%d bytes, kept in %s); continuing after record %d",
            self.path, len(scan.torn), aside.name, len(scan.records),
        )  # fmt: skip


def read_records(path: Path) -> tuple[Record, ...]:
    """Return the good records of a journal without touching it; a run may be writing it meanwhile.

    Raises:
        RunDamaged: there is no journal, or a line other than the last cannot be trusted.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunDamaged(
            f"{path} cannot be read: {error.strerror}. A run folder holds {NAME}; give the folder of a run."
        ) from error
    return scan_journal(content, path).records


def encode(record: Record) -> bytes:
    """Return the line of a record, newline included."""
    body = {"v": VERSION, "seq": record.seq, "t": record.time, "type": record.type, "data": record.data}
    text = json.dumps(body, separators=(",", ":"), allow_nan=False).encode()[:-1]
    return text + b',"crc":"%08x"}\n' % zlib.crc32(text)


def decode(line: bytes) -> Record:
    """Read one line without its newline.

    Raises:
        ValueError: the line is not what `encode` writes.
        RunDamaged: the line is whole, but of another format.
    """
    text, checksum = line[:-_CHECKSUM_LENGTH], _CHECKSUM.fullmatch(line[-_CHECKSUM_LENGTH:])
    if checksum is None or int(checksum[1], 16) != zlib.crc32(text):
        raise ValueError("its checksum does not fit")
    body = json.loads(line)
    if body["v"] != VERSION:
        raise RunDamaged(
            f"The journal has format {body['v']!r}, this netadapt reads {VERSION}. Use the netadapt that wrote it."
        )
    return Record(body["seq"], body["t"], body["type"], body["data"])


def scan_journal(content: bytes, path: Path) -> Scan:
    """Find the good records of a journal and the torn tail, if there is one.

    Args:
        content: the whole file.
        path: for messages.

    Raises:
        RunDamaged: a line other than the last is bad, or the numbers have a gap.
    """
    records: list[Record] = []
    start = 0
    while start < len(content):
        end = content.find(b"\n", start)
        line = content[start:] if end < 0 else content[start:end]
        try:
            if end < 0:
                raise ValueError("it has no end")
            record = decode(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if end < 0 or end == len(content) - 1:
                return Scan(tuple(records), start, content[start:])
            raise _damaged(path, len(records) + 1, str(error)) from error
        if record.seq != len(records) + 1:
            raise _damaged(path, len(records) + 1, f"it has number {record.seq}, a line is missing or doubled")
        records.append(record)
        start = end + 1
    return Scan(tuple(records), start, b"")


def _damaged(path: Path, number: int, why: str) -> RunDamaged:
    """Return the error for a bad line that no crash can explain."""
    return RunDamaged(
        f"{path} line {number} cannot be trusted: {why}. A crash tears only the last line: the file was changed, or "
        f"the disk is failing. To go on before it, keep a copy, then run  head -n {number - 1} {path.name} > good; "
        f"mv good {path.name}  and give the same command again; later work is redone."
    )
