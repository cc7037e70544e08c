from __future__ import annotations

import numpy as np
import pytest

from netadapt.models import resolve_model
from netadapt.network import trace
from netadapt.resources.designs import design
from netadapt.resources.features import MACS, NETWORK_COLUMNS, PEAK, WEIGHTS, Features, _Basis


@pytest.fixture(scope="module")
def columns(mobile):
    widths = np.concatenate([design(mobile, 12, 1), [list(mobile.widths.values())]])
    return widths, Features(mobile, 16, 0.5)(widths)


def test_the_original_network_is_one(columns):
    _, (linear, position) = columns
    known = [NETWORK_COLUMNS.index(name) for name in NETWORK_COLUMNS if not name.startswith("thin")]
    assert linear[-1, known] == pytest.approx(1)
    assert position[-1] == pytest.approx(0, abs=1e-6)


def test_macs_and_weights_follow_the_algebra(mobile, columns):
    widths, (linear, _) = columns
    assert linear[:, MACS] == pytest.approx(mobile.macs_of(widths) / mobile.macs(), rel=1e-5)
    assert linear[:, WEIGHTS] == pytest.approx(mobile.parameters_of(widths) / mobile.parameters(), rel=0.02)
    assert np.all(linear[:, PEAK] <= 1 + 1e-6)


def test_layers_of_blocks_that_are_gone_count_nowhere():
    network = trace(*resolve_model("resnet20"), prove=False, blocks=True)
    features = Features(network, 8, 0.5)
    able = [column for column, group in enumerate(network.groups) if group.block]
    assert able
    widths = np.tile(network.vector({}), (3, 1))
    widths[1, able[0]] = widths[2, able] = 0
    linear, position = features(widths)
    assert linear[:, MACS] == pytest.approx(network.macs_of(widths) / network.macs(), rel=1e-5)
    written = network.activations_of(widths)
    assert np.exp(position[:, 2]) == pytest.approx(written / written[0], rel=1e-5)
    layers = sum(layer.kind in ("conv", "linear") for layer in network.layers)
    assert linear[:, -1] == pytest.approx(1 - 2 / layers * np.array([0, 1, len(able)]))
    assert len(features.block_of_column) == linear.shape[1]
    by_layer = features.by_layer(widths[1])
    assert by_layer["layer1.0.conv2"][MACS] == 0 < by_layer["layer1.1.conv2"][MACS]


def test_widths_within_one_vector_differ_only_in_unpadded_columns(mobile):
    features = Features(mobile, 16, 0.5)
    widths = np.array([[16 * (width // 16) for width in mobile.widths.values()]])
    low = np.maximum(widths - 15, 1)
    first, second = features(widths)[0], features(low)[0]
    padded = [NETWORK_COLUMNS.index(name) for name in ("dense macs", "depthwise macs", "first macs")]
    padded += range(len(NETWORK_COLUMNS), first.shape[1] - 16)  # packings follow the exact numbers of channels
    assert first[:, padded] == pytest.approx(second[:, padded], rel=1e-6)


def test_packings_are_shares_of_the_layers_by_what_divides_their_channels():
    network = trace(*resolve_model("resnet20"), prove=False, blocks=True)
    features = Features(network, 8, 0.5)
    block = features.block_of_column
    (packings,) = (np.flatnonzero(block == b) for b in range(features.blocks) if (block == b).sum() == 16)
    inside, outside = (network.vector({"layer1.1.conv1": width}) for width in (12, 0))
    whole, by_four, gone = features(np.stack([network.vector({}), inside, outside]))[0][:, packings]
    layers = sum(layer.kind in ("conv", "linear") for layer in network.layers)
    by_one, by_4, by_16 = 0, 1, 3  # of 1, 4, 8, 16
    expected = np.zeros((4, 4))  # read, written
    expected[by_one, by_16] = 1  # the image has 3 channels
    expected[by_16, by_one] = 1  # 10 classes
    expected[by_16, by_16] = layers - 2
    assert whole * layers == pytest.approx(expected.ravel())
    expected[by_16, by_16] -= 2
    assert gone * layers == pytest.approx(expected.ravel())
    expected[by_16, by_4] = expected[by_4, by_16] = 1
    assert by_four * layers == pytest.approx(expected.ravel())


def test_every_column_has_a_block(mobile, columns):
    features = Features(mobile, 16, 0.5)
    assert len(features.block_of_column) == columns[1][0].shape[1]
    assert set(features.block_of_column) == set(range(features.blocks))


def test_identical_layers_share_their_columns():
    wide = trace(*resolve_model("resnet20"), prove=False)
    layers = [layer for layer in wide.layers if layer.kind == "conv"]
    smooth = Features(wide, 8, 0.5)
    assert len(smooth.block_of_column) < len(NETWORK_COLUMNS) + 12 * len(layers) / 2


def test_smooth_columns_are_nearly_a_radial_kernel():
    points = np.arange(33) / 32
    table = _Basis(0.6).table(32)
    assert table.T @ table == pytest.approx(np.exp(-((points[:, None] - points) ** 2) / 2 / 0.36), abs=0.01)


def test_layers_sum_to_the_network(mobile):
    features = Features(mobile, 16, 0.5)
    alone = {NETWORK_COLUMNS.index(name) for name in ("constant", "peak", "thin macs", "thin inputs", "thin outputs")}
    additive = [column for column in range(len(NETWORK_COLUMNS)) if column not in alone]
    for widths in design(mobile, 5, 4):
        parts = sum(features.by_layer(widths).values())
        assert parts[additive] == pytest.approx(features(widths[None])[0][0, additive], rel=1e-4)
        assert not parts[list(alone)].any()
