"""Copies of the user's module that are exported and run in its place, and the one error if it does not run at all.

Nothing of the user's is run or changed. torch.export runs a copy on tensors without values, so that this copy may
borrow the parameters, which may be gigabytes; whoever really runs one takes a copy of its own. Called by `trace.py` and
`bench.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from netadapt.errors import ModelError
from netadapt.network.batch_norm import call
from netadapt.network.source import line_of_error
from netadapt.network.stand_in import without_hooks
from netadapt.network.surgery import deep_copied


def clean_copy(model: nn.Module, *, borrow: bool = False) -> nn.Module:
    """Return a copy in eval mode without hooks.

    Args:
        model: any module; it is not changed.
        borrow: let the copy's parameters share the memory of the model's.

    Raises:
        ModelError: the module cannot be deep-copied.
    """
    memo: dict[int, object] = {}
    for parameter in model.parameters() if borrow else ():
        if type(parameter) is nn.Parameter:
            memo[id(parameter)] = nn.Parameter(parameter.detach(), parameter.requires_grad)
    return without_hooks(deep_copied(model, memo).eval())


def tensors_in(inputs: Any) -> list[Tensor]:
    """Return the tensors of example inputs.

    Raises:
        ModelError: there is none.
    """
    tensors = [t for t in tree_leaves(inputs) if isinstance(t, Tensor)]
    if not tensors:
        raise ModelError(
            f"example_inputs holds no tensor ({type(inputs).__name__}); give a tensor, a tuple or a dict of tensors"
        )
    return tensors


def check_forward(model: nn.Module, inputs: Any) -> None:
    """Run a copy of a module on its example inputs.

    Args:
        model: is run and may change.
        inputs: with at least one tensor.

    Raises:
        ModelError: it fails; says on which shapes and where.
    """
    try:
        with torch.no_grad():
            call(model, inputs)
    except Exception as error:
        text, where = str(error).strip().splitlines(), line_of_error(error)
        shapes = [f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')} on {t.device}" for t in tensors_in(inputs)]
        raise ModelError(
            f"the model fails on the example inputs ({', '.join(shapes)}){f' at {where}' if where else ''}: "
            f"{type(error).__name__}: {text[0] if text else ''}; give inputs of the shape and type it is deployed with"
        ) from error
