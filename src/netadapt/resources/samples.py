"""Raw measurements on disk, shared between runs: one JSON-lines file per platform and network (or layer table).

The first line is a header that says what the file belongs to; each further line is one record with a checksum
(``check``: first 16 hex digits of the SHA-256 of the record without it, as canonical JSON). Lines are only appended;
damaged ones are moved to ``FILE.damaged``. Used by `meter.py` and `layer_table.py`; documented in README.md here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from netadapt.errors import UsageError

_log = logging.getLogger("netadapt")
FORMAT, VERSION = "netadapt-samples", 1
Record = dict[str, Any]


class SampleFile:
    """A file of records that belong to one subject; several processes may append at a time.

    Args:
        folder: the cache; made when the first record comes.
        name: beginning of the file's name, for people.
        subject: what the records belong to; its hash ends the file's name.

    Raises:
        UsageError: the file exists but is of another format or subject.
    """

    def __init__(self, folder: Path, name: str, subject: Mapping[str, Any]) -> None:
        self._header = {"format": FORMAT, "version": VERSION, "subject": dict(subject)}
        digest = hashlib.sha256(_canonical(self._header["subject"])).hexdigest()[:16]
        safe = "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")
        self.path = folder / f"{safe[:60]}-{digest}.jsonl"

    def read(self) -> list[Record]:
        """Return all records, oldest first; damaged lines are moved to ``FILE.damaged`` and reported."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return []
        with self._locked():
            lines = self.path.read_bytes().splitlines()
            self._check_header(lines[0] if lines else b"")
            records = [_decode(line) for line in lines[1:]]
            damaged = [line for line, record in zip(lines[1:], records, strict=True) if record is None]
            if damaged:
                self._quarantine(lines, records, damaged)
        return [record for record in records if record is not None]

    def append(self, *records: Mapping[str, Any]) -> None:
        """Add records in one write and flush them to disk.

        Raises:
            ValueError: a record holds a number that is not finite.
        """
        text = b"".join(_encode(record) for record in records)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            end = self._torn_end()
            with self.path.open("ab", buffering=0) as file:
                file.write((b"" if end is not None else _canonical(self._header) + b"\n") + (end or b"") + text)
                os.fsync(file.fileno())

    def _torn_end(self) -> bytes | None:
        """Return what must come before the next line: ``None`` in an empty file, else a missing line end."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return None
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return b"" if file.read(1) == b"\n" else b"\n"

    def _check_header(self, line: bytes) -> None:
        try:
            header = json.loads(line)
        except ValueError:
            header = None
        if header == json.loads(_canonical(self._header)):
            return
        found = header.get("version") if isinstance(header, dict) else None
        raise UsageError(
            f"{self.path}: the first line is not the header of this platform and network (format {FORMAT}, version "
            f"{VERSION}; found version {found}). Move the file away; it will be measured again."
        )

    def _quarantine(self, lines: list[bytes], records: list[Record | None], damaged: list[bytes]) -> None:
        """Move damaged lines aside: first written there, then the file is replaced without them."""
        aside = self.path.with_suffix(".jsonl.damaged")
        with aside.open("ab") as file:
            file.write(b"".join(line + b"\n" for line in damaged))
        good = [lines[0], *(line for line, record in zip(lines[1:], records, strict=True) if record is not None)]
        fresh = self.path.with_suffix(".jsonl.new")
        with fresh.open("wb") as file:
            file.write(b"".join(line + b"\n" for line in good))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        numbers = [number for number, record in enumerate(records, start=2) if record is None]
        _log.warning(
            "%s: %d damaged line(s) (%s) moved to %s; what they held will be measured again",
            self.path, len(damaged), ", ".join(map(str, numbers[:10])), aside.name,
        )  # fmt: skip

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes out; the lock is a file of its own because the data file may be replaced."""
        with self.path.with_suffix(".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(dict(record))).hexdigest()[:16]


def _encode(record: Mapping[str, Any]) -> bytes:
    return _canonical({**record, "check": _checksum(record)}) + b"\n"


def _decode(line: bytes) -> Record | None:
    """Return the record of a line, or ``None`` if it is damaged."""
    try:
        record = json.loads(line)
        check = record.pop("check")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    return record if check == _checksum(record) else None
