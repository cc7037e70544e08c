"""Small layers that the networks of this package share: TensorFlow's SAME padding, the rounding of widths, weights.

Called by `mobilenet_v1.py` and `mobilenet_v2.py`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def scaled_width(channels: int, width: float, multiple: int = 8) -> int:
    """Return ``channels * width`` rounded to a multiple, never below it nor more than 10 % under the exact value.

    Args:
        channels: of the network at width 1.
        width: the multiplier, above 0.
        multiple: what the result is a multiple of.
    """
    exact = channels * width
    rounded = max(multiple, int(exact + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * exact else rounded


class SamePad(nn.Module):
    """TensorFlow's SAME padding before a strided convolution: on even sizes 0 before and 1 after at stride 2, kernel 3.

    Args:
        kernel: side of the convolution's kernel.
        stride: of the convolution.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Pad the two spatial axes of ``x`` (n, c, h, w) with zeros."""
        # plain integers: an exporter's own would be divided by rounding towards zero, wrong at odd sizes
        top, bottom = self._sides(int(x.shape[-2]))
        left, right = self._sides(int(x.shape[-1]))
        return F.pad(x, (left, right, top, bottom))

    def _sides(self, size: int) -> tuple[int, int]:
        outputs = -(-size // self.stride)
        total = max((outputs - 1) * self.stride + self.kernel - size, 0)
        return total // 2, total - total // 2

    def extra_repr(self) -> str:
        """Show the arguments in the module's text."""
        return f"kernel={self.kernel}, stride={self.stride}"


def padding_of(kernel: int, stride: int, same_padding: bool) -> tuple[nn.Module, int]:
    """Return the module to put before a convolution and the convolution's own symmetric padding.

    SAME padding at stride 1 is symmetric for odd kernels, so that the convolution does it itself, without a copy.
    """
    if same_padding and stride > 1:
        return SamePad(kernel, stride), 0
    return nn.Identity(), kernel // 2


def norm_of(channels: int, batch_norm: bool) -> nn.Module:
    """Return a batch norm, or the empty slot of one that has been folded into the convolution before it."""
    return nn.BatchNorm2d(channels) if batch_norm else nn.Identity()


def initialise(model: nn.Module) -> None:
    """Draw fresh weights: He for convolutions, a narrow normal for linear layers, zero biases."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
