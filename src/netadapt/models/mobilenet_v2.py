"""MobileNetV2 (arXiv 1801.04381): inverted residuals with linear bottlenecks, width and resolution multipliers.

Layers are named after what they are: ``stem``, ``blocks.3.expand``, ``.depthwise``, ``.project``, ``head``,
``classifier``; each convolution has a slot ``*_norm`` beside it.
"""

from __future__ import annotations

from torch import Tensor, nn

from netadapt.models.layers import initialise, norm_of, padding_of, scaled_width

# (expansion, channels out, repeats, stride of the first): table 2 of the paper
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project back without activation; a residual where the shapes agree.

    Args:
        inputs: channels in.
        outputs: channels out.
        stride: of the depthwise convolution.
        expansion: hidden channels per input channel; 1 leaves out the expanding convolution.
        same_padding: TensorFlow's padding instead of a symmetric one.
        batch_norm: false builds convolutions with a bias and empty norm slots.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, same_padding: bool, batch_norm: bool
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        bias = not batch_norm
        self.expands = expansion != 1
        if self.expands:
            self.expand = nn.Conv2d(inputs, hidden, 1, bias=bias)
            self.expand_norm = norm_of(hidden, batch_norm)
        self.pad, padding = padding_of(3, stride, same_padding)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding, groups=hidden, bias=bias)
        self.depthwise_norm = norm_of(hidden, batch_norm)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=bias)
        self.project_norm = norm_of(outputs, batch_norm)
        self.activation = nn.ReLU6()
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y: Tensor = self.activation(self.expand_norm(self.expand(x))) if self.expands else x
        y = self.activation(self.depthwise_norm(self.depthwise(self.pad(y))))
        y = self.project_norm(self.project(y))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2.

    Args:
        width: multiplies all channel counts, which are rounded to multiples of 8 (the head's only above 1).
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
        channels = scaled_width(32, width)
        self.pad, padding = padding_of(3, stem_stride, same_padding)
        self.stem = nn.Conv2d(3, channels, 3, stem_stride, padding, bias=not batch_norm)
        self.stem_norm = norm_of(channels, batch_norm)
        self.activation = nn.ReLU6()
        blocks: list[nn.Module] = []
        for expansion, base, repeats, first_stride in STAGES:
            outputs = scaled_width(base, width)
            for index in range(repeats):
                stride = first_stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, stride, expansion, same_padding, batch_norm))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        last = scaled_width(1280, max(1.0, width))
        self.head = nn.Conv2d(channels, last, 1, bias=not batch_norm)
        self.head_norm = norm_of(last, batch_norm)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(last, classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights."""
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (n, 3, h, w) to logits (n, classes)."""
        x = self.activation(self.stem_norm(self.stem(self.pad(x))))
        x = self.blocks(x)
        x = self.activation(self.head_norm(self.head(x)))
        x = self.classifier(self.pool(x).flatten(1))
        return x
