"""MobileNetV1 (arXiv 1704.04861) with its two multipliers, width and resolution.

Layers are named after what they are: ``stem``, ``blocks.3.depthwise``, ``blocks.3.pointwise``, ``classifier``; each
convolution has a slot ``*_norm`` beside it, empty where the batch norm is folded into the convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from netadapt.models.layers import initialise, norm_of, padding_of, scaled_width

# (channels out, stride) of the 13 depthwise-separable blocks: table 1 of the paper
BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


class SeparableBlock(nn.Module):
    """A depthwise 3x3 convolution and a pointwise one, each with norm and ReLU6.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the depthwise convolution.
        same_padding: TensorFlow's padding instead of a symmetric one.
        batch_norm: false builds convolutions with a bias and empty norm slots.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, same_padding: bool, batch_norm: bool) -> None:
        super().__init__()
        self.pad, padding = padding_of(3, stride, same_padding)
        self.depthwise = nn.Conv2d(inputs, inputs, 3, stride, padding, groups=inputs, bias=not batch_norm)
        self.depthwise_norm = norm_of(inputs, batch_norm)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=not batch_norm)
        self.pointwise_norm = norm_of(outputs, batch_norm)
        self.activation = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        x = self.activation(self.depthwise_norm(self.depthwise(self.pad(x))))
        x = self.activation(self.pointwise_norm(self.pointwise(x)))
        return x


class MobileNetV1(nn.Module):
    """MobileNetV1.

    Args:
        width: multiplies all channel counts, which are rounded to multiples of 8.
        resolution: side of the square images it is meant for; the network itself takes any.
        classes: number of outputs.
        same_padding: TensorFlow's padding, as in Google's weights.
        batch_norm: false builds it with the batch norms folded into convolution biases.
        stem_stride: of the first convolution; 1 keeps small images, such as CIFAR's, from shrinking to one pixel.
    """

    def __init__(
        self,
        width: float = 1.0,
        resolution: int = 224,
        classes: int = 1000,
        same_padding: bool = False,
        batch_norm: bool = True,
        stem_stride: int = 2,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        channels = [scaled_width(outputs, width) for outputs in (32, *(outputs for outputs, _ in BLOCKS))]
        self.pad, padding = padding_of(3, stem_stride, same_padding)
        self.stem = nn.Conv2d(3, channels[0], 3, stem_stride, padding, bias=not batch_norm)
        self.stem_norm = norm_of(channels[0], batch_norm)
        self.activation = nn.ReLU6()
        self.blocks = nn.Sequential(
            *(
                SeparableBlock(inputs, outputs, stride, same_padding, batch_norm)
                for inputs, outputs, (_, stride) in zip(channels, channels[1:], BLOCKS, strict=False)
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels[-1], classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights."""
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, h, w) to logits (n, classes)."""
        x = self.activation(self.stem_norm(self.stem(self.pad(x))))
        x = self.pool(self.blocks(x)).flatten(1)
        x = self.classifier(x)
        return x
