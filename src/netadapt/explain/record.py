"""What ``netadapt explain`` finds, as a record that is printed, stored in a run's folder and shown in its report.

A stored one may have been written by anybody: types, sizes and numbers are checked when it is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from netadapt.errors import RunDamaged
from netadapt.files import write_atomic
from netadapt.platforms.base import Verdict
from netadapt.runs.folder import inside

NAME = "explanation.json"
_LARGEST = 10_000_000  # bytes of a stored record

Cause = Literal[
    "", "kept", "pinned", "layout change", "plateau", "overhead-bound", "memory-bound", "within noise", "unexplained"
]
Count = Annotated[int, Field(ge=0)]
Milliseconds = Annotated[float, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Side(_Record):
    """One layer in one of the two networks.

    Attributes:
        inputs, outputs: channels.
        macs: multiply-accumulates of one inference; 0 for pooling and the like.
        latency_ms: all its operations together.
        reorder_ms: the part of it in which the runtime only rearranges memory.
        kernel: the runtime's word for what computes it; empty where nobody told.
    """

    inputs: Count
    outputs: Count
    macs: Count
    latency_ms: Milliseconds
    reorder_ms: Milliseconds = 0.0
    kernel: str = ""


class Row(_Record):
    """One layer before and after.

    Attributes:
        layer: qualified module name.
        before, after: in the two networks.
        spread_ms: half the interquartile range of its time over the profiles, the larger of the two.
        lost_ms: its time after minus what it would be if it followed the work; negative where it gained more.
        cause: why it did not get faster as its work shrank; empty where it did.
        reason: the cause in one sentence with its figures.
    """

    layer: str
    before: Side
    after: Side
    spread_ms: Milliseconds
    lost_ms: float
    cause: Cause
    reason: str


class Total(_Record):
    """One network as a whole.

    Attributes:
        measured_ms: its latency, measured without any profiler.
        half_width_ms: half the 95 % interval of that.
        verdict: of the stopwatch.
        layers_ms: sum over the rows.
        other_ms: what the source tells beside them: operations that belong to no layer, fixed costs.
    """

    measured_ms: Milliseconds
    half_width_ms: Milliseconds
    verdict: Verdict
    layers_ms: Milliseconds
    other_ms: float

    @property
    def missing_ms(self) -> float:
        """What was measured and is in no row; negative where the profiler's own work exceeds it."""
        return self.measured_ms - self.layers_ms - self.other_ms


class Explanation(_Record):
    """All layers of two networks.

    Attributes:
        v: version of this record.
        platform: canonical name.
        variant: name of the second network in its run.
        source: where the times of the layers come from.
        profiles: how often each network was profiled; 0 without a profiler.
        vector: channels that the platform computes at once.
        vector_from: how that is known.
        overhead_ms: fixed cost of a call: the shortest operation seen.
        before, after: the networks as wholes.
        rows: one per layer, in order of execution.
        notes: what else there is to know, in sentences.
    """

    v: Literal[1] = 1
    platform: str
    variant: str
    source: str
    profiles: Count
    vector: Annotated[int, Field(ge=1)]
    vector_from: str
    overhead_ms: Milliseconds
    before: Total
    after: Total
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def lost(self) -> dict[str, float]:
        """Milliseconds lost by cause, the largest first; causes without a loss are left out."""
        found: dict[str, float] = {}
        for row in self.rows:
            if row.cause not in ("", "kept", "pinned", "within noise") and row.lost_ms > 0:
                found[row.cause] = found.get(row.cause, 0.0) + row.lost_ms
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def write(self, folder: Path) -> Path:
        """Store it in a run's folder and return its path."""
        path = inside(folder, NAME)
        write_atomic(path, self.model_dump_json(indent=1).encode() + b"\n")
        return path


def read(folder: Path) -> Explanation | None:
    """Return what a run's folder holds, or ``None`` if nobody asked yet.

    Raises:
        RunDamaged: the file is none of ours, or leads out of the folder.
    """
    path = inside(folder, NAME)
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST:
        raise RunDamaged(f"{path} is larger than {_LARGEST} bytes; delete it, and run netadapt explain again.")
    try:
        return Explanation.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RunDamaged(
            f"{path} cannot be used ({where}: {first['msg']}); delete it, and run netadapt explain again."
        ) from error
