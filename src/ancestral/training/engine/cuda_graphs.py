"""CUDA graphs of training steps: one launch per step, without idle time between kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from ancestral.training.engine.messages import notice

PLAIN_CALLS = 3
"""Calls before the capture, in which libraries select kernels and allocate memory."""


class Captured:
    """Function of CUDA tensors, captured as a CUDA graph after a few calls and then replayed.

    The first calls run eagerly. The capture itself executes nothing, so each call takes effect
    once. Arguments are copied into the static inputs of the graph and results are cloned from its
    static outputs; each replay uses the current seed. A function that can't be captured continues
    to run eagerly, after one warning with the reason.

    Parameters
    ----------
    function : callable
        Function of (nested tuples of) tensors whose shapes do not change between calls; it may
        change tensors that it holds in place.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: list[Any] = []
        self._result: Any = None

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        self.calls += 1
        if self.calls <= PLAIN_CALLS or (self._graph is None and not self._record(args)):
            return self._plainly(args)
        assert self._graph is not None
        for static_input, value in zip(self._given, tree_flatten(args)[0], strict=True):
            if isinstance(static_input, Tensor):
                static_input.copy_(value, non_blocking=True)
        self._graph.replay()
        return tree_map_only(Tensor, torch.clone, self._result)

    def _plainly(self, args: tuple[Any, ...]) -> Any:
        if self.calls > PLAIN_CALLS:
            return self.function(*args)
        # CUDA graphs require warm-up calls on a side stream
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.function(*args)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, args: tuple[Any, ...]) -> bool:
        if self.calls > PLAIN_CALLS + 1:
            return False  # an earlier capture failed
        leaves, tree_spec = tree_flatten(args)
        self._given = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._result = self.function(*tree_unflatten(self._given, tree_spec))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            notice(
                f"the CUDA graph of a training step could not be captured ({reason}); the step "
                "runs without it: slower, with the same results",
                warn=True,
            )
            return False
        self._graph = graph
        return True
