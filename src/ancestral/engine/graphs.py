"""A training step as one graph: compiled where it can be, run as it stands where not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch.distributions import Distribution

from ancestral.engine.capture import Captured
from ancestral.engine.notices import notice


class Graph:
    """A function of tensors, compiled as one graph at its first call.

    Forward pass, backward pass and optimiser then share their loops over memory. Noise is drawn by
    the same kernels as uncompiled, from the same stream. What can't be compiled runs as it stands,
    after a line that says why.

    Parameters
    ----------
    function : callable
        May change tensors it holds in place, and call ``torch.autograd.grad``.
    compiled : bool
        Whether to compile at all.
    captured : bool
        Whether to record the kernels of a call, compiled or not, on a GPU, and replay them.
    """

    def __init__(
        self, function: Callable[..., Any], *, compiled: bool, captured: bool = False
    ) -> None:
        self.function = function
        self._compiled = _compile(function) if compiled else None
        self._call = Captured(self._once) if captured else self._once

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._call(*args)

    def _once(self, *args: Any) -> Any:
        if self._compiled is None:
            return self.function(*args)
        try:
            with _traced():
                return self._compiled(*args)
        except Exception as error:
            if not type(error).__module__.startswith("torch._"):
                raise
            reason = _reason(error)
        # nothing has run yet; an error that is not the compiler's comes back here
        result = self.function(*args)
        self._compiled = None
        notice(f"a step runs uncompiled, slower, with the same results: {reason}", warn=True)
        return result


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    how: dict[str, Any] = {
        "fullgraph": True,
        "dynamic": False,
        "options": {"fallback_random": True, "guard_filter_fn": _guards_kept},
    }
    if "isolate_recompiles" in signature(torch.compile).parameters:  # torch 2.11 has none
        how["isolate_recompiles"] = True  # graphs of earlier fits are not looked through
    with _switches_kept():
        return torch.compile(function, **how)


STRUCTURE = {
    "BUILTIN_MATCH",
    "CLASS_MATCH",
    "EMPTY_NN_MODULE_HOOKS_DICT",
    "MODULE_MATCH",
    "NOT_PRESENT_IN_GENERIC_DICT",
    "TYPE_MATCH",
}
"""What a graph need not look at anew before every call: the make of the program, which training
does not change. Numbers, shapes and switches are looked at."""


def _guards_kept(guards: Sequence[Any]) -> list[bool]:
    return [guard.guard_type not in STRUCTURE for guard in guards]


@contextmanager
def _traced() -> Iterator[None]:
    with _switches_kept(), torch._dynamo.config.patch(trace_autograd_ops=True):
        yield


@contextmanager
def _switches_kept() -> Iterator[None]:
    """Undo that torch's compiler turns the user's validation of distributions off for good."""
    theirs = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(theirs)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
