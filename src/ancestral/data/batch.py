"""Minibatch of rows, labels, masks and row indices."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ancestral.utils.distributed import World


class Batch(NamedTuple):
    """A minibatch of rows.

    Attributes
    ----------
    x : Tensor [batch, d]
        Features; zero where an entry is missing.
    y : Tensor [batch] or [batch, d_y], optional
        Class indices (-1 = unlabelled) or real targets.
    mask : Tensor [batch, d], optional
        1 for observed, 0 for missing entries; ``None`` if no entry is missing.
    index : Tensor [batch], optional
        Row indices in the data set. Objective terms may use them as keys of per-batch caches.
    """

    x: Tensor
    y: Tensor | None = None
    mask: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]

    def shard(self, world: World) -> Batch:
        """Return the shard of the minibatch that belongs to one process.

        Shard ``r`` of ``s`` has rows ``r * n`` to ``(r + 1) * n - 1`` with ``n = batch // s``.
        """
        if world.size == 1:
            return self
        n = len(self.x) // world.size
        shard = slice(world.rank * n, (world.rank + 1) * n)
        others = (None if field is None else field[shard] for field in self[1:])
        return Batch(self.x[shard], *others)
