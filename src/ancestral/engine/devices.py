"""Devices and what they can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ancestral.engine.notices import notice


def resolve_device(name: str) -> torch.device:
    """Return the device that ``name`` stands for; ``"auto"`` takes CUDA, else MPS, else the CPU.

    Under ``torchrun`` every process takes the CUDA device of its local rank. What ``"auto"`` chose
    is said once.

    Raises
    ------
    ValueError
        If there is no such device here.
    """
    if name == "auto":
        device = _best_device()
        notice(f"device='auto' is {describe(device)}")
        return device
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={name!r} can't be used here ({reason}); device='auto' picks one that can"
        ) from None


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        return torch.device("cuda", local % torch.cuda.device_count())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def describe(device: torch.device) -> str:
    """Name a device as a person would."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return "the CPU" + f" ({threads} threads)" * (threads > 1) if device.type == "cpu" else "MPS"


def widest(device: torch.device | str) -> torch.dtype:
    """Return the dtype for sums: double precision, which MPS alone does not know."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def moved(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a module, its double-precision buffers in the widest dtype the device knows."""
    widest_here = widest(device)
    return module._apply(lambda t: t.to(device, widest_here if t.dtype == torch.float64 else None))


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrix products have hardware of their own.

    GPUs' cores, and on CPUs the tiles of AMX or the dot products of AVX-512.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    asked = (getattr(torch.cpu, name, lambda: False) for name in known)
    return device.type == "cpu" and any(ask() for ask in asked)


@contextmanager
def single_precision() -> Iterator[None]:
    """Make modules in float32 inside, whatever the user's default dtype, which is given back."""
    theirs = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(theirs)


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Take numbers too small for full precision as zero inside: they cost time and change nothing.

    A setting of the whole process: for the command line, which owns its process, alone.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
