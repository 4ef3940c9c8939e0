"""Compilation of training steps as one graph, with eager execution as the fallback."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch.distributions import Distribution

from ancestral.training.engine.cuda_graphs import CUDAGraphFunction
from ancestral.training.engine.messages import log_once


class CompiledFunction:
    """Function of tensors, compiled as one graph at its first call.

    One graph lets the compiler fuse forward pass, backward pass and optimiser. Noise is drawn by
    the same kernels and from the same stream as in eager execution. A function that can't be
    compiled runs eagerly, after one warning with the reason.

    Parameters
    ----------
    function : callable
        Function to compile; it may change tensors that it holds in place and call
        ``torch.autograd.grad``.
    compiled : bool
        Whether to compile.
    cuda_graph : bool
        Whether to capture the kernels of a call, compiled or eager, as a CUDA graph.
    """

    def __init__(
        self, function: Callable[..., Any], *, compiled: bool, cuda_graph: bool = False
    ) -> None:
        self.function = function
        self._compiled = _compile(function) if compiled else None
        self._call = CUDAGraphFunction(self._call_compiled) if cuda_graph else self._call_compiled

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        return self._call(*args)

    def _call_compiled(self, *args: Any) -> Any:
        if self._compiled is None:
            return self.function(*args)
        try:
            with _trace_autograd():
                return self._compiled(*args)
        except Exception as error:
            if not type(error).__module__.startswith("torch._"):
                raise
            reason = _reason(error)
        # nothing has been executed yet; an error of the function itself is raised again here
        result = self.function(*args)
        self._compiled = None
        log_once(
            f"a training step could not be compiled ({reason}); it runs uncompiled: slower, with "
            "the same results",
            warn=True,
        )
        return result


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    kwargs: dict[str, Any] = {
        "fullgraph": True,
        "dynamic": False,
        "options": {"fallback_random": True, "guard_filter_fn": _guard_filter},
    }
    if "isolate_recompiles" in signature(torch.compile).parameters:  # torch 2.11 has none
        kwargs["isolate_recompiles"] = True  # do not check the guards of earlier fits' graphs
    with _preserve_validate_args():
        return torch.compile(function, **kwargs)


SKIPPED_GUARDS = {
    "BUILTIN_MATCH",
    "CLASS_MATCH",
    "EMPTY_NN_MODULE_HOOKS_DICT",
    "MODULE_MATCH",
    "NOT_PRESENT_IN_GENERIC_DICT",
    "TYPE_MATCH",
}
"""Guard types omitted from the checks before each call: program structure, which training does not
change. Guards on numbers, shapes and flags remain."""


def _guard_filter(guards: Sequence[Any]) -> list[bool]:
    return [guard.guard_type not in SKIPPED_GUARDS for guard in guards]


@contextmanager
def _trace_autograd() -> Iterator[None]:
    with _preserve_validate_args(), torch._dynamo.config.patch(trace_autograd_ops=True):
        yield


@contextmanager
def _preserve_validate_args() -> Iterator[None]:
    """Restore the default of ``Distribution`` validation, which torch's compiler turns off."""
    previous = Distribution._validate_args
    try:
        yield
    finally:
        Distribution.set_default_validate_args(previous)


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
