"""Several processes that train one model: who they are, and what each keeps of a batch.

Under ``torchrun`` every process runs the same program on the same data with the same seed. Inside
a training step each takes its share of the batch; noise is drawn for the whole batch and sliced,
so that the processes together do what one alone would.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed


class World(NamedTuple):
    """Which process this is, of how many."""

    rank: int = 0
    size: int = 1


ALONE = World()
_splitting = ALONE


def join(device: torch.device) -> World:
    """Meet the other processes that ``torchrun`` started, if it did; return who we are."""
    asked = int(os.environ.get("WORLD_SIZE", "1"))
    if asked > 1 and distributed.is_available() and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return world()


def world() -> World:
    """Return which process this is, of how many."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return ALONE
    return World(distributed.get_rank(), distributed.get_world_size())


def is_main() -> bool:
    """Whether this process is the one that writes files."""
    return world().rank == 0 and int(os.environ.get("RANK", "0")) == 0


@contextmanager
def splitting(who: World) -> Iterator[None]:
    """Let every process work on its share of a batch inside."""
    global _splitting
    _splitting = who
    try:
        yield
    finally:
        _splitting = ALONE


def n_shares() -> int:
    """Return how many shares a batch has here and now: 1 unless it is being split."""
    return _splitting.size


def share(whole: Tensor, axis: int = 0) -> Tensor:
    """Return this process's rows of what was drawn or taken for the whole batch."""
    if _splitting.size == 1:
        return whole
    n = whole.shape[axis] // _splitting.size
    return whole.narrow(axis, _splitting.rank * n, n)


def mean(value: Tensor) -> Tensor:
    """Average over the shares of a batch, differentiably; alone, the value itself."""
    if _splitting.size == 1:
        return value
    return _SumOverProcesses.apply(value) / _splitting.size


class _SumOverProcesses(torch.autograd.Function):
    """A sum that everyone's loss depends on: its gradient is the sum of everyone's."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *outer: Tensor) -> Tensor:
        return _SumOverProcesses.forward(None, outer[0])


def mean_(value: Tensor, who: World) -> None:
    """Average over the processes, in place."""
    distributed.all_reduce(value)
    value /= who.size
