"""Switches off torch's fused attention while a network is exported: it hides queries, keys and values.

Used by `trace.py` and by `export/`; eval mode takes the fused path wherever it can.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def without_fast_paths() -> Iterator[None]:
    """Let attention modules run their plain operations for a while, then as before."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
