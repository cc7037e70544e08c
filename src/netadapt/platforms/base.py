"""What a platform is: a runtime on a device that compiles a network as its users deploy it and measures it.

`stopwatch.py` turns the readings of its sessions into a `Measurement`; `resources/` asks for whole batches of networks.
A third-party platform implements `Platform` and registers it under the entry point group ``netadapt.platforms``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import nn

    from netadapt.network import Network

Verdict = Literal["stable", "noisy", "unusable"]


@dataclass(frozen=True)
class Artifact:
    """A file that a runtime loads, with the files that it names where a network consists of several.

    Attributes:
        path: where it lies.
        sha256: of its content, which names its companions by theirs.
        companions: files in the same folder without which it cannot be loaded.
    """

    path: Path
    sha256: str
    companions: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Return all files of the network, the one that the runtime is given first."""
        return (self.path, *self.companions)


@dataclass(frozen=True)
class Reading:
    """What one session of one network gave.

    Attributes:
        latency_ms: mean latency of one inference in each time slice, in order of time.
        energy_mj: millijoules per inference with idle power subtracted, if the platform can tell.
        memory_mb: peak resident size minus that of the empty runtime, in 10^6 bytes, if the platform can tell.
        waited: share of the time in which the session was ready to run but others had its core, if the platform can
            tell.
    """

    latency_ms: tuple[float, ...]
    energy_mj: float | None = None
    memory_mb: float | None = None
    waited: float | None = None


@dataclass(frozen=True)
class OperationTime:
    """What a runtime's own profiler says of one operation that it runs; several layers may be fused into one.

    Attributes:
        name: as the runtime calls it; it holds the path of a module where the runtime keeps names.
        kind: which kernel runs, in the runtime's words; another kernel has another kind.
        latency_ms: of one inference, typical over many.
    """

    name: str
    kind: str
    latency_ms: float


@dataclass(frozen=True)
class Measurement:
    """The result of measuring one network on one platform, over several fresh sessions.

    Attributes:
        platform: canonical platform string.
        median_ms: median over sessions of the latency of one inference at the example input's batch.
        iqr_ms: interquartile range over all time slices of all sessions.
        p90_ms: 90th percentile over all time slices.
        count: number of time slices.
        verdict: ``stable`` (spread of the sessions under 5 %, and others had the core for less than 5 % of the time),
            ``noisy`` (spread under 25 %) or ``unusable``.
        half_width_ms: half the 95 % confidence interval of ``median_ms``.
        sessions_ms: one latency per session, in the order taken.
        rounds_ms: the same before drift was divided out; networks of one window are paired by round.
        ratio: to the sentinel measured in the same window; ``None`` for the sentinel itself or without one.
        energy_mj, memory_mb: medians over the sessions, ``None`` where the platform cannot tell.
        energy_half_width_mj, memory_half_width_mb: half the 95 % confidence intervals of these.
        size_mb: of the file that was measured, in 10^6 bytes; ``None`` where users do not deploy such files.
        yardsticks_ms: of the networks of known latency in the same window, if any (see `resources/yardsticks.py`).
        environment: what was seen of the machine (processor, governor, load, temperature, versions), and of the window:
            ``trend`` (see `conditions.py`), ``busy`` (other programs, where somebody looked), ``waited`` (share of the
            time without a core).
    """

    platform: str
    median_ms: float
    iqr_ms: float
    p90_ms: float
    count: int
    verdict: Verdict
    half_width_ms: float
    sessions_ms: tuple[float, ...]
    ratio: float | None = None
    energy_mj: float | None = None
    memory_mb: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    rounds_ms: tuple[float, ...] = ()
    size_mb: float | None = None
    energy_half_width_mj: float | None = None
    memory_half_width_mb: float | None = None
    yardsticks_ms: tuple[float, ...] = ()

    @property
    def sentinel_ratio(self) -> float:
        """Return the ratio to the sentinel of the window: 1 for the sentinel itself and whatever is its file."""
        return 1.0 if self.ratio is None else self.ratio

    @property
    def relative_half_width(self) -> float:
        """Return the half-width of the interval relative to the median."""
        return self.half_width_ms / self.median_ms

    @property
    def relative_half_widths(self) -> dict[str, float]:
        """Return the same of every measured resource of which it is known."""
        found = {"latency": self.relative_half_width}
        if self.energy_mj and self.energy_half_width_mj is not None:
            found["energy"] = self.energy_half_width_mj / self.energy_mj
        if self.memory_mb and self.memory_half_width_mb is not None:
            found["memory"] = self.memory_half_width_mb / self.memory_mb
        return found


class Platform(Protocol):
    """A runtime on a device.

    A platform whose sessions do not use this machine may also set ``exclusive = False``; the stopwatch then leaves the
    machine-wide measuring lock alone. One that needs many seconds for each network before it can be timed may set
    ``costly = True``; estimators then learn from fewer. One whose files are what users deploy may set
    ``deployable = True``; their size then is the resource ``size``. ``requires`` (an importable module) and
    ``description`` serve ``ls platforms``.

    One whose runtime has a profiler may also have ``profile(artifact, *, seconds)``; it returns a tuple of
    `OperationTime` in order of execution from a fresh session, or ``None`` if there is no profiler after all.
    `explain/` asks for it.

    Attributes:
        name: canonical string, e.g. ``local/onnxruntime?threads=1``.
        resources: the resources it measures, e.g. ``("latency",)``.
    """

    name: str
    resources: tuple[str, ...]

    def fingerprint(self) -> Mapping[str, str | int]:
        """Return all that a latency depends on beside the network: device, runtime, version, threads, dtype."""
        ...

    def compile(self, model: nn.Module, example_inputs: Any, folder: Path) -> Artifact:
        """Write the file that this runtime loads for ``model`` as it stands (weights included) into ``folder``.

        Raises:
            PlatformError: the runtime cannot run this network.
        """
        ...

    def compile_widths(self, network: Network, widths: Mapping[str, int], folder: Path) -> Artifact:
        """Write the file of ``network`` at other ``widths``, with weights of normal range; for timing only."""
        ...

    def session(self, artifact: Artifact, *, seconds: float, warmups: int) -> Reading:
        """Time ``artifact`` in a fresh session for about ``seconds`` after ``warmups`` inferences.

        Raises:
            PlatformError: the runtime cannot run the file.
            SessionLost: the session broke off, perhaps for no fault of the network; it is repeated once.
            MeasurementUnusable: it took longer than the platform allows.
        """
        ...

    def environment(self) -> Mapping[str, Any]:
        """Return a snapshot of the machine's state for the record."""
        ...

    def close(self) -> None:
        """Release processes and locks; idempotent."""
        ...
