"""Devices: selection, capabilities, memory of the process, and messages about them."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from ancestral.utils.random import exclusive

LOGGER = logging.getLogger("ancestral")

_logged: set[str] = set()


def log_once(text: str, *, warn: bool = False) -> None:
    """Log a message, once per process.

    Parameters
    ----------
    text : str
        Message.
    warn : bool
        Whether to log at level WARNING, which is printed to standard error by default, instead of
        INFO, which is printed only if logging is configured or after :func:`log_to_stderr`.
    """
    if text not in _logged:
        _logged.add(text)
        LOGGER.log(logging.WARNING if warn else logging.INFO, text)


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"ancestral: {record.getMessage()}", file=sys.stderr)


def log_to_stderr() -> None:
    """Print log messages on standard error; used by the command line and ``verbose=1``."""
    if not any(isinstance(handler, _StderrHandler) for handler in LOGGER.handlers):
        LOGGER.addHandler(_StderrHandler())
        LOGGER.setLevel(logging.INFO)
        LOGGER.propagate = False


def resolve_device(name: str) -> torch.device:
    """Return the torch device of a name; ``"auto"`` selects CUDA, else MPS, else the CPU.

    Under ``torchrun`` each process uses the CUDA device of its local rank. The choice of
    ``"auto"`` is logged once.

    Raises
    ------
    ValueError
        If the device does not exist or is not available.
    """
    if name == "auto":
        device = _best_device()
        log_once(f"device='auto' is {device_label(device)}")
        return device
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={name!r} can't be used here ({reason}): expected an available device; "
            "device='auto' selects one"
        ) from None


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", local % torch.cuda.device_count())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_label(device: torch.device) -> str:
    """Return a readable name of a device, with the GPU model or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return "the CPU" + f" ({threads} threads)" * (threads > 1) if device.type == "cpu" else "MPS"


def widest_float_dtype(device: torch.device | str) -> torch.dtype:
    """Return the dtype for sums: float64, or float32 on MPS, which has no float64."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def move_to(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a module to a device, with float64 tensors in the widest dtype the device supports."""
    dtype = widest_float_dtype(device)
    return module._apply(lambda t: t.to(device, dtype if t.dtype == torch.float64 else None))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device has hardware for bfloat16 matrix products.

    On GPUs this is native bfloat16 support, on CPUs AMX tiles or AVX-512 dot products.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    checks = (getattr(torch.cpu, name, lambda: False) for name in names)
    return device.type == "cpu" and any(check() for check in checks)


@contextmanager
def single_precision() -> Iterator[None]:
    """Set the default dtype to float32 inside the context and restore the user's afterwards."""
    with exclusive():
        previous = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(previous)


@contextmanager
def flush_denormals() -> Iterator[None]:
    """Flush denormal numbers to zero inside the context; arithmetic with them is slow.

    The flag applies to the process: only the command line, which owns its process, uses it.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


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
