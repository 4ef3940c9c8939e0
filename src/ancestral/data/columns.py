"""Columns of a table and the features that encode them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

ColumnKind = Literal["bernoulli", "gaussian", "categorical", "poisson"]


class Columns(nn.Module):
    """Transform between the columns of a table, model inputs and network inputs.

    Gaussian columns are standardised; ``log_volume`` corrects log-densities to the original units.
    Network inputs have log(1 + count) for Poisson columns and one-hot indicators for categorical
    columns; Bernoulli columns are unchanged. A missing entry is zero in all its network inputs.

    Parameters
    ----------
    kinds : sequence of str
        Kind of each column: ``bernoulli``, ``gaussian``, ``categorical`` or ``poisson``.
    loc, scale : arrays [d]
        Location and scale of Gaussian columns, in the user's units; 0 and 1 for other columns.
    n_categories : sequence of int
        Number of codes of categorical columns; 0 for other columns.

    Examples
    --------
    >>> columns = Columns(["gaussian", "categorical"], [2.0, 0.0], [4.0, 1.0], [0, 3])
    >>> columns.to_model_units(torch.tensor([[6.0, 2.0]]))
    tensor([[1., 2.]], dtype=torch.float64)
    >>> columns.to_features(torch.tensor([[1.0, 2.0]]))
    tensor([[1., 0., 0., 1.]])
    """

    def __init__(
        self,
        kinds: Sequence[ColumnKind],
        loc: Sequence[float] | np.ndarray,
        scale: Sequence[float] | np.ndarray,
        n_categories: Sequence[int],
    ) -> None:
        super().__init__()
        self.kinds, self.n_categories = tuple(kinds), tuple(int(n) for n in n_categories)
        self.needs_scaling = "gaussian" in self.kinds
        self.needs_encoding = not {"categorical", "poisson"}.isdisjoint(self.kinds)
        self.register_buffer("loc", torch.as_tensor(loc, dtype=torch.float64), persistent=False)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float64), persistent=False)
        self.loc: Tensor
        self.scale: Tensor

    def column_indices(self, kind: ColumnKind) -> list[int]:
        """Return the indices of the columns of one kind."""
        return [j for j, k in enumerate(self.kinds) if k == kind]

    @property
    def n_features(self) -> int:
        """Number of network inputs, the last dimension of :meth:`to_features`."""
        return sum(max(1, n) for n in self.n_categories)

    def to_model_units(self, x: Tensor) -> Tensor:
        """Standardise Gaussian columns: from the user's units [batch, d] to model units."""
        return (x - self.loc) / self.scale if self.needs_scaling else x

    def to_data_units(self, x: Tensor) -> Tensor:
        """Invert :meth:`to_model_units`: from model units [..., d] to the user's units."""
        return x * self.scale + self.loc if self.needs_scaling else x

    def log_volume(self, mask: Tensor | None) -> Tensor:
        """Sum of log ``scale`` over the observed entries, in nats; [] without mask, else [batch].

        log p(x) in the user's units is the log-density in model units minus this value.
        """
        log_scale = self.scale.log()
        return log_scale.sum() if mask is None else (mask * log_scale).sum(-1)

    def to_features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode model units [..., d] as network inputs [..., n_features]."""
        if not self.needs_encoding:
            return x
        encoded = []
        for j, (kind, n) in enumerate(zip(self.kinds, self.n_categories, strict=True)):
            column = x[..., j : j + 1]
            if kind == "poisson":
                column = torch.log1p(column)
            elif kind == "categorical":
                column = nn.functional.one_hot(x[..., j].long(), n).to(x.dtype)
            encoded.append(column if mask is None else column * mask[..., j : j + 1])
        return torch.cat(encoded, -1)


class ColumnFeatures(nn.Module):
    """First layer of an encoder: encodes x and mask of a context with :class:`Columns`."""

    context_fields = ("x", "mask")

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, context: Any) -> Tensor:
        """Return the network inputs [..., n_features]."""
        return self.columns.to_features(context.x, context.mask)
