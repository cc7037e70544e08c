"""The journal and the files of a run in the terms of the search: proposals, steps, variants.

Weights are on disk before the journal line that names them. `tools.py` and `finish.py` write through it.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from netadapt.algorithm import Candidate, Step
from netadapt.network import Network, load, save
from netadapt.platforms import Measurement
from netadapt.proposals import Proposal
from netadapt.runs.folder import RunFolder
from netadapt.scores import Score

Listener = Callable[[str, Mapping[str, Any]], None]
PROPOSALS, CHECKPOINTS = "proposals", "checkpoints"


class Store:
    """What a run has written and writes.

    Args:
        folder: open for writing.
        network: the original.
        listener: told every record, and what is worth showing but not keeping.
    """

    def __init__(self, folder: RunFolder, network: Network, listener: Listener) -> None:
        self.folder = folder
        self.network = network
        self.tell = listener

    def record(self, type_: str, data: Mapping[str, Any]) -> None:
        """Append to the journal, then tell the listener."""
        self.folder.append(type_, data)
        self.tell(type_, data)

    def proposals_of(self, iteration: int) -> list[Proposal] | None:
        """Return the proposals written down for an iteration; ``None`` if it was not begun."""
        for record in reversed(self.folder.journal.records):
            if record.type == "iteration" and record.data["iteration"] == iteration:
                return [_proposal(data) for data in record.data["proposals"]]
        return None

    def finished(self, key: str) -> Mapping[str, Any] | None:
        """Return the record of a proposal that was tuned before an interruption."""
        found: Mapping[str, Any] | None = self.folder.state().proposals.get(key)
        return found

    def images_of(self, iteration: int) -> int:
        """Return the training images of all proposals of ``iteration``, those before an interruption included."""
        return sum(p["images"] for p in self.folder.state().proposals.values() if p["iteration"] == iteration)

    def restore(self, candidate: Candidate, done: Mapping[str, Any]) -> Candidate | None:
        """Return a candidate with the weights and the score that it had reached; ``None`` if it had failed."""
        if done["failed"] is not None:
            return None
        model = load(self.folder.inside(done["weights"]), copy.deepcopy(self.network.model))
        score = done["score"]
        return Candidate(candidate.proposal, model, Score(score["metric"], score["loss"], score.get("count")))

    def finish(
        self,
        key: str,
        iteration: int,
        proposal: Proposal,
        model: nn.Module | None,
        score: Score | None,
        *,
        failed: str | None,
        images: int,
        seconds: float,
    ) -> None:
        """Keep the weights of a tuned proposal, then write its line."""
        name = f"{PROPOSALS}/{key}"
        if model is not None:
            path = self.folder.inside(name)
            path.mkdir(parents=True, exist_ok=True)
            save(model, self.network, path, {})
        data = {"key": key, "iteration": iteration, "group": proposal.name, "widths": dict(proposal.widths)}
        data |= {"estimated": dict(proposal.estimated), "sigma": dict(proposal.sigma)}
        data |= {"score": None if score is None else asdict(score) | {"tuned": True}}
        data |= {"images": images, "seconds": seconds, "weights": name if model is not None else None, "failed": failed}
        self.record("proposal", data)

    def finish_step(self, step: Step, measurement: Measurement, effort: Mapping[str, float]) -> None:
        """Keep the network of a step as a variant, write its line, and drop the weights of the proposals."""
        name = f"{step.iteration:03d}"
        self.keep_variant(name, step.model, measurement)
        self.record(
            "step",
            {
                "iteration": step.iteration,
                "group": "+".join(step.groups),
                "widths": dict(step.widths),
                "estimated": dict(step.estimated),
                "measured": dict(step.resources),
                "measurement": asdict(measurement),
                "accuracy": step.score.metric,
                "loss": step.score.loss,
                "variant": name,
                **effort,
            },
        )
        self.folder.write_curve()
        shutil.rmtree(self.folder.inside(PROPOSALS), ignore_errors=True)

    def keep_variant(self, name: str, model: nn.Module, measurement: Measurement | None, *, tuned: bool = False) -> str:
        """Write the files of a variant and return the path of its folder inside the run."""
        path = self.folder.variant(name, tuned=tuned)
        save(model, self.network, path, {})
        relative = path.relative_to(self.folder.path).as_posix()
        if measurement is not None:
            self.folder.write_json(f"{relative}/measurement.json", asdict(measurement))
        return relative

    def checkpoint(self, key: str) -> Path:
        """Return where the epochs of a long fine-tune are kept until the run has ended."""
        path = self.folder.inside(f"{CHECKPOINTS}/{key}")
        path.parent.mkdir(exist_ok=True)
        return path

    def drop_checkpoints(self) -> None:
        """Remove the epochs of all long fine-tunes, whose results are kept as variants."""
        shutil.rmtree(self.folder.inside(CHECKPOINTS), ignore_errors=True)

    def load_variant(self, relative: str) -> nn.Module:
        """Return the module kept in a variant's folder."""
        return load(self.folder.inside(relative), copy.deepcopy(self.network.model))


def _proposal(data: Mapping[str, Any]) -> Proposal:
    return Proposal(tuple(data["groups"]), dict(data["widths"]), dict(data["estimated"]), dict(data["sigma"]))
