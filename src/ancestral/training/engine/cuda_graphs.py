"""CUDA graphs of training steps: one launch per step, without idle time between kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from ancestral.training.engine.devices import log_once

WARMUP_CALLS = 3
"""Calls before the capture, in which libraries select kernels and allocate memory."""


class CUDAGraphFunction:
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
        self._static_inputs: list[Any] = []
        self._static_outputs: Any = None

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        self.calls += 1
        if self.calls <= WARMUP_CALLS or (self._graph is None and not self._capture(args)):
            return self._call_eagerly(args)
        assert self._graph is not None
        for static_input, value in zip(self._static_inputs, tree_flatten(args)[0], strict=True):
            if isinstance(static_input, Tensor):
                static_input.copy_(value, non_blocking=True)
        self._graph.replay()
        return tree_map_only(Tensor, torch.clone, self._static_outputs)

    def _call_eagerly(self, args: tuple[Any, ...]) -> Any:
        if self.calls > WARMUP_CALLS:
            return self.function(*args)
        # CUDA graphs require warm-up calls on a side stream
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.function(*args)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _capture(self, args: tuple[Any, ...]) -> bool:
        if self.calls > WARMUP_CALLS + 1:
            return False  # an earlier capture failed
        leaves, tree_spec = tree_flatten(args)
        self._static_inputs = [
            leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves
        ]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._static_outputs = self.function(
                    *tree_unflatten(self._static_inputs, tree_spec)
                )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            log_once(
                f"the CUDA graph of a training step could not be captured ({reason}); the step "
                "runs without it: slower, with the same results",
                warn=True,
            )
            return False
        self._graph = graph
        return True
