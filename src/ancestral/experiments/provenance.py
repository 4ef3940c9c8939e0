"""Provenance of a result: processor, device, code version and date."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import torch

FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


def cores() -> list[int]:
    """Indices of the processor cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpu_info() -> dict[str, str]:
    """Fields of the first processor in ``/proc/cpuinfo``; empty on systems other than Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def processor() -> dict[str, Any]:
    """Processor model, relevant instruction sets, number of cores and operating system."""
    info = _cpu_info()
    flags = set(info.get("flags", "").split())
    return {
        "model": info.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": len(cores()),
        "system": platform.system(),
    }


def device_name(device: torch.device) -> str:
    """Name of the GPU, or of the processor for the CPU device."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return "MPS" if device.type == "mps" else str(processor()["model"])


def commit(folder: Path | None = None) -> str:
    """Git commit of a folder, marked if tracked files have changed; by default of this package.

    Returns "unknown" if git is not installed or the folder is not in a repository.
    """
    folder = folder or Path(str(resources.files("ancestral")))
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changes = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changes else head


def _git(folder: Path, *arguments: str) -> str:
    """Output of a git command."""
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def today() -> str:
    """Current date in UTC, as YYYY-MM-DD."""
    return datetime.now(UTC).strftime("%Y-%m-%d")
