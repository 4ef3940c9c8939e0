"""Marker of methods that subclasses may override."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Method = TypeVar("Method", bound=Callable)


def hook(method: Method) -> Method:
    """Mark a method whose default does nothing and which a subclass may override.

    Every other method of a base class is either abstract or final; a test checks it.

    Examples
    --------
    >>> @hook
    ... def _init_parameters(self, data): ...
    >>> is_hook(_init_parameters)
    True
    """
    method.is_hook = True  # type: ignore[attr-defined]
    return method


def is_hook(method: object) -> bool:
    """Return whether a method, or the getter of a property, is marked as a hook."""
    return getattr(getattr(method, "fget", method), "is_hook", False)
