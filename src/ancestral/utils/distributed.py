"""Data-parallel training: process group, shards of a batch, averages over processes.

Under ``torchrun`` each process runs the same program on the same data with the same seed. In a
training step each process uses its shard of the batch. Noise is drawn for the full batch and then
sliced, so that the result equals that of one process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed


class World(NamedTuple):
    """Rank of this process and number of processes."""

    rank: int = 0
    size: int = 1


SINGLE_PROCESS = World()

_active_shard = SINGLE_PROCESS


def init_process_group(device: torch.device) -> World:
    """Initialise the process group under ``torchrun``; return rank and number of processes."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and distributed.is_available() and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return world()


def world() -> World:
    """Return the rank of this process and the number of processes."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return SINGLE_PROCESS
    return World(distributed.get_rank(), distributed.get_world_size())


def is_main() -> bool:
    """Whether this is the main process (rank 0), the one that writes files."""
    return world().rank == 0 and int(os.environ.get("RANK", "0")) == 0


@contextmanager
def sharded_batch(world: World) -> Iterator[None]:
    """Split batches among the processes inside the context."""
    global _active_shard
    _active_shard = world
    try:
        yield
    finally:
        _active_shard = SINGLE_PROCESS


def n_shards() -> int:
    """Return the current number of shards of a batch: 1 outside :func:`sharded_batch`."""
    return _active_shard.size


def local_shard(tensor: Tensor, axis: int = 0) -> Tensor:
    """Return this process's shard of a tensor of the full batch.

    Parameters
    ----------
    tensor : Tensor
        Tensor of the full batch, equal in all processes.
    axis : int
        Axis of the samples; its length must be a multiple of the number of shards.
    """
    if _active_shard.size == 1:
        return tensor
    n = tensor.shape[axis] // _active_shard.size
    return tensor.narrow(axis, _active_shard.rank * n, n)


def all_reduce_mean(value: Tensor) -> Tensor:
    """Average over the shards of a batch, differentiably; without shards, return ``value``."""
    if _active_shard.size == 1:
        return value
    return _AllReduceSum.apply(value) / _active_shard.size


class _AllReduceSum(torch.autograd.Function):
    """Differentiable all-reduce sum: the gradient is the sum of the gradients of all processes."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, *outer: Tensor) -> Tensor:
        return _AllReduceSum.forward(None, outer[0])


def all_reduce_mean_(value: Tensor, world: World) -> None:
    """Average a tensor over the processes in place."""
    distributed.all_reduce(value)
    value /= world.size
