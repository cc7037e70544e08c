from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from netadapt.network.structure import Layer, LinearForm
from netadapt.resources.layer_cells import Cell, Shape, axis_points, shapes_of


def _form(constant, *coefficients):
    return LinearForm(constant, np.array(coefficients, dtype=np.int64))


def _layer(kind, inputs, outputs, fan_in, size=(8, 8)):
    flat = kind == "linear"
    kernel, stride = ((1, 1), (1, 1)) if flat else ((3, 3), (1, 1))
    space = (1, 1) if flat else size
    return Layer("x", kind, "linear" if flat else "conv2d", kernel, stride, space, space, 1, inputs, outputs, fan_in)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(1, 3), st.integers(7, 20), st.integers(0, 2))
def test_convolutions_have_the_wanted_output_size(kernel, stride, size, padding):
    if size + 2 * padding < kernel:
        return
    wanted = (size + 2 * padding - kernel) // stride + 1
    cell = Cell(False, (kernel, kernel), (stride, stride), (size, size), (wanted, wanted), 2, 4, 6, 2)
    module, example = cell.build()
    with torch.no_grad():
        assert module(example).shape == (2, 6, wanted, wanted)
    assert abs(example.shape[-1] - size) <= max(2, 2 * padding)


def test_building_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    Cell(True, (1, 1), (1, 1), (1, 1), (1, 1), 3, 8, 4, 1).build()
    assert torch.equal(state, torch.get_rng_state())


@given(st.integers(1, 2000), st.integers(2, 6))
def test_grids_end_at_the_original(count, grid):
    points = axis_points(count, grid)
    assert points[-1] == count and points[0] == min(8, count) and len(points) <= grid + 1
    assert np.all(np.diff(points) > 0) and np.all(points[:-1] % 8 == 0)


def test_interpolation_is_exact_for_products_within_the_grid():
    layer = _layer("conv", _form(0, 1, 0), _form(0, 0, 1), _form(0, 1, 0))
    shape = Shape([layer, layer], (64, 96), 4)
    table = np.array([3.0 + 2 * cell.inputs + cell.inputs * cell.outputs for cell in shape.cells()])
    widths = np.array([[8, 8], [13, 50], [64, 96], [40, 41]])
    expected = 3 + 2 * widths[:, 0] + widths[:, 0] * widths[:, 1]
    assert shape.interpolate(table, widths) == pytest.approx(2 * expected)
    assert shape.interpolate(table, np.array([[1, 1]])) == pytest.approx(shape.interpolate(table, np.array([[8, 8]])))


def test_depthwise_layers_lie_on_a_line():
    layer = _layer("depthwise", _form(0, 1), _form(0, 1), _form(1, 0))
    cells = Shape([layer], (96, 96), 4).cells()
    assert all(cell.inputs == cell.outputs == cell.groups for cell in cells) and cells[-1].outputs == 96
    assert all(cell.build()[0](cell.build()[1]).shape[1] == cell.outputs for cell in cells)


@pytest.mark.parametrize("whole", [True, False])
def test_grouped_layers_keep_their_groups_whole(whole):
    counts = _form(0, 4)
    layer = _layer("grouped", counts, counts, _form(4, 0) if whole else _form(0, 1))
    cells = Shape([layer], (32, 32), 4).cells()
    assert cells[-1].outputs == 32 and cells[-1].groups == (8 if whole else 4)
    for cell in cells:
        assert cell.build()[0](cell.build()[1]).shape[1] == cell.outputs
        assert cell.inputs // cell.groups == 4 if whole else cell.groups == 4


def test_equal_layers_share_a_table_and_others_are_named(mobile):
    original = np.array([group.width for group in mobile.groups])
    shapes, others = shapes_of(mobile.layers, original, 3)
    assert not others
    assert max(len(shape.layers) for shape in shapes) == 5  # five blocks of MobileNetV1 are equal
    with_macs = [layer for layer in mobile.layers if np.any(layer.fan_in.coefficients) or layer.fan_in.constant]
    assert sum(len(shape.layers) for shape in shapes) == len(with_macs)
    strange = _layer("other", _form(0, 1), _form(0, 1), _form(0, 1))
    assert shapes_of([strange], original[:1], 3) == ([], [strange])
