"""One piece of work in a forked child with limits on processor time and memory: a crash there is a result here."""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_S = 0.1
_PATIENCE = 20  # wall time allowed per second of processor time: the machine may be busy with other things


@dataclass(frozen=True)
class Limits:
    """What a child may use.

    Attributes:
        processor_s: processor time, seconds.
        memory_mb: resident memory, 10^6 bytes; watched ten times a second.
    """

    processor_s: int = 180
    memory_mb: float = 8000.0


def isolated(work: Callable[[], Mapping[str, Any]], limits: Limits) -> dict[str, Any]:
    """Run ``work`` in a child process that prints nothing.

    Args:
        work: returns what JSON can hold.
        limits: above which the child is killed.

    Returns:
        What ``work`` returned, or ``{"failure": one line}``: its error with the innermost line of code, or the limit
        that it met. In both cases with ``processor_s`` and ``peak_mb`` (10^6 bytes) of the whole child.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        child = os.fork()
        if child == 0:
            _be_child(work, limits, answer)
        ended, killed_for = _watch(child, limits)
        told = json.loads(answer.read_text()) if answer.is_file() else {"failure": killed_for or _cause(ended, limits)}
    return told | {"processor_s": round(ended.ru_utime + ended.ru_stime, 2), "peak_mb": ended.peak_mb}


@dataclass(frozen=True)
class _End:
    status: int
    ru_utime: float
    ru_stime: float
    peak_mb: float


def _be_child(work: Callable[[], Mapping[str, Any]], limits: Limits, answer: Path) -> None:
    """Do the work and leave; never returns."""
    code = 1
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (limits.processor_s, limits.processor_s + 5))
        try:
            told = dict(work())
        except Exception as error:  # noqa: BLE001  whatever it is, it is the result
            told = {"failure": _one_line(error)}
        part = answer.with_suffix(".part")
        part.write_text(json.dumps(told, allow_nan=False))
        part.rename(answer)
        code = 0
    finally:
        os._exit(code)


def _watch(child: int, limits: Limits) -> tuple[_End, str]:
    """Wait for the child, kill it at a limit; return how it ended and the limit it met, if any."""
    killed_for = ""
    deadline = time.monotonic() + _PATIENCE * limits.processor_s
    while True:
        pid, status, used = os.wait4(child, os.WNOHANG)
        if pid:
            return _End(status, used.ru_utime, used.ru_stime, round(used.ru_maxrss * 1024 / 1e6, 1)), killed_for
        if not killed_for:
            if _resident_mb(child) > limits.memory_mb:
                killed_for = f"needs more than {limits.memory_mb / 1000:g} GB of memory"
            elif time.monotonic() > deadline:
                killed_for = f"no end after {_PATIENCE * limits.processor_s} s"
            if killed_for:
                os.kill(child, signal.SIGKILL)
        time.sleep(_POLL_S)


def _resident_mb(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cause(ended: _End, limits: Limits) -> str:
    number = os.WTERMSIG(ended.status) if os.WIFSIGNALED(ended.status) else 0
    if number in (signal.SIGXCPU, signal.SIGKILL) and ended.ru_utime + ended.ru_stime >= limits.processor_s - 1:
        return f"needs more than {limits.processor_s} s of processor time"
    return f"killed by signal {number}" if number else f"ended with code {os.waitstatus_to_exitcode(ended.status)}"


def _one_line(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}{where}"
