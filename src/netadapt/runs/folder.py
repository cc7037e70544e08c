"""The folder of a run: who may write it, what lies where, and the order of writing that a crash cannot break.

`adaptation/` opens one for writing. Artefacts are written first, whole or not at all; then the journal line that
names them. Everything that reads a run uses `state.py` and needs no `RunFolder`.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from netadapt.errors import ConfigError, Interrupted, RunDamaged
from netadapt.files import write_atomic
from netadapt.runs import journal as journal_module
from netadapt.runs import lock as lock_module
from netadapt.runs.config import differences, load_config, to_toml
from netadapt.runs.journal import Journal, Record
from netadapt.runs.lock import RunLock
from netadapt.runs.settings import RunConfig
from netadapt.runs.state import State, fold
from netadapt.runs.status import summarise

log = logging.getLogger("netadapt")

CONFIG, ENVIRONMENT, CURVE, REPORT, VARIANTS = "config.toml", "environment.json", "curve.csv", "report.html", "variants"
_CURVE_COLUMNS = (
    "iteration",
    "variant",
    "latency_ms",
    "half_width_ms",
    "accuracy_selection",
    "accuracy_test",
    "macs",
    "parameters",
)


class RunFolder:
    """A run folder, open for its one writer.

    Args:
        path: the folder; it is made if it does not exist.
        config: the settings of the run; those of an existing run must be the same.
        needed_mb: room that the run will need on the disk, in 10^6 bytes.

    Attributes:
        path: the folder.
        config: the settings.
        journal: open for appending.
        resumed: whether the run had been started before.

    Raises:
        ConfigError: the folder cannot be written, is not a run's, lacks room, is in use, or has other settings.
        RunDamaged: the journal cannot be trusted.
    """

    def __init__(self, path: str | Path, config: RunConfig, *, needed_mb: float = 0.0) -> None:
        self.path = Path(path)
        self.config = config
        _make(self.path)
        _refuse_foreign(self.path)
        _refuse_full(self.path, needed_mb)
        self._lock = RunLock(self.path)
        try:
            self._refuse_changed()
            self.journal = Journal(self.path / journal_module.NAME)
            self.resumed = bool(self.journal.records)
            self._remove_leftovers()
            self.write(CONFIG, to_toml(config).encode())
        except BaseException:
            self._lock.release()
            raise

    def state(self) -> State:
        """Return the fold of the journal so far."""
        return fold(self.journal.records)

    def append(self, type_: str, data: Mapping[str, Any]) -> Record:
        """Write a journal record; the files that it names must be written before.

        Args:
            type_: one of the types of `state.py`.
            data: JSON values.

        Raises:
            Interrupted: the disk is full or gone; the run can be resumed.
        """
        return self.journal.append(type_, data)

    def write(self, name: str, data: bytes) -> str:
        """Write a file of the run, whole or not at all.

        Args:
            name: path inside the folder, e.g. ``variants/007/measurement.json``.
            data: the content.

        Returns:
            The SHA-256 of ``data``, for the journal.

        Raises:
            RunDamaged: ``name`` leads out of the folder or through a link.
            Interrupted: the disk is full or gone; the run can be resumed.
        """
        path = self.inside(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return write_atomic(path, data)
        except OSError as error:
            raise Interrupted(
                f"{path} cannot be written: {error.strerror}. Everything before is safe; "
                f"make room or mend the disk, then run the same command again: it resumes."
            ) from error

    def write_json(self, name: str, content: Any) -> str:
        """Write JSON values as `write` does; NaN and infinity are refused with a ValueError."""
        return self.write(name, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())

    def inside(self, name: str) -> Path:
        """Return the path of a file of the run; see `inside`."""
        return inside(self.path, name)

    def variant(self, number: int | str, *, tuned: bool = False) -> Path:
        """Return the folder of a variant, made if needed, e.g. ``variants/007`` or ``variants/007-tuned``."""
        name = f"{number:03d}" if isinstance(number, int) else number
        folder = self.inside(f"{VARIANTS}/{name}{'-tuned' if tuned else ''}")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write_curve(self) -> None:
        """Rewrite ``curve.csv`` from the journal."""
        self.write(CURVE, curve_csv(self.state()).encode())

    def close(self) -> None:
        """Close the journal and let others write; idempotent."""
        self.journal.close()
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refuse_changed(self) -> None:
        """Refuse to go on with other settings than those of the run; before the first record all may change."""
        stored, started = self.inside(CONFIG), self.inside(journal_module.NAME)
        if not started.exists() or started.stat().st_size == 0:
            return
        if not stored.exists():
            raise RunDamaged(
                f"{self.path} has a journal but no {CONFIG}. Restore that file, or start in another folder."
            )
        changed = differences(load_config(stored), self.config)
        if changed:
            raise ConfigError(
                f"{self.path} holds a run with other settings (old -> new):\n  " + "\n  ".join(changed) + "\n"
                "Give the old settings to resume it, or another folder (--out) to start a new run."
            )

    def _remove_leftovers(self) -> None:
        """Remove temporary files that a crash left."""
        for leftover in self.path.rglob(".*.tmp"):
            if leftover.is_file() and not leftover.is_symlink():
                leftover.unlink()
                log.info("removed %s, left by an interrupted write", leftover)


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file inside a run folder.

    Args:
        folder: the run folder.
        name: relative path with forward slashes; it may come from a journal that somebody else wrote.

    Raises:
        RunDamaged: it leads out of the folder, or through a symbolic link.
    """
    pure = PurePosixPath(name)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or "\\" in name or "\0" in name:
        raise RunDamaged(f'{folder}: "{name}" is not a path inside the run folder. Do not trust this folder.')
    path = folder
    for part in pure.parts:
        path = path / part
        if path.is_symlink():
            raise RunDamaged(f"{path} is a symbolic link; run folders hold plain files only. Do not trust this folder.")
    return path


def curve_csv(state: State) -> str:
    """Return the curve of a run as CSV: one row for the original network and one for every step."""
    half_widths = {step["variant"]: (step.get("measurement") or {}).get("half_width_ms") for step in state.steps}
    text = io.StringIO()
    table = csv.DictWriter(text, _CURVE_COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    for entry in summarise(state)["family"]:
        table.writerow(entry | {"accuracy_test": entry["accuracy"], "half_width_ms": half_widths.get(entry["variant"])})
    return text.getvalue()


def _make(folder: Path) -> None:
    """Make the folder and try to write into it, before anything costly is begun."""
    try:
        if folder.is_symlink():
            raise ConfigError(f"{folder} is a symbolic link; give the folder itself (run.folder or --out).")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "it is read-only for you")
        probe = folder / ".probe.tmp"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror}. Give a folder that can be (run.folder or --out)."
        ) from error


def _refuse_foreign(folder: Path) -> None:
    """Refuse a folder with files that are not a run's."""
    if (folder / journal_module.NAME).exists():
        return
    ours = {CONFIG, ENVIRONMENT, lock_module.NAME}
    foreign = sorted(
        entry.name for entry in folder.iterdir() if entry.name not in ours and not entry.name.endswith(".tmp")
    )
    if foreign:
        raise ConfigError(
            f"{folder} is not the folder of a run: it holds {', '.join(foreign[:5] + ['...'] * (len(foreign) > 5))} "
            f"and no {journal_module.NAME}. Give an empty or a new folder (run.folder or --out)."
        )


def _refuse_full(folder: Path, needed_mb: float) -> None:
    """Refuse a disk that cannot hold the run."""
    free_mb = shutil.disk_usage(folder).free / 1e6
    if free_mb < needed_mb:
        raise ConfigError(
            f"{folder} has {free_mb:.0f} MB free; this run needs about {needed_mb:.0f} MB. "
            f"Make room or give another folder (--out)."
        )
