"""One network on the accuracy/resource curve of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import nn

from netadapt.budget import format_quantity
from netadapt.errors import ModelError, RunDamaged
from netadapt.platforms.base import Measurement


@dataclass(frozen=True)
class Variant:
    """One network that a run found, or the original.

    Attributes:
        name: its folder's name in the run, e.g. ``007``; the original is ``000``.
        iteration: which step made it; 0 for the original.
        widths: units that each channel group keeps.
        resources: what it costs by resource, in canonical units; measured ones as measured.
        measurement: the full measurement, if it was measured.
        accuracy: on the selection split, before the long-term fine-tune; the original's own.
        test_accuracy: on the test split; ``None`` unless it was read, which is once, at the end.
        tuned: whether it has been through the long-term fine-tune (the original counts as tuned).
        folder: where its files lie.
    """

    name: str
    iteration: int
    widths: Mapping[str, int]
    resources: Mapping[str, float]
    measurement: Measurement | None
    accuracy: float | None
    test_accuracy: float | None
    tuned: bool
    folder: Path

    def load(self, model: nn.Module) -> nn.Module:
        """Return this network with its weights.

        Args:
            model: the original network, of the user's own class; it stays untouched.

        Raises:
            ModelError: the files are missing, damaged, or of another network.
        """
        if not (self.folder / "architecture.json").is_file():
            raise ModelError(
                f"Variant {self.name} has no files in {self.folder}. "
                f"Choose another variant, or run the same command again if the run was interrupted."
            )
        from netadapt.network.saving import load

        return load(self.folder, model)

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "name": self.name,
            "iteration": self.iteration,
            "widths": dict(self.widths),
            "resources": dict(self.resources),
            "measurement": asdict(self.measurement) if self.measurement else None,
            "accuracy": self.accuracy,
            "test_accuracy": self.test_accuracy,
            "tuned": self.tuned,
            "folder": str(self.folder),
        }

    def __str__(self) -> str:
        """Return one line for people, e.g. ``007: 3.21 ms, selection 71.2 %``."""
        costs = [format_quantity(value, name) for name, value in self.resources.items()]
        scores = [
            f"{split} {100 * value:.1f} %"
            for split, value in (("selection", self.accuracy), ("test", self.test_accuracy))
            if value is not None
        ]
        return f"{self.name}: " + ", ".join([*costs, *scores, *([] if self.tuned else ["not tuned long-term"])])


def measurement_of(data: Mapping[str, Any] | None) -> Measurement | None:
    """Return a measurement from its JSON; keys that this version does not know are skipped."""
    if not data:
        return None
    known = {field.name for field in fields(Measurement)}
    kept = {key: value for key, value in data.items() if key in known}
    try:
        return Measurement(**kept | {"sessions_ms": tuple(kept.get("sessions_ms", ()))})
    except TypeError as error:
        raise RunDamaged(f"A measurement in the journal is not whole: {error}. Another netadapt wrote it.") from error
