"""Names of operations as runtimes give them, and the layers that they are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from netadapt.explain.naming import Names, owners
from netadapt.models import resolve_model
from netadapt.network import trace


@pytest.fixture(scope="module")
def mobile():
    return trace(*resolve_model("mobilenet_v1?width=0.25&resolution=64"), prove=False).layers


@pytest.mark.parametrize(
    ("operation", "layer"),
    [
        ("/network/stem/Conv", "stem"),
        ("/network/activation/Clip_output_0_nchwc", "stem"),
        ("/network/blocks/blocks.3/depthwise/Conv", "blocks.3.depthwise"),
        ("/network/blocks/blocks.3/activation/Clip_output_0_nchwc", "blocks.3.depthwise"),
        ("/network/blocks/blocks.3/activation_1/Clip_output_0_nchwc", "blocks.3.pointwise"),
        ("/network/blocks/blocks.12/pointwise_norm/BatchNormalization_output_0", "blocks.12.pointwise"),
        ("/network/blocks/blocks.3/pointwise/Conv/WithoutBiases", "blocks.3.pointwise"),
        ("/network/pool/GlobalAveragePool", "pool"),
        ("/network/classifier/Gemm", "classifier"),
        ("/network/Flatten", None),
        ("ReorderInput_token_8", None),
        ("", None),
    ],
)
def test_modules(mobile, operation, layer):
    assert Names(mobile)(operation) == layer


@pytest.mark.parametrize(
    ("operation", "layer"),
    [
        ("/network/Relu_output_0_nchwc", "first"),
        ("/network/Relu_1", "second"),
        ("/network/third/Conv_output_0_nchwc", "third"),
        ("/network/Softmax", "softmax"),
    ],
)
def test_functions(network, operation, layer):
    assert Names(network.layers)(operation) == layer


def test_a_network_that_is_a_container_itself():
    layers = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)), torch.zeros(1, 3, 8, 8)).layers
    names = Names(layers)
    assert names("/network/network.0/Conv") == names("/network/network.1/Relu_output_0_nchwc") == "0"
    assert names("/network/network.2/Conv") == "2"


def test_every_operation_of_a_real_file_finds_its_layer(tmp_path):
    import onnx

    from netadapt.platforms import resolve_platform

    model, example = resolve_model("resnet20")
    network = trace(model, example, prove=False)
    platform = resolve_platform("onnxruntime")
    artifact = platform.compile(model, example, tmp_path)
    platform.close()
    names = Names(network.layers)
    contractions = [node for node in onnx.load(artifact.path).graph.node if node.op_type in ("Conv", "Gemm")]
    found = [names(node.name) for node in contractions]
    assert None not in found
    assert {layer.name for layer in network.layers if layer.kind in ("conv", "linear")} <= set(found)


def test_norms_and_activations_go_with_what_comes_before(mobile):
    owner = owners(mobile)
    assert owner["stem_norm"] == owner["activation"] == "stem"
    assert owner["blocks.0.activation#2"] == "blocks.0.pointwise"
    assert owner["pool"] == "pool"
