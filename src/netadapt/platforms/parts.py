"""What netadapt's own platforms are made of: a runtime, which writes files, and a device, which times them.

`assembled.py` puts one of each together; `runtimes/` and `devices/` hold them, `registry.py` knows their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from netadapt.platforms.base import Artifact, Reading

if TYPE_CHECKING:
    from torch import nn

    from netadapt.network import Network


class Runtime(Protocol):
    """Writes the files that a runtime loads, on the machine that netadapt runs on.

    Its other half, which loads and runs them, is ``on_device/engine_NAME.py``. Keyword arguments of the class with
    plain types are the parameters that users write behind the question mark. A runtime that may compute on something
    else than the processor also has ``accelerator() -> str | None``, its name on this machine. One that converts every
    network in full, which takes many seconds, has ``costly = True``.

    Attributes:
        name: as in platform strings, e.g. ``onnxruntime``.
        description: one line for ``ls platforms``.
        requires: modules that must be importable here to write files, and what installs them: ``pip install ...``.
        distributions: whose versions are recorded, the runtime's own first.
        options: for the engine; they change latencies and are part of name and fingerprint where not the default.
        form: of the files written, to be raised whenever the same network gives another file.
        dtype: in which it computes.
    """

    name: str
    description: str
    requires: Mapping[str, str]
    distributions: tuple[str, ...]
    options: Mapping[str, str | int]
    form: int
    dtype: str

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write ``model`` as it stands; see `Platform.compile`."""
        ...

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write ``network`` at checked ``widths`` (all groups named); see `Platform.compile_widths`."""
        ...

    def close(self) -> None:
        """Forget what was kept between calls; idempotent."""
        ...


class Device(Protocol):
    """Times files that a runtime wrote.

    One that can ask a runtime's profiler also has ``profile(runtime, artifact, *, seconds)``; see `Platform`.

    A device that cannot load the files of every runtime names those it can in ``runtimes``, a tuple; one that is
    reached through a program of this machine names it in ``programs``, with the command that installs it.

    Attributes:
        name: as in platform strings, e.g. ``local`` or ``ssh://me@phone``.
        threads: of one inference.
        options: settings that change what it measures, part of the platform's name and fingerprint.
        exclusive: whether sessions use this machine, which must then do nothing else.
        resources: what it measures with every session.
    """

    name: str
    threads: int
    options: Mapping[str, str | int]
    exclusive: bool
    resources: tuple[str, ...]

    def identity(self, runtime: Runtime) -> Mapping[str, str]:
        """Return ``device`` (the processor's name) and ``version`` (of the runtime there).

        Where the device decides how the runtime computes, ``dtype`` as well.
        """
        ...

    def session(self, runtime: Runtime, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Time a file in a fresh session; see `Platform.session`."""
        ...

    def environment(self, runtime: Runtime) -> Mapping[str, Any]:
        """Return a snapshot of the device's state for the record."""
        ...

    def close(self) -> None:
        """Release processes, connections and locks; idempotent."""
        ...
