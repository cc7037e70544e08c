"""Loss curves on disk, shared between runs: what was measured for one budget serves all others.

A file in the cache (`resources/samples.py` tells its form) for each network with its weights, images to re-fit on and
score on the selection split; one record per group. Used by `losses.py` where filters are chosen by re-fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from netadapt.baselines.one_shot import LossCurve
from netadapt.digests import digest_of
from netadapt.files import cache_folder
from netadapt.network import Network
from netadapt.resources.samples import Record, SampleFile
from netadapt.scores import Score

#: to be raised whenever re-fit, choice of filters, surgery, refreshed statistics or `loss_curve` give other losses
VERSION = 2


@dataclass(frozen=True)
class KeptCurve:
    """The loss curve of a group and what it took, in whichever run.

    Attributes:
        curve: as measured.
        forward_images: seen for it.
        seconds: that it took.
    """

    curve: LossCurve
    forward_images: int
    seconds: float


class KeptCurves:
    """The loss curves of one network that are known on this machine.

    Args:
        network: the original, with the weights that the curves start from.
        inputs: calibration inputs of the re-fit, as the network is fed them; ``None`` keeps nothing, as does anything
            but tensors and plain values in them or in the network's state: it could not be told whether others are the
            same.
        images: how many of them the re-fit uses.
        start: of the network on the images that the curves are measured on; it stands for these, which a task of the
            user's own need not show. A loss that is a rounded accuracy may not tell two splits apart.
        part: how many images of the selection split were asked for; ``None`` for all of it.

    Raises:
        UsageError: the file exists but is of another format.
    """

    def __init__(
        self, network: Network, inputs: Sequence[Any] | None, images: int, start: Score, part: int | None
    ) -> None:
        self._file: SampleFile | None = None
        self._known: dict[tuple[str, tuple[int, ...]], Record] = {}
        content = None if inputs is None else digest_of([network.model.state_dict(), inputs])
        if content is None:
            return
        subject = {
            "kind": "loss curves",
            "version": VERSION,
            "torch": torch.__version__,
            "network": network.structure_hash(),
            "weights and images": content,
            "images": images,
            "part": part,
            "start": [start.loss, start.metric, start.count],
        }
        self._file = SampleFile(cache_folder(), "loss curves", subject)
        self._known = {_key(record["group"], record["at"]): record for record in self._file.read()}

    def find(self, group: str, widths: Sequence[int]) -> KeptCurve | None:
        """Return the curve of a group that was measured at ``widths``, or ``None``."""
        record = self._known.get(_key(group, widths))
        if record is None:
            return None
        return KeptCurve(LossCurve.read(record["curve"]), record["forward_images"], record["seconds"])

    def add(self, group: str, widths: Sequence[int], found: KeptCurve) -> None:
        """Write down the curve of a group that was measured at ``widths``."""
        if self._file is not None:
            self._file.append({"group": group, "at": list(widths), **asdict(found)})


def _key(group: str, widths: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    return group, tuple(widths)
