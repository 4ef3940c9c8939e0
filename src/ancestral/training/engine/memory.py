"""Memory allocator settings during training."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameter numbers of glibc's ``mallopt``: M_TRIM_THRESHOLD and M_MMAP_THRESHOLD."""

TRAINING_TRIM_BYTES, DEFAULT_TRIM_BYTES, MMAP_BYTES = 2**30, 2**26, 2**25
"""Bytes: trim threshold during training, trim threshold afterwards, threshold for mmap."""


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Retain freed memory in the C library inside the context and release it afterwards.

    By default glibc returns free memory beyond a limit, and large blocks at once, to the operating
    system; each reallocation then causes page faults, which slow down small steps. Without glibc
    the context does nothing.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, MMAP_BYTES)
    libc.mallopt(M_TRIM_THRESHOLD, TRAINING_TRIM_BYTES)
    try:
        yield
    finally:
        libc.mallopt(M_TRIM_THRESHOLD, DEFAULT_TRIM_BYTES)
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
