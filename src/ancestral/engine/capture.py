"""A training step on a GPU as one recorded graph of kernels: no time is lost between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only, tree_unflatten

from ancestral.engine.notices import notice

PLAIN_CALLS = 3
"""Calls before the recording: libraries choose their kernels and take their memory in these."""


class Captured:
    """A function of CUDA tensors, recorded after a few calls and replayed since.

    The first calls run as they stand; the recording itself runs nothing, so that every call counts
    once. Arguments are copied into the tensors of the recording, results out of them; the seed is
    read anew at each replay. What can't be recorded goes on as it stands, after a line that says
    why.

    Parameters
    ----------
    function : callable
        Of tensors of one shape throughout, in tuples; it may change tensors it holds in place.
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
        for kept, value in zip(self._given, tree_flatten(args)[0], strict=True):
            if isinstance(kept, Tensor):
                kept.copy_(value, non_blocking=True)
        self._graph.replay()
        return tree_map_only(Tensor, torch.clone, self._result)

    def _plainly(self, args: tuple[Any, ...]) -> Any:
        if self.calls > PLAIN_CALLS:
            return self.function(*args)
        # on a stream of its own, as what is recorded later wants it
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.function(*args)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, args: tuple[Any, ...]) -> bool:
        if self.calls > PLAIN_CALLS + 1:
            return False  # it was tried
        leaves, form = tree_flatten(args)
        self._given = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._result = self.function(*tree_unflatten(self._given, form))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            notice(f"a step is not recorded as a graph, with the same results: {reason}", warn=True)
            return False
        self._graph = graph
        return True
