"""Minibatches of an epoch: in which order rows are visited, and of whom each one is made up.

Most training takes rows as they come. Where only some of them have a label, every minibatch holds
its part of those: a term of labels, a mean over the labelled rows of a batch, is then a mean at
every step, and counts as its weight says.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Shuffle = bool | Literal["once"]
Labelled = int | Literal["share"] | None


class Makeup(NamedTuple):
    """Of whom the minibatches of an epoch are made up.

    An epoch is over when every row was visited; of rows that were all visited before, more visits
    make the batches full.

    Attributes
    ----------
    rows : array [n]
        Numbers of the rows visited in one order a pass, the last batch filled up from its
        beginning.
    size : int
        How many of them every minibatch holds.
    labelled : array [n_labelled], optional
        Numbers of the rows that go round and round beside them, in a new order every time.
    n_labelled : int
        How many of these every minibatch holds.

    Examples
    --------
    >>> makeup = Makeup(np.arange(4), 2, np.arange(4, 7), 1)
    >>> makeup.batches(seed=0, epoch=0, shuffle=False)
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
        """Minibatches an epoch."""
        n = -(-len(self.rows) // self.size)
        return n if self.labelled is None else max(n, -(-len(self.labelled) // self.n_labelled))

    def batches(self, seed: int, epoch: int, shuffle: Shuffle) -> np.ndarray:
        """Return the rows of every minibatch, [n_batches, rows of one].

        Their order depends on (seed, epoch) alone; with ``shuffle="once"`` on the seed alone.
        """
        stream, n = [seed, 0 if shuffle == "once" else epoch], self.n_batches
        order = self.rows
        if shuffle:
            order = order[np.random.default_rng(stream).permutation(len(order))]
        batches = np.resize(order, (n, self.size))
        if self.labelled is None:
            return batches
        around = self.labelled
        if shuffle:
            n_rounds = -(-n * self.n_labelled // len(around))
            rng = np.random.default_rng([*stream, 1])
            around = np.concatenate([rng.permutation(around) for _ in range(n_rounds)])
        return np.concatenate([np.resize(around, (n, self.n_labelled)), batches], 1)


def makeup(n_rows: int, labelled: np.ndarray | None, size: int, n_labelled: Labelled) -> Makeup:
    """Say of whom minibatches are made up.

    Parameters
    ----------
    n_rows : int
        How many rows there are.
    labelled : bool array [n_rows], optional
        Which of them have a label, where some have and some have not.
    size : int
        Rows a minibatch.
    n_labelled : int, "share" or None
        How many of these have a label: ``"share"`` is their share of all rows, rounded up. With
        ``None``, or without unlabelled rows, rows come as they are.

    Raises
    ------
    ValueError
        If a minibatch has no room for rows with and rows without a label.

    Examples
    --------
    >>> makeup(50_000, np.arange(50_000) < 100, 100, "share").n_labelled
    1
    """
    if n_labelled is None or labelled is None:
        return Makeup(np.arange(n_rows), size)
    if size == 1:
        raise ValueError(
            "batch_size=1 has no room for a row with and one without a label: take 2 or more"
        )
    if n_labelled == "share":
        n_labelled = min(-(-size * int(labelled.sum()) // n_rows), size - 1)
    if not 1 <= n_labelled < size:
        raise ValueError(
            f"n_labelled={n_labelled}: expected at least 1 and fewer than the {size} rows of a "
            "minibatch, which holds unlabelled rows too"
        )
    known, unknown = np.flatnonzero(labelled), np.flatnonzero(~labelled)
    return Makeup(unknown, size - n_labelled, known, n_labelled)
