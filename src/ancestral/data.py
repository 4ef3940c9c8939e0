"""What flows in: minibatches, and the rows they are taken from."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ancestral.batching import Labelled, Makeup, Shuffle, makeup
from ancestral.parallel import World

Rows = Tensor | np.ndarray


class Batch(NamedTuple):
    """A minibatch of rows.

    Attributes
    ----------
    x : Tensor [batch, d]
        The rows; zero where an entry is missing.
    y : Tensor [batch] or [batch, d_y], optional
        Class indices (-1 means unlabelled), or real targets.
    mask : Tensor [batch, d], optional
        1 where observed, 0 where missing; ``None`` when nothing is missing.
    index : Tensor [batch], optional
        Row numbers in the data set, by which a term may cache what depends on the batch alone.
    """

    x: Tensor
    y: Tensor | None = None
    mask: Tensor | None = None
    index: Tensor | None = None  # type: ignore[assignment]

    def share(self, who: World) -> Batch:
        """Return the rows that one of several processes works on."""
        if who.size == 1:
            return self
        n = len(self.x) // who.size
        mine = slice(who.rank * n, (who.rank + 1) * n)
        others = (None if part is None else part[mine] for part in self[1:])
        return Batch(self.x[mine], *others)


BLOCK_ENTRIES = 2**22
"""Entries of a table that are looked at together where all of it must be: 32 MB of doubles."""


def block_rows(n_columns: int) -> int:
    """Return how many rows make such a block.

    >>> block_rows(784), block_rows(10**9)
    (5349, 1)
    """
    return max(1, BLOCK_ENTRIES // max(1, n_columns))


class Data:
    """Rows kept in one piece on the device; a minibatch is an index into them.

    Bytes stay bytes (and a memory map stays on disk) until a minibatch is taken: only then do
    its rows become floating-point numbers, ``NaN`` become zeros with a mask, and ``on_batch``
    (standardisation, a fresh binarisation) is applied.

    Parameters
    ----------
    x : Tensor or array [n, d]
        uint8, bool or floating point; ``NaN`` marks a missing entry.
    y : Tensor or array [n] or [n, d_y], optional
        Class indices (-1 = unlabelled) or real targets.
    unit : float
        What the stored number one stands for; 1/255 turns bytes into pixels in [0, 1].
    missing : bool
        Whether ``x`` may hold ``NaN``; costs a pass over each minibatch.
    on_batch : callable, optional
        Tensor [batch, d] -> Tensor [batch, d], applied whenever a minibatch is taken.
    on_epoch : callable, optional
        The same, applied to all rows once per epoch (see :class:`~ancestral.preprocess.Binarize`).
    dtype, device
        Of the floating-point numbers in a minibatch.

    Examples
    --------
    >>> data = Data(np.array([[1.0, np.nan], [3.0, 4.0]]), missing=True)
    >>> batch = data.take(torch.tensor([0]))
    >>> batch.x, batch.mask
    (tensor([[1., 0.]]), tensor([[1., 0.]]))
    """

    def __init__(
        self,
        x: Rows,
        y: Rows | None = None,
        *,
        unit: float = 1.0,
        missing: bool = False,
        on_batch: Callable[[Tensor], Tensor] | None = None,
        on_epoch: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        on_disk = isinstance(x, np.memmap)
        self.x = x if on_disk else self._put(torch.as_tensor(_writable(x)))
        self.y = None if y is None else torch.as_tensor(_writable(y)).to(self.device)
        self.unit, self.missing, self.dtype = unit, missing, dtype
        self.on_batch, self.on_epoch = on_batch, on_epoch
        self._epoch_rows: Tensor | None = None
        self._order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x if self._order is None else self._order)

    @property
    def n_columns(self) -> int:
        """How many columns a row has."""
        return int(self.x.shape[1])

    def subset(self, rows: np.ndarray) -> Data:
        """Return some of the rows, read in the same way; a memory map stays on disk."""
        part = copy.copy(self)
        chosen = torch.as_tensor(rows, device=self.device)
        part.y = None if self.y is None else self.y[chosen]
        if isinstance(self.x, np.memmap):
            part._order = rows if self._order is None else self._order[rows]
        else:
            part.x = self.x[chosen]
        return part

    def seen_as(self, on_batch: Callable[[Tensor], Tensor] | None) -> Data:
        """Return the same rows with another ``on_batch`` and no ``on_epoch``."""
        other = copy.copy(self)
        other.on_batch, other.on_epoch, other._epoch_rows = on_batch, None, None
        return other

    def in_precision(self, dtype: torch.dtype) -> Data:
        """Return the same rows, which minibatches hold in another precision."""
        other = copy.copy(self)
        other.dtype = dtype
        return other

    def fingerprint(self) -> str:
        """Return a hash of all rows; for a memory map, of its shape and 64 rows spread over it.

        It knows labels and targets too, if there are some: with others it is another training.
        """
        digest = hashlib.sha256(f"{len(self)} {self.n_columns} {self.x.dtype}".encode())
        if isinstance(self.x, Tensor):
            rows = self.x
        else:
            rows = self._stored(torch.linspace(0, len(self) - 1, min(len(self), 64)).long())
        digest.update(rows.cpu().contiguous().numpy().data)
        if self.y is not None:
            digest.update(self.y.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def take(self, index: Tensor) -> Batch:
        """Take the minibatch of the rows ``index`` [batch]."""
        x, mask = self._rows(index), None
        if self.missing:
            observed = ~x.isnan()
            x, mask = x.nan_to_num(nan=0.0), observed.to(self.dtype)
        transform = self.on_batch
        if transform is None and self._epoch_rows is None:
            transform = self.on_epoch  # before the first epoch, and for rows mapped from disk
        if transform is not None:
            x = transform(x)
        x = x.to(self.dtype)
        if mask is not None:
            x = x * mask
        y = None if self.y is None else self.y[index]
        return Batch(x, y, mask, index)

    def start_epoch(self) -> None:
        """Apply ``on_epoch`` afresh to all rows, its noise from torch's current stream."""
        if self.on_epoch is None or isinstance(self.x, np.memmap):
            return  # a mapped row is drawn at its visit, once an epoch: the same law
        self._epoch_rows = None
        blocks = torch.arange(len(self), device=self.device).split(block_rows(self.n_columns))
        self._epoch_rows = torch.cat([self.on_epoch(self._rows(block)) for block in blocks])

    def makeup(self, batch_size: int, n_labelled: Labelled = None) -> Makeup:
        """Say of whom the minibatches of an epoch are made up, and so how many there are.

        Parameters
        ----------
        batch_size : int
            Rows a minibatch, at most as many as there are.
        n_labelled : int, "share" or None
            How many of them have a label, where ``y`` are classes of some rows only; see
            :func:`ancestral.batching.makeup`.
        """
        n = len(self)
        return makeup(n, self._partly_labelled(), min(batch_size, n), n_labelled)

    def batches(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: Shuffle = True,
        n_labelled: Labelled = None,
    ) -> Iterator[Tensor]:
        """Yield the index of every minibatch of an epoch, all of one shape.

        With ``shuffle="once"`` every epoch has the same minibatches, of rows in random order. The
        last one is filled up from the beginning of the epoch's own order, so that every row
        is visited and no shape changes. With ``n_labelled`` so many rows of each have a label; they
        come first, and go round in an order of their own.
        """
        order = self.makeup(batch_size, n_labelled).batches(seed, epoch, shuffle)
        yield from torch.from_numpy(order).to(self.device)

    def spread(self, n_batches: int) -> Iterator[Tensor]:
        """Yield the index of minibatches of about one size in which every row is seen, for terms.

        Where some rows have a label, those are spread evenly, and come again if they are fewer than
        the minibatches: a mean over the labelled rows of a batch is one everywhere.
        """
        known = self._partly_labelled()
        if known is None:
            yield from torch.arange(len(self), device=self.device).tensor_split(n_batches)
            return
        labelled, others = np.flatnonzero(known), np.flatnonzero(~known)
        labelled = np.resize(labelled, max(len(labelled), n_batches))
        pairs = zip(
            np.array_split(labelled, n_batches), np.array_split(others, n_batches), strict=True
        )
        for pair in pairs:
            yield torch.from_numpy(np.concatenate(pair)).to(self.device)

    def chunks(self, size: int) -> Iterator[tuple[Batch, int]]:
        """Yield (minibatch, number of its rows that count) in row order, for inference.

        All have ``size`` rows, the last one padded with copies of its final row: with one shape
        throughout, the result for a row does not depend on its neighbours.
        """
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            index = torch.arange(start, start + size, device=self.device).clamp(max=stop - 1)
            yield self.take(index), stop - start

    def parts(self, most: int) -> Iterator[Batch]:
        """Yield minibatches in row order, of about one size and at most ``most`` rows each."""
        for index in torch.arange(len(self)).tensor_split(-(-len(self) // most)):
            yield self.take(index.to(self.device))

    def _partly_labelled(self) -> np.ndarray | None:
        """Which rows have a class, where some have and some have not."""
        if self.y is None or self.y.ndim > 1 or self.y.is_floating_point():
            return None
        known = (self.y >= 0).cpu().numpy()
        return known if 0 < known.sum() < len(known) else None

    def _rows(self, index: Tensor) -> Tensor:
        if self._epoch_rows is not None:
            return self._epoch_rows[index]
        rows = self._stored(index)
        # double precision is kept until on_batch has taken a large offset away
        rows = rows if rows.is_floating_point() else rows.to(self.dtype)
        return rows * self.unit if self.unit != 1.0 else rows

    def _stored(self, index: Tensor) -> Tensor:
        if not isinstance(self.x, np.memmap):
            return self.x[index]
        where = index.cpu().numpy()
        where = where if self._order is None else self._order[where]
        return self._put(torch.from_numpy(np.asarray(self.x[where])))

    def _put(self, rows: Tensor) -> Tensor:
        """Move rows to the device; MPS alone has no double precision."""
        single = self.device.type == "mps" and rows.dtype == torch.float64
        return rows.to(self.device, torch.float32 if single else None)


def _writable(x: Rows) -> Rows:
    return x if isinstance(x, Tensor) else np.require(x, requirements=["W", "C"])


def mix_seed(*parts: int) -> int:
    """Mix integers into one seed, so that neighbouring parts give unrelated streams.

    >>> mix_seed(0, 1) != mix_seed(1, 0)
    True
    """
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)
