"""Loss curves on disk, shared between runs: what was measured for one budget serves all others.

A file in the cache (`resources/samples.py` tells its form) for each network with its weights, images to re-fit on and
score on the selection split; one record per group. Used by `losses.py` where filters are chosen by re-fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from netadapt.baselines.one_shot import LossCurve
from netadapt.files import cache_folder
from netadapt.network import Network
from netadapt.resources.samples import Record, SampleFile
from netadapt.training.task import Score

#: to be raised whenever re-fit, choice of filters, surgery, refreshed statistics or `loss_curve` give other losses
VERSION = 1
_PLAIN = (bool, int, float, str, bytes)


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
        inputs: calibration inputs of the re-fit, as the network is fed them; ``None`` keeps nothing, as do inputs that
            hold anything but tensors and plain values: other runs' curves would not be known to be of the same.
        images: how many of them the re-fit uses.
        start: of the network on the selection split; it stands for the images of that split, which a task of the
            user's own need not show. A loss that is a rounded accuracy may not tell two splits apart.

    Raises:
        UsageError: the file exists but is of another format.
    """

    def __init__(self, network: Network, inputs: Sequence[Any] | None, images: int, start: Score) -> None:
        self._file: SampleFile | None = None
        self._known: dict[tuple[str, tuple[int, ...]], Record] = {}
        calibration = None if inputs is None else digest_of(inputs)
        if calibration is None:
            return
        subject = {
            "kind": "loss curves",
            "version": VERSION,
            "torch": torch.__version__,
            "network": network.structure_hash(),
            "weights": digest_of(network.model.state_dict()),
            "calibration": [calibration, images],
            "start": [start.loss, start.metric, start.count],
        }
        self._file = SampleFile(cache_folder(), "loss curves", subject)
        self._known = {_key(record["group"], record["at"]): record for record in self._file.read()}

    def find(self, group: str, widths: Sequence[int]) -> KeptCurve | None:
        """Return the curve of a group that was measured at ``widths``, or ``None``."""
        record = self._known.get(_key(group, widths))
        if record is None:
            return None
        curve = LossCurve(tuple(record["curve"]["widths"]), tuple(record["curve"]["losses"]))
        return KeptCurve(curve, record["forward_images"], record["seconds"])

    def add(self, group: str, widths: Sequence[int], found: KeptCurve) -> None:
        """Write down the curve of a group that was measured at ``widths``."""
        if self._file is not None:
            self._file.append({"group": group, "at": list(widths), **asdict(found)})


def digest_of(values: Any) -> str | None:
    """Return the SHA-256 of nested containers of tensors and plain values, in hex; ``None`` if they hold others."""
    digest = hashlib.sha256()
    for path, value in pytree.tree_leaves_with_path(values):
        digest.update(f"{pytree.keystr(path)}:".encode())
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif value is None or isinstance(value, _PLAIN):
            digest.update(repr(value).encode())
        else:
            return None
    return digest.hexdigest()


def _key(group: str, widths: Sequence[int]) -> tuple[str, tuple[int, ...]]:
    return group, tuple(widths)
