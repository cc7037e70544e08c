"""Opens a run for writing with progress on standard error and signals heard; for ``run`` and ``tune``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from netadapt.cli.progress import shown
from netadapt.cli.signals import stopping

if TYPE_CHECKING:
    from netadapt.adaptation.adaptation import Adaptation
    from netadapt.runs.settings import RunConfig


def settings_of(config: Path, overrides: Sequence[str] | None, folder: Path | None) -> RunConfig:
    """Return the settings of a configuration file.

    Args:
        config: the file.
        overrides: ``section.key=value`` each.
        folder: of the run, instead of ``run.folder``.

    Raises:
        ConfigError: see `load_config`.
    """
    from netadapt.runs.config import load_config

    given = [] if folder is None else [f"run.folder={json.dumps(str(folder))}"]
    return load_config(config, [*(overrides or []), *given])


@contextmanager
def opened(settings: RunConfig) -> Iterator[Adaptation]:
    """Yield the adaptation that the settings describe; SIGINT and SIGTERM ask it to stop at a safe point."""
    from netadapt.adaptation.adaptation import Adaptation

    folder = Path(settings.run.folder)
    with shown(folder) as listener, stopping() as stop:
        adaptation = Adaptation.from_config(settings, folder=folder, listener=listener)
        with contextlib.closing(adaptation):
            stop.by(adaptation.stop)
            yield adaptation
