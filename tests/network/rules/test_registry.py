"""A user's own operation and own module: registered in a few lines, cut, saved and loaded elsewhere."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import netadapt
from netadapt.errors import UsageError
from netadapt.network import attributes, save
from netadapt.network.rules import RULES

NETS = '''
"""Needs torch only: two operations of our own, and a module that keeps a size in an attribute."""

import torch
from torch import Tensor, nn


@torch.library.custom_op("netadapttests::relu", mutates_args=())
def gate(x: Tensor, by: Tensor, scale: Tensor) -> Tensor:
    return x * by.sigmoid() * scale[:, None, None]


@gate.register_fake
def _(x: Tensor, by: Tensor, scale: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("netadapttests::mix", mutates_args=())
def mix(x: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nchw,cd->ndhw", x, weight)


@mix.register_fake
def _(x: Tensor, weight: Tensor) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1], *x.shape[2:])


class Tokens(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self._dim = dim
        self.project = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x).view(-1, self._dim, 36).transpose(1, 2)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 12, 3), nn.Conv2d(3, 12, 3)
        self.scale = nn.Parameter(torch.rand(12))
        self.weight = nn.Parameter(torch.rand(12, 10))
        self.tokens = Tokens(10)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.ops.netadapttests.relu(self.left(x), self.right(x), self.scale)
        return self.head(self.tokens(torch.ops.netadapttests.mix(x, self.weight)).mean(1))
'''

RULES_OF_USER = '''
"""What netadapt must be told about nets.py; import it before `netadapt.adapt` and `netadapt.load`."""

import netadapt
import nets


@netadapt.register_rule("netadapttests::relu", kind="elementwise")
def gate(op):
    x = op.labels("x")
    op.tie(x, op.labels("by"))  # element by element: what meets goes together
    op.tie(x, op.labels("scale")[:, None, None])
    return x


@netadapt.register_rule("netadapttests::mix")
def mix(op):
    x, weight = op.labels("x"), op.value("weight")
    inputs, outputs = op.axis(weight, 0, "input"), op.axis(weight, 1, "output")
    op.tie(inputs[:, None, None], x)  # what is summed over
    op.cost("conv", inputs, outputs, fan_in=inputs, kernel=(1, 1), stride=(1, 1), output_size=op.shape[2:])
    return outputs[:, None, None].expand(op.shape)


netadapt.register_attribute_fixer(
    nets.Tokens, lambda change: {"_dim": change.module.project.weight.shape[0]}, attributes=["_dim"]
)
'''

IMAGE = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = loaded
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """``nets.py`` and ``rules.py`` as a user has them; what they register is forgotten afterwards."""
    made = tmp_path_factory.mktemp("user")
    (made / "nets.py").write_text(NETS)
    (made / "rules.py").write_text(RULES_OF_USER)
    known = dict(RULES), dict(attributes._REGISTRY)
    module(made / "nets.py")
    yield made
    for table, before in zip((RULES, attributes._REGISTRY), known, strict=True):
        table.clear()
        table.update(before)
    for name in ("nets", "rules"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def told(folder: Path) -> netadapt.Network:
    """The network traced after netadapt was told how; the tests before saw it without."""
    module(folder / "rules.py")
    torch.manual_seed(0)
    return netadapt.trace(sys.modules["nets"].Net(), IMAGE)


def test_without_rules_and_fixers_everything_is_pinned_with_the_reason(folder):
    network = netadapt.trace(sys.modules["nets"].Net(), IMAGE)
    assert not network.groups
    reasons = {pin.layer: pin for pin in network.pinned}
    assert reasons["left"].reason == "its channels reach netadapttests::relu, an operation without a rule"
    assert reasons["left"].where.startswith("nets.py:")


def test_with_them_it_is_adaptable_and_exact(told):
    assert told.widths == {"left": 12, "weight": 10, "tokens.project": 10}
    assert {"left", "right"} <= set(told.group("left").layers)
    kept = {"left": [0, 5, 11], "weight": [1, 2], "tokens.project": [0, 3, 4, 9]}
    assert told.equals_masked(kept) < 1e-10
    small = told.shrink(kept)
    assert small.tokens._dim == 4 and small.scale.shape == (3,)
    widths = told.widths_of(small)
    assert told.parameters(widths) == sum(p.numel() for p in small.parameters())
    assert told.macs(widths) == 36 * (3 * 3 * 9 * 2 + 3 * 2 + 2 * 4) + 4 * 4


WITH_NETADAPT = """
import sys, torch
sys.path.insert(0, {user!r})
import nets
from netadapt import NetAdaptError, load
try:
    load({saved!r}, nets.Net())
except NetAdaptError as error:
    print(error)
import rules
print(load({saved!r}, nets.Net())(torch.ones(1, 3, 8, 8)).tolist())
"""

ALONE = """
import sys, torch
sys.path[:0] = [{user!r}, {saved!r}]
import nets
from load import load
print(load(nets.Net())(torch.ones(1, 3, 8, 8)).tolist())
assert "netadapt" not in sys.modules
"""


def run(code: str, user: Path, saved: Path) -> list[str]:
    code = code.format(user=str(user), saved=str(saved))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()


def test_it_loads_in_another_process_with_and_without_netadapt(told, folder, tmp_path):
    small = told.shrink({"left": [0, 5, 11], "weight": [1, 2], "tokens.project": [0, 3, 4, 9]})
    save(small, told, tmp_path)
    expected = small(torch.ones(1, 3, 8, 8)).tolist()
    refusal, outputs = run(WITH_NETADAPT, folder, tmp_path)
    assert "tokens._dim" in refusal and "netadapt.register_attribute_fixer" in refusal
    assert "load.py in that folder needs no fixer" in refusal
    assert json.loads(outputs) == expected
    (outputs,) = run(ALONE, folder, tmp_path)
    assert json.loads(outputs) == expected


def test_names_that_no_operation_has_are_refused():
    for name in ("a b", "lib::op.default", "", "torch.ops.lib.op"):
        with pytest.raises(UsageError, match="without its overload"):
            netadapt.register_rule(name)
