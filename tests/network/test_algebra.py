from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from netadapt.network.batch_norm import call

SEEDS = st.integers(0, 2**31)


def examples(count):
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def counted_macs(module, inputs) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call(module, inputs)
    return counter.get_total_flops() // 2


def check(network, kept):
    small = network.shrink(kept)
    widths = network.widths_of(small)
    assert network.macs(widths) == counted_macs(small, network.example_inputs)
    assert network.parameters(widths) == sum(p.numel() for p in small.parameters())


@examples(3)
@given(seed=SEEDS)
def test_counts_equal_those_of_the_shrunk_network(family, random_kept, seed):
    check(family.network, random_kept(family.network, seed))


@pytest.mark.slow
@examples(100)
@given(seed=SEEDS)
def test_counts_equal_those_of_the_shrunk_network_many(family, random_kept, seed):
    check(family.network, random_kept(family.network, seed))


def test_vectorised_counts_equal_single_ones(family):
    network = family.network
    rng = np.random.default_rng(0)
    vectors = np.array([[rng.integers(1, g.width + 1) for g in network.groups] for _ in range(20)])
    forms = network.forms
    for vector, macs, parameters, written in zip(
        vectors, network.macs_of(vectors), network.parameters_of(vectors), network.activations_of(vectors), strict=True
    ):
        widths = network.mapping(vector)
        assert (network.macs(widths), network.parameters(widths)) == (macs, parameters)
        assert macs == sum(int(layer.macs(vector[None])[0]) for layer in network.layers)
        places = [np.prod(x.output_size) * x.batch for x in network.layers]
        assert written == int(sum(x.outputs(vector) * n for x, n in zip(network.layers, places, strict=True)))
        assert np.array_equal(forms.inputs(vector[None].astype(float))[0], [x.inputs(vector) for x in network.layers])


def test_layer_outputs_are_the_shapes_of_the_shrunk_network(network_of):
    network = network_of("mobilenet_v2")
    small = network.shrink({g.name: range(0, g.width, 3) for g in network.groups})
    vector = network.vector(network.widths_of(small))
    seen = {}
    for name, part in small.named_modules():
        part.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.shape}))
    small(network.example_inputs)
    for layer in network.layers:
        if layer.name in seen:
            assert int(layer.outputs(vector)) == seen[layer.name][1]


def test_layers_are_named_and_classified(network_of):
    layers = {layer.name: layer for layer in network_of("mobilenet_v3").layers}
    assert layers["body.1.depthwise.0"].kind == "depthwise"
    assert layers["body.1.depthwise.0"].stride == (1, 1)
    assert layers["body.1.add"].kind == "elementwise"
    assert layers["body.0.0"].output_size == (8, 8)
    assert layers["fc"].kind == "linear"
    assert {x.name for x in network_of("shared").layers} >= {"body.twice", "body.twice#2"}
    assert next(x for x in network_of("shuffle").layers if x.name == "body.grouped.0").kind == "grouped"
