from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from netadapt.network import trace
from netadapt.network.bench import prepare
from netadapt.network.followers import concerned, rehearse
from netadapt.network.prove import Failure
from netadapt.network.reads import Watching
from netadapt.network.structure import LinearForm


class Headed(nn.Module):
    """Looks at one of two attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
        self.width = self.unused = 8

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).reshape(x.shape[0], self.width, 4, 4))


def test_it_is_noted_what_forward_looks_at():
    bench = prepare(trace(Headed(), torch.randn(1, 3, 4, 4), prove=False))
    watching = Watching(**vars(bench), parts=["", "first"])
    got = watching.outputs(bench.model, "eval")
    assert torch.equal(got[0], bench.outputs(bench.model, "eval")[0])
    assert {(Headed, "width"), (nn.Conv2d, "stride")} <= watching.seen and (Headed, "unused") not in watching.seen
    assert type(bench.model) is Headed and type(bench.model.first) is nn.Conv2d


def test_what_a_failure_did_not_look_at_is_not_tried_again():
    form, tried = LinearForm(0, np.array([1])), []

    def failure(name, choice):
        tried.append(dict(choice))
        return Failure("does not work"), {(Headed, "width")}

    options = {"": {("width", 0): [form], ("unused", 0): [form]}}
    choice, failures = rehearse(options, ["first"], Headed(), failure)
    assert [trial[Headed, ("width", 0)] for trial in tried] == [0, None]
    assert not choice and failures == {"first": Failure("does not work")}
    assert concerned(options, 0) == [""] and not concerned({"": {("width", 0): [LinearForm(8, np.array([0]))]}}, 0)
