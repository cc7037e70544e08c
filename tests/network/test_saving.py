from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from netadapt.errors import ModelError
from netadapt.network import load, register_attribute_fixer, save, trace
from netadapt.network.batch_norm import call


@pytest.fixture
def saved(network_of, tmp_path):
    """(network, shrunk module, folder) of an option-A ResNet."""
    network = network_of("resnet_a")
    small = network.shrink({g.name: range(0, g.width, 3) for g in network.groups})
    save(small, network, tmp_path, {"latency_ms": 1.5})
    return network, small, tmp_path


def test_loading_rebuilds_the_same_network(family, random_kept, tmp_path):
    network = family.network
    small = network.shrink(random_kept(network, 11))
    save(small, network, tmp_path)
    fresh = family.build()
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    again = load(tmp_path, fresh).eval()
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())
    with torch.no_grad():
        for a, b in zip(
            *(torch.utils._pytree.tree_leaves(call(m, network.example_inputs)) for m in (small, again)), strict=True
        ):
            assert torch.equal(a, b)
    assert network.kept_of(again) == network.kept_of(small)
    network.verify_shrink(again, {n: k[:1] for n, k in network.kept_of(again).items()})


def test_the_folder_loads_without_netadapt(saved):
    folder = saved[2]
    code = f"""
import sys, torch
sys.modules["netadapt"] = None
sys.path.insert(0, {str(folder)!r})
from torch import nn
from load import load
net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
print(load(net)(torch.ones(1, 3, 8, 8)).sum().item())
"""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    plain = trace(model, torch.ones(1, 3, 8, 8))
    cut = plain.shrink({"0": [1, 4]})
    save(cut, plain, folder)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(float(cut(torch.ones(1, 3, 8, 8)).sum().detach()), rel=1e-6)


def test_the_whole_original_can_be_saved(network_of, tmp_path):
    network = network_of("vgg")
    save(network.model, network, tmp_path / "new" / "folder")
    plan = json.loads((tmp_path / "new/folder/architecture.json").read_text())
    assert plan["tensors"] == {} and plan["kept"] == {}
    assert network.kept_of(load(tmp_path / "new/folder", network.model)) == network.kept_of(network.model)


def test_metadata_is_kept_and_must_be_json(saved):
    network, small, folder = saved
    assert json.loads((folder / "architecture.json").read_text())["metadata"] == {"latency_ms": 1.5}
    for bad in ({"a": object()}, {"a": float("nan")}):
        with pytest.raises(ModelError, match="metadata cannot be written"):
            save(small, network, folder, bad)


def test_non_finite_weights_are_not_saved(network_of, tmp_path):
    network = network_of("vgg")
    small = network.shrink({})
    next(small.parameters()).data.fill_(float("inf"))
    with pytest.raises(ModelError, match="NaN or infinite"):
        save(small, network, tmp_path)
    assert not list(tmp_path.iterdir())


def edit(folder, change) -> None:
    path = folder / "architecture.json"
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))


TENSOR = "body.0.0.weight"
DAMAGE = {
    "unknown key": (lambda p: p.update(code="import os"), "code"),
    "missing key": (lambda p: p.pop("kept"), "kept"),
    "newer format": (lambda p: p.update(format=2), "format"),
    "another file": (lambda p: p["weights"].update(file="../../secret.safetensors"), "weights.file"),
    "unknown tensor": (lambda p: p["tensors"].update(nothing=p["tensors"][TENSOR]), "no parameter or buffer 'nothing'"),
    "another shape": (lambda p: p["tensors"][TENSOR].update(shape=[9, 3, 3, 3]), "cut from"),
    "index out of range": (lambda p: p["tensors"][TENSOR]["keep"].update({"0": [0, 99]}), "ascending within 0..7"),
    "index negative": (lambda p: p["tensors"][TENSOR]["keep"].update({"0": [-1]}), "greater than or equal to 0"),
    "index twice": (lambda p: p["tensors"][TENSOR]["keep"].update({"0": [1, 1]}), "ascending"),
    "index as text": (lambda p: p["tensors"][TENSOR]["keep"].update({"0": ["1"]}), "integer"),
    "huge index": (lambda p: p["tensors"][TENSOR]["keep"].update({"0": [2**40]}), "less than"),
    "nothing kept": (lambda p: p["tensors"][TENSOR]["keep"].update({"0": []}), "ascending"),
    "bad axis": (lambda p: p["tensors"][TENSOR]["keep"].update({"9": [0]}), "axis '9'"),
    "odd axis": (lambda p: p["tensors"][TENSOR]["keep"].update({"-1": [0]}), "axis '-1'"),
    "forbidden attribute": (lambda p: p["attributes"]["body.0.0"].update(training=1), "no size of Conv2d"),
    "forbidden method": (lambda p: p["attributes"]["body.0.0"].update(forward=1), "no size of Conv2d"),
    "attribute of another type": (lambda p: p["attributes"]["body.0.0"].update(groups=[1]), "no size of Conv2d"),
    "attribute as text": (lambda p: p["attributes"]["body.0.0"].update(groups="1"), "integer"),
    "unknown module": (lambda p: p["attributes"].update({"x.y": {"groups": 1}}), "no module 'x.y'"),
    "other cut": (lambda p: p["tensors"].pop(TENSOR), "the network needs"),
    "other digest": (lambda p: p["weights"].update(sha256="0" * 64), "SHA-256"),
    "no digest": (lambda p: p["weights"].update(sha256="../x"), "weights.sha256"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_or_hostile_architectures_are_refused(saved, case):
    network, _, folder = saved
    change, says = DAMAGE[case]
    edit(folder, change)
    with pytest.raises(ModelError) as caught:
        load(folder, network.model)
    assert says in str(caught.value)


def test_damaged_or_hostile_weights_are_refused(saved):
    network, _, folder = saved
    path = folder / "weights.safetensors"
    good = path.read_bytes()
    path.write_bytes(good[:-8])
    with pytest.raises(ModelError, match="SHA-256"):
        load(folder, network.model)
    path.unlink()
    with pytest.raises(ModelError, match="is missing"):
        load(folder, network.model)
    (folder / "elsewhere").write_bytes(good)
    path.symlink_to(folder / "elsewhere")
    with pytest.raises(ModelError, match="is a link"):
        load(folder, network.model)
    with pytest.raises(ModelError, match="is missing"):
        load(folder / "nowhere", network.model)
    (folder / "architecture.json").write_text("{")
    with pytest.raises(ModelError, match="no architecture"):
        load(folder, network.model)


def test_weights_that_are_not_finite_or_not_safetensors_are_refused(saved):
    import hashlib

    import safetensors.torch

    network, small, folder = saved
    state = {k: v.clone() for k, v in small.state_dict().items()}
    state["fc.bias"][0] = float("nan")
    bad = [(safetensors.torch.save(state), "NaN or infinite"), (b"\x80\x04N.", "not a safetensors file")]
    state.pop("fc.bias")
    bad.append((safetensors.torch.save(state), "lacks 'fc.bias'"))
    state |= {"fc.bias": torch.zeros(5), "more": torch.zeros(1)}
    bad.append((safetensors.torch.save(state), "has 'more'"))
    for data, says in bad:
        (folder / "weights.safetensors").write_bytes(data)
        edit(folder, lambda p, d=data: p["weights"].update(sha256=hashlib.sha256(d).hexdigest()))
        with pytest.raises(ModelError, match=says):
            load(folder, network.model)


def test_a_huge_architecture_is_not_read(saved):
    network, _, folder = saved
    with (folder / "architecture.json").open("r+b") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(ModelError, match="more than any network needs"):
        load(folder, network.model)


def test_another_model_is_refused(saved, network_of):
    with pytest.raises(ModelError, match=r"no parameter or buffer|cut from"):
        load(saved[2], network_of("vgg").model)


class Reshaping(nn.Module):
    """A user's module with a size of its own, which is private and therefore follows nothing by itself."""

    def __init__(self, dim: int = 6) -> None:
        super().__init__()
        self._dim = dim
        self.conv, self.fc = nn.Conv2d(3, dim, 1), nn.Linear(dim * 4, 2)

    def forward(self, x):
        return self.fc(self.conv(x).view(-1, self._dim * 4))


def test_a_registered_fixer_frees_a_users_module(tmp_path):
    image = torch.randn(1, 3, 2, 2)
    assert trace(Reshaping(), image).widths == {}
    register_attribute_fixer(
        Reshaping, lambda change: {"_dim": change.module.conv.weight.shape[0]}, attributes=("_dim",)
    )
    network = trace(Reshaping(), image)
    assert network.widths == {"conv": 6}
    small = network.shrink({"conv": [0, 5]})
    save(small, network, tmp_path)
    assert load(tmp_path, Reshaping())._dim == small._dim == 2
