from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from netadapt.errors import ModelError
from netadapt.network import bench, trace
from netadapt.network import labels as L
from netadapt.network.bench import prepare
from netadapt.network.prove import _cut, prove
from netadapt.network.rules import RULES
from netadapt.network.structure import ChannelGroup

IMAGE = torch.randn(1, 3, 8, 8)


class Sized(nn.Module):
    """Works for one width only, which follows nothing; ``loud`` says so by an error, the other is just wrong."""

    def __init__(self, width: int, loud: bool) -> None:
        super().__init__()
        self._width, self.loud = width, loud

    def forward(self, x):
        if self.loud:
            return x.view(x.shape[0], self._width, 8, 8)
        return x * (self._width / x.shape[1])


def net(*at: int, loud: bool) -> nn.Sequential:
    parts: list[nn.Module] = [nn.Conv2d(3, 8, 1)]
    for i in range(8):
        parts += [Sized(8, loud) if i in at else nn.Identity(), nn.Conv2d(8, 8, 1)]
    return nn.Sequential(*parts)


def test_culprits_are_found_among_the_innocent():
    for loud in (True, False):
        network = trace(net(1, 5, loud=loud), IMAGE, prove=False)
        assert len(network.groups) == 8
        failures = prove(network, prepare(network)).failures
        assert set(failures) == {"2", "10"}
        assert all(("RuntimeError" if loud else "values differ") in failure.reason for failure in failures.values())
        network.prove()
        assert set(network.widths) == {"0", "4", "6", "8", "12", "14"}
        assert "removing its channels does not work" in network.pinned[0].reason
        assert ("tied to the constant 8 (self._width)" in network.pinned[0].reason) == loud
        assert network.pinned[0].where.startswith("test_prove.py:") == loud
        assert not prove(network, prepare(network)).failures


@pytest.mark.parametrize("loud", [True, False])
def test_culprits_are_found_where_a_network_is_expensive_to_run(loud, monkeypatch):
    monkeypatch.setattr(bench, "_EXPENSIVE_MACS", 0)
    network = trace(net(1, 5, loud=loud), IMAGE, prove=False)
    assert prepare(network).expensive and set(prove(network, prepare(network)).failures) == {"2", "10"}


class Places(nn.Module):
    """Silences channels by their place.

    Args:
        width: channels that it was made for.
        which: the last quarter, the first or the last of as many, or the last of those that there are.
    """

    def __init__(self, width: int, which: str) -> None:
        super().__init__()
        self._width, self._which = width, which

    def forward(self, x):
        place = torch.arange(x.shape[1])
        silent = {
            "last quarter": place >= self._width * 3 // 4,
            "first": place == 0,
            "last": place == self._width - 1,
            "last of those there are": place == x.shape[1] - 1,
        }[self._which]
        return x * (~silent).to(x)[:, None, None]


ENDS = ["last quarter", "first", "last", "last of those there are"]


@pytest.mark.parametrize("expensive_macs", [0, 1e15])
@pytest.mark.parametrize(
    ("width", "which"),
    [(w, e) for w in (16, 20, 32, 36, 40, 44, 64, 100, 256, 600) for e in ENDS] + [(8, ENDS[0]), (12, ENDS[0])],
)
def test_what_depends_on_places_is_found_however_little_is_kept(width, which, expensive_macs, monkeypatch):
    monkeypatch.setattr(bench, "_EXPENSIVE_MACS", expensive_macs)
    net = nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), Places(width, which), nn.Conv2d(width, 4, 1))
    assert trace(net, IMAGE).groups == ()


@pytest.mark.parametrize("thrifty", [False, True])
@pytest.mark.parametrize(("width", "alike"), [(2, 0.6), (3, 0.45), (4, 0.4), (5, 0.35), (8, 0.1), (16, 0.05), (64, 0)])
def test_groups_of_one_width_are_rarely_cut_alike(width, alike, thrifty):
    group = ChannelGroup("g", width, ("g",), ())
    cuts = [_cut(group, range(width), 0, number, thrifty) for number in range(40)]
    assert all(list(cut) == sorted(set(cut)) and 0 < len(cut) < width for cut in cuts)
    pairs = list(itertools.combinations(cuts, 2))
    assert sum(a == b for a, b in pairs) <= alike * len(pairs)


class Loudest(nn.Module):
    """Normalises every channel and adds the loudest of them to all; ``amax`` ignores copies."""

    def forward(self, x):
        x = x / (x * x).sum((2, 3), keepdim=True).sqrt()
        return x + x.amax(1, keepdim=True)


@pytest.mark.parametrize("expensive_macs", [0, 1e15])
def test_a_leak_through_a_maximum_of_normalised_channels_is_found(expensive_macs, monkeypatch):
    monkeypatch.setattr(bench, "_EXPENSIVE_MACS", expensive_macs)
    net = nn.Sequential(nn.Conv2d(3, 24, 3, bias=False), Loudest(), nn.Conv2d(24, 4, 1))
    monkeypatch.setitem(RULES, "amax", (lambda op: L.none(op.shape), None))
    assert trace(net, torch.randn(1, 3, 8, 8)).groups == ()


def test_zero_scales_hide_nothing():
    branch = nn.Sequential(nn.Conv2d(3, 8, 1), Sized(8, False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    nn.init.zeros_(branch[2].weight)
    nn.init.zeros_(branch[3].weight)
    assert trace(branch, IMAGE).groups == ()


def test_a_model_that_bears_no_random_weights_is_proved_with_its_own():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)
            with torch.no_grad():
                self.a.weight.mul_(1e-2)

        def forward(self, x):
            return self.b((10 * self.a(x) - 5).exp().exp())

    network = trace(Picky(), IMAGE)
    assert network.widths == {"a": 8} and network.proof.modes == ("eval", "train")
    assert "own weights only: outputs are not finite" in network.proof.notes[0]


def test_without_groups_there_is_nothing_to_prove():
    network = trace(nn.Conv2d(3, 4, 1), IMAGE)
    assert network.groups == () and network.proof.modes == ()


def test_what_works_with_two_units_but_not_with_one_has_a_minimum():
    class Squeezed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 8, 1), nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(self.b(self.a(x)).mean((2, 3), keepdim=True).squeeze())

    network = trace(Squeezed(), torch.randn(2, 3, 4, 4))
    assert [(g.name, g.minimum) for g in network.groups] == [("a", 1), ("b", 2)]
    network.shrink({"a": [5], "b": [1, 7]})
    with pytest.raises(ModelError, match="at least 2 units must stay"):
        network.shrink({"b": [1]})
