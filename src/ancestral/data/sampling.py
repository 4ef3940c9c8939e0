"""Row indices: minibatches of an epoch, and blocks of rows of bounded size.

By default an epoch visits the rows in random order. In a partly labelled data set every minibatch
can contain a fixed number of labelled rows. Supervised terms average over the labelled rows of a
batch, so a fixed count per batch keeps their expected weight independent of the number of labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

Shuffle = bool | Literal["once"]

LabelledCount = int | Literal["proportional"] | None


class BatchSampler(NamedTuple):
    """Index sampler for supervised, unsupervised and semi-supervised minibatches.

    Each minibatch contains ``n_labelled`` rows of ``labelled`` and ``size`` rows of ``rows``. One
    epoch visits every row at least once; repeated visits complete the last minibatch.

    Attributes
    ----------
    rows : array [n]
        Row indices, each visited once per epoch. The last minibatch is completed from the
        beginning of the epoch's order.
    size : int
        Number of entries of ``rows`` per minibatch, at least 1.
    labelled : array [n_all_labelled], optional
        Row indices that are cycled through in every epoch and shuffled at each cycle.
    n_labelled : int
        Number of entries of ``labelled`` per minibatch; 0 without ``labelled``.

    Examples
    --------
    >>> sampler = BatchSampler(np.arange(4), 2, np.arange(4, 7), 1)
    >>> sampler.batch_indices(seed=0, epoch=0, shuffle=False)
    array([[4, 0, 1],
           [5, 2, 3],
           [6, 0, 1]])
    """

    rows: np.ndarray
    size: int
    labelled: np.ndarray | None = None
    n_labelled: int = 0

    @property
    def n_batches(self) -> int:
        """Number of minibatches per epoch."""
        n = -(-len(self.rows) // self.size)
        return n if self.labelled is None else max(n, -(-len(self.labelled) // self.n_labelled))

    def batch_indices(self, seed: int, epoch: int, shuffle: Shuffle) -> np.ndarray:
        """Return the row indices of every minibatch, [n_batches, n_labelled + size].

        Parameters
        ----------
        seed, epoch : int
            Seed of the order, which depends on (seed, epoch) only.
        shuffle : bool or "once"
            Random order per epoch (True), stored order (False), or one random order for all
            epochs ("once"), which depends on the seed only.

        Returns
        -------
        array [n_batches, n_labelled + size]
            Integers; the labelled rows come first.
        """
        entropy, n = [seed, 0 if shuffle == "once" else epoch], self.n_batches
        order = self.rows
        if shuffle:
            order = order[np.random.default_rng(entropy).permutation(len(order))]
        batches = np.resize(order, (n, self.size))
        if self.labelled is None:
            return batches
        labelled = self.labelled
        if shuffle:
            n_cycles = -(-n * self.n_labelled // len(labelled))
            rng = np.random.default_rng([*entropy, 1])
            labelled = np.concatenate([rng.permutation(labelled) for _ in range(n_cycles)])
        return np.concatenate([np.resize(labelled, (n, self.n_labelled)), batches], 1)


def make_batch_sampler(
    n_rows: int, labelled: np.ndarray | None, size: int, n_labelled: LabelledCount
) -> BatchSampler:
    """Build the minibatch sampler of a data set.

    Parameters
    ----------
    n_rows : int
        Number of rows of the data set.
    labelled : bool array [n_rows], optional
        True for labelled rows of a partly labelled data set; ``None`` for any other data set.
    size : int
        Number of rows per minibatch, from 1 to ``n_rows``.
    n_labelled : int, "proportional" or None
        Number of labelled rows per minibatch. ``"proportional"`` is the proportion of labelled rows
        in the data set times ``size``, rounded up. With ``None``, or if ``labelled`` is ``None``,
        labels do not affect the sampling.

    Returns
    -------
    BatchSampler
        The sampler.

    Raises
    ------
    ValueError
        If ``size`` or ``n_labelled`` leaves no labelled or no unlabelled row in a minibatch.

    Examples
    --------
    >>> make_batch_sampler(50_000, np.arange(50_000) < 100, 100, "proportional").n_labelled
    1
    """
    if n_labelled is None or labelled is None:
        return BatchSampler(np.arange(n_rows), size)
    if size == 1:
        raise ValueError(
            "batch_size=1: expected at least 2, one labelled and one unlabelled row per minibatch"
        )
    if n_labelled == "proportional":
        n_labelled = min(-(-size * int(labelled.sum()) // n_rows), size - 1)
    if not 1 <= n_labelled < size:
        raise ValueError(
            f"n_labelled={n_labelled}: expected at least 1 and fewer than the {size} rows of a "
            "minibatch, which also contains unlabelled rows"
        )
    unlabelled = np.flatnonzero(~labelled)
    return BatchSampler(unlabelled, size - n_labelled, np.flatnonzero(labelled), n_labelled)


BLOCK_BYTES = 1 << 24


def row_blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield consecutive blocks of rows of about 16 MB, so that a memory map stays on disk."""
    if array.size == 0:
        return
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]
