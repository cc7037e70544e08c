from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netadapt.models.layers import SamePad, scaled_width


@given(size=st.integers(3, 65), stride=st.integers(1, 3), kernel=st.sampled_from([1, 3, 5]))
def test_same_padding_gives_tensorflows_output_size_and_puts_the_odd_zero_at_the_end(size, stride, kernel):
    padded = SamePad(kernel, stride)(torch.ones(1, 1, size, size))
    outputs = (padded.shape[-1] - kernel) // stride + 1
    assert outputs == -(-size // stride)
    before = int(padded[0, 0].amax(1).nonzero()[0])
    assert before == (padded.shape[-1] - size) // 2


def test_same_padding_at_stride_2_on_even_sizes_is_0_before_1_after():
    padded = SamePad(3, 2)(torch.ones(1, 1, 8, 8))[0, 0]
    assert padded.shape == (9, 9)
    assert padded[0].sum() == 8
    assert padded[8].sum() == 0


@pytest.mark.parametrize(
    ("channels", "width", "expected"),
    # 0.35 and 0.75 are rows of the official MobileNetV2 code's rounding
    [(32, 1.0, 32), (32, 0.25, 8), (32, 0.35, 16), (24, 0.5, 16), (24, 0.35, 8), (96, 0.35, 32), (32, 0.0001, 8)],
)
def test_widths_round_to_multiples_of_8_and_never_10_percent_down(channels, width, expected):
    assert scaled_width(channels, width) == expected


@given(channels=st.integers(8, 2048), width=st.floats(0.05, 4))
def test_scaled_width_keeps_its_promises(channels, width):
    scaled = scaled_width(channels, width)
    assert scaled % 8 == 0
    assert scaled >= max(8, 0.9 * channels * width - 1e-9)
