"""A copy of a module that borrows its parameters' memory, and a watch that nothing writes to them.

`trace.py` runs and exports a copy, so that nothing of the user's is changed. Of the parameters, which may be gigabytes,
a second copy is only needed if a forward pass writes to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from netadapt.network.surgery import deep_copied


class Written(Exception):
    """An operator was about to write to memory that is watched."""


class Watch(TorchDispatchMode):
    """Let no operator write to some tensors, nor to what shares their memory.

    Args:
        tensors: what is watched.

    Attributes:
        written: something tried to; `Written` was raised, which whoever called the operator may have caught.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.written = False
        self._storages = {_storage(tensor) for tensor in _tensors(list(tensors))}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator unless it writes to what is watched."""
        options = dict(kwargs or {})
        if func._schema.is_mutable:
            for index, argument in enumerate(func._schema.arguments):
                value = args[index] if index < len(args) else options.get(argument.name)
                if argument.is_write and any(_storage(t) in self._storages for t in _tensors(value)):
                    self.written = True
                    raise Written(f"{func} writes to a parameter")
        return func(*args, **options)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor) and leaf.layout == torch.strided]


def _storage(tensor: Tensor) -> int:
    identity: int = tensor.untyped_storage()._cdata
    return identity


def clean_copy(model: nn.Module, *, borrow: bool) -> nn.Module:
    """Return a copy in eval mode.

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
    return deep_copied(model, memo).eval()
