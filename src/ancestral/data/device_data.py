"""Minibatches, and data sets on a device from which they are taken."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ancestral.data.batch import Batch
from ancestral.data.sampling import BatchSampler, LabelledCount, Shuffle, make_batch_sampler

TensorOrArray = Tensor | np.ndarray


BLOCK_ENTRIES = 2**22
"""Number of table entries processed per block in passes over all data: 32 MB of doubles."""


def rows_per_block(n_columns: int) -> int:
    """Number of rows per block of ``BLOCK_ENTRIES`` entries, at least 1.

    >>> rows_per_block(784), rows_per_block(10**9)
    (5349, 1)
    """
    return max(1, BLOCK_ENTRIES // max(1, n_columns))


class DeviceData:
    """Rows stored as one tensor on the device; a minibatch is an index into them.

    Bytes are stored as bytes, and a memory-mapped array stays on disk. Taking a minibatch
    converts its rows to floating point, replaces ``NaN`` by zero with a mask, and applies
    ``batch_transform`` (for example standardisation or random binarisation).

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
    batch_transform : callable, optional
        Transform Tensor [batch, d] -> Tensor [batch, d], applied to every minibatch.
    epoch_transform : callable, optional
        Transform of the same signature, applied to all rows once per epoch (for example
        :func:`~ancestral.data.device_data.sample_bernoulli`).
    dtype : torch.dtype
        Floating-point type of the minibatches.
    device : torch.device or str
        Device of the stored rows and of the minibatches.

    Examples
    --------
    >>> data = DeviceData(np.array([[1.0, np.nan], [3.0, 4.0]]), missing=True)
    >>> batch = data.batch_at(torch.tensor([0]))
    >>> batch.x, batch.mask
    (tensor([[1., 0.]]), tensor([[1., 0.]]))
    """

    def __init__(
        self,
        x: TensorOrArray,
        y: TensorOrArray | None = None,
        *,
        unit: float = 1.0,
        missing: bool = False,
        batch_transform: Callable[[Tensor], Tensor] | None = None,
        epoch_transform: Callable[[Tensor], Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        on_disk = isinstance(x, np.memmap)
        self.x = x if on_disk else self._to_device(torch.as_tensor(_as_writable(x)))
        self.y = None if y is None else torch.as_tensor(_as_writable(y)).to(self.device)
        self.unit, self.missing, self.dtype = unit, missing, dtype
        self.batch_transform, self.epoch_transform = batch_transform, epoch_transform
        self._epoch_rows: Tensor | None = None
        self._row_index: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x if self._row_index is None else self._row_index)

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return int(self.x.shape[1])

    def subset(self, rows: np.ndarray) -> DeviceData:
        """Return the data set of the rows with the given indices [n_subset].

        Transforms and types are unchanged; a memory-mapped array stays on disk.
        """
        subset = copy.copy(self)
        index = torch.as_tensor(rows, device=self.device)
        subset.y = None if self.y is None else self.y[index]
        if isinstance(self.x, np.memmap):
            subset._row_index = rows if self._row_index is None else self._row_index[rows]
        else:
            subset.x = self.x[index]
        return subset

    def with_transform(self, batch_transform: Callable[[Tensor], Tensor] | None) -> DeviceData:
        """Return the same rows with another transform of batches and no ``epoch_transform``."""
        data = copy.copy(self)
        data.batch_transform, data.epoch_transform, data._epoch_rows = batch_transform, None, None
        return data

    def with_dtype(self, dtype: torch.dtype) -> DeviceData:
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
            rows = self._stored_rows(torch.linspace(0, len(self) - 1, min(len(self), 64)).long())
        digest.update(rows.cpu().contiguous().numpy().data)
        if self.y is not None:
            digest.update(self.y.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def batch_at(self, index: Tensor) -> Batch:
        """Return the minibatch of the rows with indices ``index`` [batch]."""
        x, mask = self._raw_rows(index), None
        if self.missing:
            observed = ~x.isnan()
            x, mask = x.nan_to_num(nan=0.0), observed.to(self.dtype)
        transform = self.batch_transform
        if transform is None and self._epoch_rows is None:
            transform = (
                self.epoch_transform
            )  # before the first epoch, and for rows mapped from disk
        if transform is not None:
            x = transform(x)
        x = x.to(self.dtype)
        if mask is not None:
            x = x * mask
        y = None if self.y is None else self.y[index]
        return Batch(x, y, mask, index)

    def start_epoch(self) -> None:
        """Apply ``epoch_transform`` to all rows, with noise from torch's global generator.

        Rows of a memory-mapped array are not transformed here but in :meth:`batch_at`. Each row is
        visited about once per epoch, so the distribution is the same.
        """
        if self.epoch_transform is None or isinstance(self.x, np.memmap):
            return
        self._epoch_rows = None
        blocks = torch.arange(len(self), device=self.device).split(rows_per_block(self.n_columns))
        self._epoch_rows = torch.cat(
            [self.epoch_transform(self._raw_rows(block)) for block in blocks]
        )

    def make_batch_sampler(self, batch_size: int, n_labelled: LabelledCount = None) -> BatchSampler:
        """Build the minibatch sampler of the data set.

        Parameters
        ----------
        batch_size : int
            Number of rows per minibatch; larger values are clipped to the number of rows.
        n_labelled : int, "proportional" or None
            Number of labelled rows per minibatch of a partly labelled data set; see
            :func:`ancestral.data.sampling.make_batch_sampler`.

        Raises
        ------
        ValueError
            If a minibatch has no room for both labelled and unlabelled rows.
        """
        n = len(self)
        return make_batch_sampler(n, self._labelled_mask(), min(batch_size, n), n_labelled)

    def batch_indices(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        shuffle: Shuffle = True,
        n_labelled: LabelledCount = None,
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
        n_labelled : int, "proportional" or None
            Number of labelled rows per minibatch, which come first; see
            :func:`ancestral.data.sampling.make_batch_sampler`.
        """
        order = self.make_batch_sampler(batch_size, n_labelled).batch_indices(seed, epoch, shuffle)
        yield from torch.from_numpy(order).to(self.device)

    def validation_batch_indices(self, n_batches: int) -> Iterator[Tensor]:
        """Yield the row indices of ``n_batches`` minibatches for the evaluation of objective terms.

        The minibatches have nearly equal sizes and cover every row. In a partly labelled data set
        the labelled rows are distributed evenly; if they are fewer than the minibatches they are
        repeated, so that every minibatch has at least one.
        """
        is_labelled = self._labelled_mask()
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

    def padded_chunks(self, size: int) -> Iterator[tuple[Batch, int]]:
        """Yield (minibatch, number of valid rows) in row order, for inference.

        Every minibatch has ``size`` rows; the last one is padded with copies of its final row.
        With a constant shape, the result for a row does not depend on the other rows.
        """
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            index = torch.arange(start, start + size, device=self.device).clamp(max=stop - 1)
            yield self.batch_at(index), stop - start

    def even_chunks(self, max_rows: int) -> Iterator[Batch]:
        """Yield minibatches in row order, of nearly equal sizes and at most ``most`` rows."""
        for index in torch.arange(len(self)).tensor_split(-(-len(self) // max_rows)):
            yield self.batch_at(index.to(self.device))

    def _labelled_mask(self) -> np.ndarray | None:
        """Labelled rows as a bool array [n]; ``None`` unless some but not all rows have a class."""
        if self.y is None or self.y.ndim > 1 or self.y.is_floating_point():
            return None
        labelled = (self.y >= 0).cpu().numpy()
        return labelled if 0 < labelled.sum() < len(labelled) else None

    def _raw_rows(self, index: Tensor) -> Tensor:
        if self._epoch_rows is not None:
            return self._epoch_rows[index]
        rows = self._stored_rows(index)
        # float64 rows stay float64 until batch_transform has subtracted a possibly large offset
        rows = rows if rows.is_floating_point() else rows.to(self.dtype)
        return rows * self.unit if self.unit != 1.0 else rows

    def _stored_rows(self, index: Tensor) -> Tensor:
        if not isinstance(self.x, np.memmap):
            return self.x[index]
        rows = index.cpu().numpy()
        rows = rows if self._row_index is None else self._row_index[rows]
        return self._to_device(torch.from_numpy(np.asarray(self.x[rows])))

    def _to_device(self, rows: Tensor) -> Tensor:
        """Move rows to the device, as float32 on MPS, which does not support float64."""
        to_float32 = self.device.type == "mps" and rows.dtype == torch.float64
        return rows.to(self.device, torch.float32 if to_float32 else None)


def _as_writable(x: TensorOrArray) -> TensorOrArray:
    return x if isinstance(x, Tensor) else np.require(x, requirements=["W", "C"])


def sample_bernoulli(x: Tensor) -> Tensor:
    """Sample each entry from Bernoulli(x), with torch's global generator; shape and dtype of x."""
    return (torch.rand_like(x) < x).to(x.dtype)
