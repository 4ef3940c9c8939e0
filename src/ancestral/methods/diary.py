"""A generator watched while it learns: the same noise again and again, beside held-out rows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ancestral.discrepancy import mmd2
from ancestral.likeness import told_apart

PAGES, ROWS = 8, 10
"""Of a diary, and on a page."""
COMPARED, FEWEST = 500, 10
"""Held-out rows that as many samples are compared with after an epoch, at most and at least."""


class Source(Protocol):
    """What turns noise into rows."""

    def at(self, h: Float[Tensor, "n l"], c: Tensor | None = None) -> Float[Tensor, "n d"]:
        """Return what given noise (and conditions, row by row) becomes."""

    def draw_noise(self, n: int) -> Float[Tensor, "n l"]:
        """Draw noise for n rows."""


class Diary(nn.Module):
    """What the same noise becomes while training goes on: a page after ever more epochs.

    The pages are buffers: they are kept with a checkpoint, and saved with the model.

    Parameters
    ----------
    d : int
        Columns of a row.

    Attributes
    ----------
    epochs : Tensor [8]
        When a page was written; 0 stands for not yet.
    pages : Tensor [8, 10, d]
        The rows, as the model has them.

    Examples
    --------
    >>> diary = Diary(3)
    >>> [diary.is_due(epoch, 100) for epoch in (1, 2, 3, 4, 5, 100)]
    [True, True, False, True, False, True]
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("epochs", torch.zeros(PAGES))
        self.register_buffer("pages", torch.zeros(PAGES, ROWS, d))
        self.epochs: Tensor
        self.pages: Tensor

    def is_due(self, epoch: int, n_epochs: int) -> bool:
        """Whether a page is written after an epoch: after the first and the last, and between."""
        return epoch in _due(n_epochs)

    def write(self, epoch: int, n_epochs: int, rows: Float[Tensor, "10 d"]) -> None:
        """Fill the page of an epoch that is due."""
        page = _due(n_epochs).index(epoch)
        self.epochs[page], self.pages[page] = epoch, rows

    def clear(self) -> None:
        """Begin anew."""
        self.epochs.zero_()
        self.pages.zero_()

    def written(self) -> tuple[list[int], Float[Tensor, "p 10 d"]]:
        """Return the pages that there are, and of which epochs."""
        done = self.epochs > 0
        return [int(epoch) for epoch in self.epochs[done]], self.pages[done]


def _due(n_epochs: int) -> list[int]:
    """Return the epochs after which a page is written, each longer than the one before."""
    return sorted({round(epoch) for epoch in np.geomspace(1, n_epochs, PAGES)})


def beside_held_out(
    source: Source, x: Float[Tensor, "n d"], c: Tensor | None = None
) -> dict[str, float]:
    """Compare held-out rows with as many samples: what says when to stop, where no loss does.

    Parameters
    ----------
    source : Source
        The generator.
    x : Tensor [n, d]
        The rows.
    c : Tensor [n, ...], optional
        Their conditions, of which samples are drawn.

    Returns
    -------
    dict
        ``mmd2``, unbiased, by a Gaussian kernel as wide as the rows are far from one another;
        ``told_apart``, the share that nearest neighbours tell apart, best at a half.
    """
    drawn, x = source.at(source.draw_noise(len(x)), c).cpu(), x.cpu()
    share, _ = told_apart(drawn.numpy(), x.numpy())
    width = float(x.var(0).sum()) or 1.0
    distance = mmd2(drawn.double(), x.double(), [width], "unbiased")
    return {"mmd2": float(distance), "told_apart": share}
