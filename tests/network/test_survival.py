"""A shrunk network stays the user's class: trains, saves its state, compiles, exports, is copied and loaded."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import cache

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from netadapt.models import resolve_model
from netadapt.network import Network, load, save, trace
from netadapt.network.batch_norm import call


class Transformer(nn.Module):
    """Patches, one encoder layer of torch's own, mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layer(self.patches(x).flatten(2).transpose(1, 2)).mean(1))
        return logits


@cache
def transformer() -> Network:
    torch.manual_seed(3)
    return trace(Transformer().eval(), torch.randn(1, 3, 16, 16))


# own models of netadapt as users name them, and families of conftest: squeeze and excite, zero-padded shortcuts,
# keyword inputs with a dictionary of outputs, concatenation with transposed convolution, channel shuffle
SMALL = ["mobilenet_v2", "mobilenet_v3", "resnet_a", "signal", "branches", "shuffle"]
REAL = ["mobilenet_v2?width=0.25&resolution=64&classes=10", "resnet20", "mobilenet_v1?width=0.25&resolution=64"]


def halves(network) -> nn.Module:
    kept = {g.name: range(0, g.width, 2) for g in network.groups}
    return network.shrink(kept)


@pytest.fixture(params=[*SMALL, "transformer", *(pytest.param(name, marks=pytest.mark.slow) for name in REAL)])
def case(request, network_of) -> tuple[object, nn.Module]:
    """A network and what it was shrunk to."""
    if request.param == "transformer":
        network = transformer()
    else:
        network = network_of(request.param) if request.param in SMALL else trace(*resolve_model(request.param))
    return network, halves(network)


def outputs(module: Callable[..., object], inputs: object) -> list[Tensor]:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own
        return [t for t in tree_leaves(call(module, inputs)) if isinstance(t, Tensor)]


def same(one: list[Tensor], other: list[Tensor], tolerance: float = 1e-5) -> bool:
    return len(one) == len(other) and all(
        torch.allclose(a, b, atol=tolerance, rtol=1e-4) for a, b in zip(one, other, strict=True)
    )


def test_it_is_the_users_class_and_smaller(case):
    network, small = case
    assert type(small) is type(network.model) and small is not network.model
    count = sum(p.numel() for p in small.parameters())
    assert count == network.parameters(network.widths_of(small)) < network.parameters()


def test_it_trains_and_comes_back_to_eval(case):
    network, small = case
    inputs = tree_map(lambda t: torch.cat([t, t + 0.1]), network.example_inputs)
    before = outputs(small.eval(), inputs)
    small.train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.01, momentum=0.9)
    for _ in range(2):
        optimizer.zero_grad()
        sum(t.square().mean() for t in tree_leaves(call(small, inputs))).backward()
        assert all(p.grad is None or p.grad.shape == p.shape for p in small.parameters())
        optimizer.step()
    after = outputs(small.eval(), inputs)
    assert all(bool(torch.isfinite(t).all()) for t in after) and not same(before, after)
    assert not any(part.training for part in small.modules())


def test_its_state_goes_round_and_copies_are_their_own(case):
    network, small = case
    small.eval()
    expected = outputs(small, network.example_inputs)
    blank = copy.deepcopy(small)
    with torch.no_grad():
        for tensor in blank.state_dict().values():
            tensor.zero_()
    assert same(outputs(small, network.example_inputs), expected)  # the copy shares nothing
    state = safetensors.torch.save({name: tensor.clone() for name, tensor in small.state_dict().items()})
    blank.load_state_dict(safetensors.torch.load(state))
    assert same(outputs(blank, network.example_inputs), expected, 0)
    assert network.widths_of(copy.deepcopy(small)) == network.widths_of(small)


def test_it_loads_into_a_fresh_instance(case, tmp_path):
    network, small = case
    save(small.eval(), network, tmp_path)
    other = load(tmp_path, copy.deepcopy(network.model))
    assert same(outputs(other.eval(), network.example_inputs), outputs(small, network.example_inputs), 0)


def test_it_exports_with_torch_export(case):
    network, small = case
    inputs, small = network.example_inputs, small.eval()
    args, kwargs = ((), dict(inputs)) if isinstance(inputs, Mapping) else ((inputs,), {})
    program = torch.export.export(small, args, kwargs)
    assert same(outputs(program.module(), inputs), outputs(small, inputs))


def test_it_compiles(case):
    network, small = case
    small.eval()
    torch.compiler.reset()
    compiled = torch.compile(small, backend="aot_eager", fullgraph=True)
    assert same(outputs(compiled, network.example_inputs), outputs(small, network.example_inputs))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's compiler imports what torch deprecates
def test_it_compiles_with_the_default_compiler(case):
    network, small = case
    small.eval()
    torch.compiler.reset()
    compiled = torch.compile(small)
    assert same(outputs(compiled, network.example_inputs), outputs(small, network.example_inputs), 1e-4)


@pytest.mark.slow
def test_it_exports_to_onnx(case, tmp_path):
    import onnxruntime

    network, small = case
    inputs, small = network.example_inputs, small.eval()
    args, kwargs = ((), dict(inputs)) if isinstance(inputs, Mapping) else ((inputs,), None)
    path = tmp_path / "small.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(small, args, path, kwargs=kwargs, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {i.name: t.numpy() for i, t in zip(session.get_inputs(), tree_leaves(inputs), strict=True)}
    got = [torch.from_numpy(value) for value in session.run(None, feeds)]
    assert same(got, outputs(small, inputs), 1e-4)
