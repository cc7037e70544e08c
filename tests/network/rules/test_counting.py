"""Products that no rule follows cost what torch counts."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netadapt.network import trace

TOKENS = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


class Ends(nn.Module):
    def __init__(self, function, width: int = 6) -> None:
        super().__init__()
        self.function, self.first, self.last = function, nn.Linear(6, 6), nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.function(self.first(x)))


CASES = {
    "grams": (lambda x: torch.matmul(torch.matmul(x, x.mT).softmax(-1), x), 2 * 2 * 5 * 5 * 6),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), 2 * 2 * 5 * 5 * 6),
    "heads": (
        lambda x: F.scaled_dot_product_attention(*[x.unflatten(2, (2, 3)).mT] * 3).mT.flatten(2),
        2 * 2 * 5 * 9 * 2,
    ),
    "einsum": (lambda x: torch.einsum("nac,nbc,nbd->nad", x, x, x), 2 * 2 * 5 * 5 * 6),
    "computed kernel": (lambda x: F.conv1d(x, x.new_ones(5, 5, 3), padding=1), 2 * 5 * 6 * 5 * 3),
    "overlapping": (lambda x: F.conv_transpose1d(x, x.new_ones(5, 2, 3), stride=2)[:, :, :6], 2 * 5 * 6 * 2 * 3),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_pinned_counts(case):
    function, macs = CASES[case]
    network = trace(Ends(function), TOKENS)
    rows = 2 * (2 if case == "overlapping" else 5)
    assert network.macs() == 2 * 5 * 6 * 6 + macs + rows * 6 * 3
