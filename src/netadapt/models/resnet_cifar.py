"""The CIFAR ResNets of arXiv 1512.03385, section 4.2, with parameter-free (option A) shortcuts.

Modules carry the names of the widespread weights (``conv1``, ``layer1.0.bn2``, ``linear``), so that those load as
they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netadapt.models.layers import initialise


class ZeroPadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel, and channels of zeros before and after the input's.

    The counts of zero channels are attributes, so that surgery can lower them when it removes channels.

    Args:
        stride: spatial step.
        pad_before: zero channels put before the input's.
        pad_after: zero channels put after them.
    """

    def __init__(self, stride: int, pad_before: int, pad_after: int) -> None:
        super().__init__()
        self.stride = stride
        self.pad_before = pad_before
        self.pad_after = pad_after

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to (n, pad_before + c + pad_after, h / stride, w / stride)."""
        if torch.onnx.is_in_onnx_export():
            # runtimes add a convolution to the block's last one for nothing; a slice makes them leave their fast layout
            return F.conv2d(x, self._as_convolution(x.shape[1]), stride=self.stride)
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad_before, self.pad_after))

    def _as_convolution(self, channels: int) -> Tensor:
        """Return the weights of the 1 x 1 convolution that copies each channel to its place."""
        copied = torch.eye(int(channels))
        return F.pad(copied, (0, 0, self.pad_before, self.pad_after))[:, :, None, None]

    def extra_repr(self) -> str:
        """Show the arguments in the module's text."""
        return f"stride={self.stride}, pad_before={self.pad_before}, pad_after={self.pad_after}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        zeros = outputs - inputs
        changes = stride != 1 or zeros != 0
        self.shortcut = ZeroPadShortcut(stride, zeros // 2, zeros - zeros // 2) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y)) + self.shortcut(x)
        return F.relu(y)


class ResNetCifar(nn.Module):
    """A CIFAR ResNet.

    Args:
        depth: number of weight layers, 6 n + 2: 20, 32, 44, 56, 110.
        classes: number of outputs.
        resolution: side of the square images it is meant for; the network itself takes any.
    """

    def __init__(self, depth: int, classes: int = 10, resolution: int = 32) -> None:
        super().__init__()
        self.resolution = resolution
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1)
        self.layer2 = _stage(16, 32, blocks, 2)
        self.layer3 = _stage(32, 64, blocks, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(64, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights."""
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, h, w) to logits (n, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.linear(self.pool(x).flatten(1))
        return x


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)))


def resnet20(classes: int = 10, resolution: int = 32) -> ResNetCifar:
    """Build ResNet-20: 0.27 M parameters, 41 MMAC at 32 px."""
    return ResNetCifar(20, classes, resolution)


def resnet32(classes: int = 10, resolution: int = 32) -> ResNetCifar:
    """Build ResNet-32: 0.46 M parameters, 69 MMAC at 32 px."""
    return ResNetCifar(32, classes, resolution)


def resnet56(classes: int = 10, resolution: int = 32) -> ResNetCifar:
    """Build ResNet-56: 0.85 M parameters, 126 MMAC at 32 px."""
    return ResNetCifar(56, classes, resolution)
