"""Rows in memory: minibatches, sampling, preprocessing, and types of columns.

The public names are loaded on first use, so that importing the package loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ancestral.data.batch import Batch
    from ancestral.data.device_data import DeviceData

_HOME = {
    "Batch": "batch",
    "DeviceData": "device_data",
}

__all__ = [
    "Batch",
    "DeviceData",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
