"""Blocks of rows of an array, for passes in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK_BYTES = 1 << 24


def row_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield consecutive blocks of rows of about 16 MB, so that a memory map stays on disk."""
    if array.size == 0:
        return
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]
