"""Minibatches, and data sets on a device from which they are taken."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ancestral.data.batch import Batch
from ancestral.data.sampling import Labelled, Makeup, Shuffle, makeup

Rows = Tensor | np.ndarray


BLOCK_ENTRIES = 2**22
"""Number of table entries processed per block in passes over all data: 32 MB of doubles."""


def block_rows(n_columns: int) -> int:
    """Number of rows per block of ``BLOCK_ENTRIES`` entries, at least 1.

    >>> block_rows(784), block_rows(10**9)
    (5349, 1)
    """
    return max(1, BLOCK_ENTRIES // max(1, n_columns))


class Data:
    """Rows stored as one tensor on the device; a minibatch is an index into them.

    Bytes are stored as bytes, and a memory-mapped array stays on disk. Taking a minibatch
    converts its rows to floating point, replaces ``NaN`` by zero with a mask, and applies
    ``on_batch`` (for example standardisation or random binarisation).

    Parameters
    ----------
    x : Tensor or array [n, d]
        Features: uint8, bool or floating point; ``NaN`` marks a missing entry.
    y : Tensor or array [n] or [n, d_y], optional
        Class indices (-1 = unlabelled) or real targets.
    unit : float
        Factor applied to stored values; 1/255 maps bytes to pixels in [0, 1].
    missing : bool
        True if ``x`` may contain ``NaN``; costs a pass over each minibatch.
    on_batch : callable, optional
        Transform Tensor [batch, d] -> Tensor [batch, d], applied to every minibatch.
    on_epoch : callable, optional
        Transform of the same signature, applied to all rows once per epoch (for example
        :func:`~ancestral.data.preprocessing.bernoulli_draw`).
    dtype : torch.dtype
        Floating-point type of the minibatches.
    device : torch.device or str
        Device of the stored rows and of the minibatches.

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
        """Number of columns."""
        return int(self.x.shape[1])

    def subset(self, rows: np.ndarray) -> Data:
        """Return the data set of the rows with the given indices [n_subset].

        Transforms and types are unchanged; a memory-mapped array stays on disk.
        """
        subset = copy.copy(self)
        index = torch.as_tensor(rows, device=self.device)
        subset.y = None if self.y is None else self.y[index]
        if isinstance(self.x, np.memmap):
            subset._order = rows if self._order is None else self._order[rows]
        else:
            subset.x = self.x[index]
        return subset

    def seen_as(self, on_batch: Callable[[Tensor], Tensor] | None) -> Data:
        """Return the same rows with the transform ``on_batch`` and no ``on_epoch``."""
        data = copy.copy(self)
        data.on_batch, data.on_epoch, data._epoch_rows = on_batch, None, None
        return data

    def in_precision(self, dtype: torch.dtype) -> Data:
        """Return the same rows with minibatches of another floating-point type."""
        data = copy.copy(self)
        data.dtype = dtype
        return data

    def fingerprint(self) -> str:
        """SHA-256 of shape, dtype, rows and labels or targets, as hexadecimal digits.

        For a memory-mapped array the hash covers 64 evenly spaced rows instead of all rows.
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
        """Return the minibatch of the rows with indices ``index`` [batch]."""
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
        """Apply ``on_epoch`` to all rows, with noise from torch's global generator.

        Rows of a memory-mapped array are not transformed here but in :meth:`take`. Each row is
        visited about once per epoch, so the distribution is the same.
        """
        if self.on_epoch is None or isinstance(self.x, np.memmap):
            return
        self._epoch_rows = None
        blocks = torch.arange(len(self), device=self.device).split(block_rows(self.n_columns))
        self._epoch_rows = torch.cat([self.on_epoch(self._rows(block)) for block in blocks])

    def makeup(self, batch_size: int, n_labelled: Labelled = None) -> Makeup:
        """Build the minibatch sampler of the data set.

        Parameters
        ----------
        batch_size : int
            Number of rows per minibatch; larger values are clipped to the number of rows.
        n_labelled : int, "share" or None
            Number of labelled rows per minibatch of a partly labelled data set; see
            :func:`ancestral.data.sampling.makeup`.

        Raises
        ------
        ValueError
            If a minibatch has no room for both labelled and unlabelled rows.
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
        """Yield the row indices [batch] of every minibatch of an epoch, all of one length.

        The last minibatch is completed from the beginning of the epoch's order, so that every row
        is visited and no shape changes.

        Parameters
        ----------
        batch_size : int
            Number of rows per minibatch; larger values are clipped to the number of rows.
        seed, epoch : int
            Seed of the order, which depends on (seed, epoch) only.
        shuffle : bool or "once"
            Random order per epoch (True), stored order (False), or one random order for all
            epochs ("once").
        n_labelled : int, "share" or None
            Number of labelled rows per minibatch, which come first; see
            :func:`ancestral.data.sampling.makeup`.
        """
        order = self.makeup(batch_size, n_labelled).batches(seed, epoch, shuffle)
        yield from torch.from_numpy(order).to(self.device)

    def spread(self, n_batches: int) -> Iterator[Tensor]:
        """Yield the row indices of ``n_batches`` minibatches for the evaluation of objective terms.

        The minibatches have nearly equal sizes and cover every row. In a partly labelled data set
        the labelled rows are distributed evenly; if they are fewer than the minibatches they are
        repeated, so that every minibatch has at least one.
        """
        is_labelled = self._partly_labelled()
        if is_labelled is None:
            yield from torch.arange(len(self), device=self.device).tensor_split(n_batches)
            return
        labelled, unlabelled = np.flatnonzero(is_labelled), np.flatnonzero(~is_labelled)
        labelled = np.resize(labelled, max(len(labelled), n_batches))
        pairs = zip(
            np.array_split(labelled, n_batches), np.array_split(unlabelled, n_batches), strict=True
        )
        for pair in pairs:
            yield torch.from_numpy(np.concatenate(pair)).to(self.device)

    def chunks(self, size: int) -> Iterator[tuple[Batch, int]]:
        """Yield (minibatch, number of valid rows) in row order, for inference.

        Every minibatch has ``size`` rows; the last one is padded with copies of its final row.
        With a constant shape, the result for a row does not depend on the other rows.
        """
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            index = torch.arange(start, start + size, device=self.device).clamp(max=stop - 1)
            yield self.take(index), stop - start

    def parts(self, most: int) -> Iterator[Batch]:
        """Yield minibatches in row order, of nearly equal sizes and at most ``most`` rows."""
        for index in torch.arange(len(self)).tensor_split(-(-len(self) // most)):
            yield self.take(index.to(self.device))

    def _partly_labelled(self) -> np.ndarray | None:
        """Labelled rows as a bool array [n]; ``None`` unless some but not all rows have a class."""
        if self.y is None or self.y.ndim > 1 or self.y.is_floating_point():
            return None
        labelled = (self.y >= 0).cpu().numpy()
        return labelled if 0 < labelled.sum() < len(labelled) else None

    def _rows(self, index: Tensor) -> Tensor:
        if self._epoch_rows is not None:
            return self._epoch_rows[index]
        rows = self._stored(index)
        # float64 rows stay float64 until on_batch has subtracted a possibly large offset
        rows = rows if rows.is_floating_point() else rows.to(self.dtype)
        return rows * self.unit if self.unit != 1.0 else rows

    def _stored(self, index: Tensor) -> Tensor:
        if not isinstance(self.x, np.memmap):
            return self.x[index]
        rows = index.cpu().numpy()
        rows = rows if self._order is None else self._order[rows]
        return self._put(torch.from_numpy(np.asarray(self.x[rows])))

    def _put(self, rows: Tensor) -> Tensor:
        """Move rows to the device, as float32 on MPS, which does not support float64."""
        to_float32 = self.device.type == "mps" and rows.dtype == torch.float64
        return rows.to(self.device, torch.float32 if to_float32 else None)


def _writable(x: Rows) -> Rows:
    return x if isinstance(x, Tensor) else np.require(x, requirements=["W", "C"])
