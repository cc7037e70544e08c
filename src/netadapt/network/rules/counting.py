"""What products cost that no rule could follow: their multiply-accumulates as torch counts them, from shapes alone.

`apply_rule` asks for every contraction or unknown operation whose rule recorded nothing, so that pinned layers count.
"""

from __future__ import annotations

import logging
import math

from torch import fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from netadapt.network.labels import none
from netadapt.network.operation import Operation, footprint

logger = logging.getLogger("netadapt")

PRODUCTS = """
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear matmul mm bmm addmm addbmm
    baddbmm mv addmv dot inner einsum tensordot scaled_dot_product_attention
"""


def is_product(op: Operation) -> bool:
    """Tell whether the operation multiplies and accumulates."""
    return op.name in PRODUCTS.split()


def count_call(op: Operation) -> None:
    """Record the multiply-accumulates of a call as a layer whose sizes no group changes."""
    macs = _macs(op.node)
    if not macs or not op.shape:
        return
    channels, batch, size = footprint(none(op.shape))
    per_output, left = divmod(macs, math.prod(op.shape))
    if left:  # e.g. a transposed convolution with overlapping kernels: not alike for all places
        per_output, channels, batch, size = macs, channels[:1], 1, (1, 1)
    op.cost("other", none((1,)), none(channels.shape), fan_in=none((per_output,)), output_size=size, batch=batch)


def _macs(node: fx.Node) -> int:
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta.get("val"))
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # it counts no fused attention
            node.target(*args, **kwargs)  # type: ignore[operator]
    except Exception:  # an operation that cannot run on shapes: it stays uncounted
        logger.debug("cannot count %s", node.target, exc_info=True)
        return 0
    return int(counter.get_total_flops()) // 2
