from __future__ import annotations

import torch
from torch import nn

from netadapt.network import trace


def test_columns_of_an_embedding_are_units_and_its_rows_stay():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.places, self.out = nn.Embedding(11, 8), nn.Embedding(5, 8), nn.Linear(8, 3)

        def forward(self, tokens):
            x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
            return self.out(x.relu())

    network = trace(Words(), torch.arange(10).reshape(2, 5))
    assert network.widths == {"words": 8}
    assert network.group("words").layers == ("words", "places", "out")
    assert network.equals_masked({"words": [1, 2, 5]}) < 1e-10
    assert network.shrink({"words": [1, 2, 5]}).places.embedding_dim == 3


def test_picking_places_by_constants_leaves_the_units_along_other_dimensions_free():
    class Picks(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
            self.table = nn.Parameter(torch.randn(4, 8))
            self.register_buffer("rows", torch.tensor([3, 0, 2]))

        def forward(self, x):
            x = self.a(x)[:, :, self.rows].index_select(3, self.rows)
            return self.b(x + self.table[self.rows].t()[None, :, :, None])

    network = trace(Picks(), torch.randn(1, 3, 4, 4))
    assert network.widths == {"a": 8}
    assert network.equals_masked({"a": [0, 6]}) < 1e-10

    class Picked(Picks):
        def forward(self, x):
            return self.b(self.a(x)[:, self.rows.repeat(3)[:8]])

    network = trace(Picked(), torch.randn(1, 3, 4, 4))
    assert not network.groups and "picked by index" in network.pinned[0].reason
