from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from netadapt.errors import ModelError
from netadapt.models.mobilenet_v1 import MobileNetV1
from netadapt.models.registry import resolve_model
from netadapt.models.resnet_cifar import resnet20
from netadapt.models.weights import dump_weights, weights_path
from netadapt.network.batch_norm import unfold_batch_norm
from netadapt.training.classification import evaluate_images
from netadapt.training.images import IMAGENET, SYMMETRIC, Decode
from netadapt.training.sources import load_digits_pair, load_parquet


@pytest.mark.parametrize(
    ("name", "resolution", "correct"),
    [
        ("0.25_128", 128, 163),
        pytest.param("0.5_160", 160, 231, marks=pytest.mark.slow),
        pytest.param("1.0_224", 224, 249, marks=pytest.mark.slow),
    ],
)
def test_mobilenets_reach_their_reference_counts_folded_and_unfolded(netadapt_data, name, resolution, correct):
    store = load_parquet(netadapt_data / "imagenet-val-325/test.parquet", Decode(resolution, (14, 14, 213, 213)))
    model, example = resolve_model(f"mobilenet_v1?weights={netadapt_data}/weights/mobilenet_v1_{name}.safetensors")
    assert example.shape == (1, 3, resolution, resolution)
    assert round(evaluate_images(model, store, SYMMETRIC).metric * 325) == correct
    unfolded = unfold_batch_norm(model, SYMMETRIC(store.pixels))
    assert sum(isinstance(module, torch.nn.BatchNorm2d) for module in unfolded.modules()) == 27
    assert round(evaluate_images(unfolded, store, SYMMETRIC).metric * 325) == correct


def test_symmetric_padding_costs_half_of_the_accuracy(netadapt_data):
    store = load_parquet(netadapt_data / "imagenet-val-325/test.parquet", Decode(128, (14, 14, 213, 213)))
    file = netadapt_data / "weights/mobilenet_v1_0.25_128.safetensors"
    model, _ = resolve_model(f"mobilenet_v1?same_padding=0&weights={file}")
    assert evaluate_images(model, store, SYMMETRIC).metric * 325 < 0.65 * 163


@pytest.mark.slow
@pytest.mark.parametrize(("name", "correct"), [("resnet20", 4578), ("resnet56", 4643)])
def test_resnets_reach_their_reference_counts(netadapt_data, name, correct):
    store = load_parquet(netadapt_data / "cifar10/test.parquet", Decode())
    model, _ = resolve_model(f"{name}?weights={netadapt_data}/weights/{name}_cifar10.safetensors")
    assert round(evaluate_images(model, store, IMAGENET).metric * 5000) == correct


def test_resnet20_is_right_on_a_part_of_its_reference(netadapt_data):
    store = load_parquet(netadapt_data / "cifar10/test.parquet", Decode())
    model, _ = resolve_model(f"resnet20?weights={netadapt_data}/weights/resnet20_cifar10.safetensors")
    score = evaluate_images(model, store, IMAGENET, torch.arange(1000))
    assert score.metric > 0.89
    assert score.count == 1000


@pytest.mark.parametrize("name", ["resnet32", "resnet56"])
def test_the_other_resnets_load(netadapt_data, name):
    model, example = resolve_model(f"{name}?weights={netadapt_data}/weights/{name}_cifar10.safetensors")
    assert torch.isfinite(model(example)).all()


def test_a_stored_network_comes_back_within_the_rounding_of_int8(tmp_path):
    torch.manual_seed(1)
    model = MobileNetV1(0.25, 32, 7).eval()
    file = tmp_path / "w.safetensors"
    file.write_bytes(dump_weights(model, "mobilenet_v1", {"width": 0.25, "resolution": 32, "classes": 7}))
    loaded, example = resolve_model(f"mobilenet_v1?weights={file}")
    assert example.shape == (1, 3, 32, 32)
    for (name, one), other in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        if one.ndim > 1:
            step = one.flatten(1).abs().amax(1) / 127
            assert ((one - other).flatten(1).abs().amax(1) <= 0.51 * step).all(), name
        else:
            assert torch.equal(one, other), name


def test_a_plain_state_dict_loads(tmp_path):
    model = resnet20()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    loaded, _ = resolve_model(f"resnet20?weights={tmp_path}/w.safetensors")
    assert torch.equal(loaded.linear.weight, model.linear.weight)


def test_the_embedded_digits_network_is_trained_and_small():
    model, example = resolve_model("mobilenet_v1?width=0.75&resolution=96&classes=10&weights=digits")
    assert example.shape == (1, 3, 96, 96)
    _, test = load_digits_pair(Decode(96))
    assert evaluate_images(model, test, SYMMETRIC).metric > 0.97
    assert weights_path("digits").stat().st_size < 2e6


def refused(text, message):
    with pytest.raises(ModelError, match=message):
        resolve_model(text)


def test_a_missing_file_lists_the_weights_that_come_along():
    refused("resnet20?weights=no/such", "weights=no/such: no such file .*; weights that come with netadapt: digits")


def test_a_pickle_is_refused(tmp_path):
    torch.save(resnet20().state_dict(), tmp_path / "w.pth")
    refused(f"resnet20?weights={tmp_path}/w.pth", "w.pth is not a readable safetensors file")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    model = resnet20()
    model.linear.bias.data[0] = float("nan")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    refused(f"resnet20?weights={tmp_path}/w.safetensors", '"linear.bias" has values that are not finite')


def test_weights_of_another_shape_are_refused(tmp_path):
    save_file(resnet20(classes=7).state_dict(), tmp_path / "w.safetensors")
    message = (
        "does not fit this ResNetCifar: shapes: linear.weight is \\(7, 64\\) in the file, \\(10, 64\\) in the network"
    )
    refused(f"resnet20?weights={tmp_path}/w.safetensors", message)


def test_weights_with_other_names_are_refused(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    message = (
        r"missing in the file: conv1.weight, bn1.weight, bn1.bias, ... \(\d+\); unknown to the network: conv.weight"
    )
    refused(f"resnet20?weights={tmp_path}/w.safetensors", message)


def test_weights_of_another_network_are_refused(tmp_path):
    save_file(resnet20().state_dict(), tmp_path / "w.safetensors", {"architecture": "CIFAR ResNet-20, option-A"})
    refused(f"resnet56?weights={tmp_path}/w.safetensors", r"holds a resnet20, not a resnet56: write resnet20\?weights=")


def test_arguments_that_contradict_the_file_are_refused():
    message = r"contradicts digits.safetensors, which was made for .*; for another number of classes leave classes= out"
    refused("mobilenet_v1?classes=7&weights=digits", message)


def test_a_broken_google_file_is_refused(tmp_path):
    metadata = {"architecture": "mobilenet_v1_0.25", "classes": "1001", "resolution": "128"}
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", metadata)
    refused(f"mobilenet_v1?weights={tmp_path}/w.safetensors", 'the metadata has no "layers"')
