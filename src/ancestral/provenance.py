"""What a result depends on besides its configuration: machine, code, day."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")


def cores() -> list[int]:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _cpu_info() -> dict[str, str]:
    """Facts about the first processor, as Linux lists them."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def processor() -> dict[str, Any]:
    """Return the processor's name, the instruction sets that matter here, and its cores."""
    info = _cpu_info()
    present = set(info.get("flags", "").split())
    return {
        "model": info.get("model name") or platform.processor() or platform.machine(),
        "flags": [flag for flag in FLAGS if flag in present],
        "cores": len(cores()),
        "system": platform.system(),
    }


def device_name(device: torch.device) -> str:
    """Return the name of what computes: of a GPU, or of the processor."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return "MPS" if device.type == "mps" else str(processor()["model"])


def commit(folder: Path | None = None) -> str:
    """Return the commit of the code, with a mark if files differ from it; by default our own."""
    folder = folder or Path(__file__).parent
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head} with changes" if changed else head


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def today() -> str:
    """Return the date."""
    return datetime.now(UTC).strftime("%Y-%m-%d")
