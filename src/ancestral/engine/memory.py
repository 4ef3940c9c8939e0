"""Memory that one step gives back and the next one wants again."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of glibc's limits, as its ``mallopt`` knows them."""

MOST_KEPT, KEPT_AFTERWARDS, LARGEST_BLOCK = 2**30, 2**26, 2**25


@contextmanager
def memory_kept() -> Iterator[None]:
    """Let the C library keep free memory for the next step inside, and give it back afterwards.

    glibc returns free memory at the end of its heap to the system beyond a limit, and large blocks
    at once; wanted again, every page of it is paid for anew, and small steps feel it. Elsewhere
    nothing is done.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(MMAP_THRESHOLD, LARGEST_BLOCK)
    libc.mallopt(TRIM_THRESHOLD, MOST_KEPT)
    try:
        yield
    finally:
        libc.mallopt(TRIM_THRESHOLD, KEPT_AFTERWARDS)
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
