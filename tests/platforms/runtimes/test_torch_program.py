"""Programs compute what networks do, in eager mode's own operations, and refuse what they cannot hold."""

from __future__ import annotations

import io
import json

import pytest
import torch
from safetensors.torch import load
from torch import nn
from torch.nn import functional as F

from netadapt.errors import PlatformError
from netadapt.models import resolve_model
from netadapt.platforms.on_device.engine_torch import read_program
from netadapt.platforms.runtimes.torch_program import to_program


class Odd(nn.Module):
    """Much that an argument can be: infinities, words, types, devices, lists with holes, tied and changing tensors."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.second.weight = self.first.weight
        self.register_buffer("count", torch.zeros(1))
        self.norm = nn.BatchNorm1d(7)

    def forward(self, x, chosen):
        with torch.no_grad():
            rolled = torch.roll(x, 1, 1)
        self.count += 1
        z, _ = self.attention(x, rolled, x, need_weights=False)
        top, _ = torch.topk(F.gelu(z, approximate="tanh"), 4, dim=-1)
        masked = F.softmax(F.pad(top, (1, 1), value=float("-inf")) + torch.arange(6), -1)
        quotient = torch.div(x, 2, rounding_mode="floor").to(torch.float64)
        products = torch.einsum("bij,bkj->bik", self.first(x), self.second(x))
        return {
            "a": self.norm(masked),
            "b": [x[:, chosen], quotient, chosen],
            "c": products.view(-1, 7),
            "count": self.count,
        }


def run(content, *inputs):
    with torch.no_grad():
        return read_program(io.BytesIO(content)).module(*inputs)


def program_of(content):
    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["program"])


@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2?width=0.35&resolution=64"])
def test_a_network_computes_the_same(name):
    model, example = resolve_model(name)
    inputs = torch.randn(example.shape)
    with torch.no_grad():
        expected = model.eval()(inputs)
    torch.testing.assert_close(run(to_program(model, example), inputs)[0], expected)


def test_odd_arguments_are_kept():
    torch.manual_seed(0)
    model, inputs = Odd().eval(), (torch.randn(2, 7, 16), torch.tensor([0, 2]))
    content = to_program(model, inputs)
    assert model.count == 0
    outputs = run(content, *inputs)
    with torch.no_grad():
        expected = torch.utils._pytree.tree_leaves(model(*inputs))
    torch.testing.assert_close(list(outputs), expected)


def test_tied_weights_are_stored_once():
    weights = load(to_program(Odd(), (torch.randn(2, 7, 16), torch.tensor([0, 2]))))
    assert sum(name in weights for name in ("network.first.weight", "network.second.weight")) == 1


def test_inputs_by_name():
    class Sum(nn.Module):
        def forward(self, a, *, b):
            return a + 2 * b

    first, second = torch.ones(3), torch.arange(3.0)
    torch.testing.assert_close(run(to_program(Sum(), {"a": first, "b": second}), first, second)[0], first + 2 * second)


def test_batch_norms_stay_and_assertions_go():
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))

        def forward(self, x):
            return self.layers(x).to(torch.float64)

    names = [name for name, _, _ in program_of(to_program(Network(), torch.ones(1, 3, 8, 8)))["operations"]]
    assert names == ["aten.conv2d.default", "aten.batch_norm.default", "aten.relu_.default", "aten.to.dtype"]


def test_channels_last_stays():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3, bias=False)).to(memory_format=torch.channels_last)
    example = torch.randn(1, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    program = read_program(io.BytesIO(to_program(model, example)))
    assert program.inputs[0]["channels_last"]
    assert program.module(example)[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(program.module(example)[0], model(example).detach())
    usual = read_program(io.BytesIO(to_program(model.to(memory_format=torch.contiguous_format), example.contiguous())))
    assert usual.module(example.contiguous())[0].is_contiguous()


def test_subnormal_weights_are_zero():
    model = nn.Linear(4, 4)
    nn.init.constant_(model.weight, 1e-40)
    assert not load(to_program(model, torch.ones(1, 4)))["network.weight"].any()


def test_bfloat16_works():
    content = to_program(nn.Linear(4, 4).bfloat16(), torch.ones(1, 4, dtype=torch.bfloat16))
    assert run(content, torch.ones(1, 4, dtype=torch.bfloat16))[0].dtype == torch.bfloat16


def test_an_input_that_is_overwritten_stays_the_users():
    class InPlace(nn.Module):
        def forward(self, x):
            return x.add_(1).argmax(), x

    example = torch.tensor([3.0, 1.0])
    torch.testing.assert_close(run(to_program(InPlace(), example), example.clone())[1], torch.tensor([4.0, 2.0]))
    assert example.tolist() == [3.0, 1.0]


def test_a_random_network_is_refused():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.randn(x.shape)

    with pytest.raises(PlatformError, match="random"):
        to_program(Noise(), torch.ones(8))


def test_a_foreign_operation_is_refused():
    @torch.library.custom_op("netadapt_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    twice.register_fake(torch.empty_like)

    class Foreign(nn.Module):
        def forward(self, x):
            return twice(x)

    with pytest.raises(PlatformError, match=r"netadapt_test\.twice.*choose another runtime"):
        to_program(Foreign(), torch.ones(8))
