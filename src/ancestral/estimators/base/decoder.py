"""Decoders of latent-variable estimators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ancestral.data.columns import ColumnKind, Columns
from ancestral.data.device_data import DeviceData, rows_per_block
from ancestral.nn import Heads, Slice, dense_layers, linear, logit, set_output_bias
from ancestral.probability.composite import Product
from ancestral.probability.conditionals import (
    Bernoulli,
    Categorical,
    Conditional,
    Gaussian,
    Poisson,
)
from ancestral.training import engine


def decoder(
    columns: Columns,
    sizes: Sequence[int],
    widths: Sequence[int],
    style: Mapping[str, Any],
    log_var: float | None = None,
    clip: float = 0.0,
) -> Conditional:
    """Return p(x | z): a dense network on the lowest latent layer, one head per kind of column.

    Parameters
    ----------
    columns : Columns
        Columns of x.
    sizes : sequence of int
        Widths of the stochastic layers, from the data upward.
    widths : sequence of int
        Widths of the hidden layers, from the latent variables to the data.
    style : mapping
        Options of the layers.
    log_var : float, optional
        Fixed log-variance of Gaussian columns; by default it is an output of the network.
    clip : float
        Means of Bernoulli columns are clipped to [clip, 1 - clip].
    """
    bottom = [Slice(0, sizes[0])] if len(sizes) > 1 else []
    layers = [*bottom, *dense_layers(sizes[0], widths, **style)]
    n_in = widths[-1] if widths else sizes[0]
    kinds = sorted(set(columns.kinds))
    if len(kinds) == 1:
        return _head(kinds[0], columns, n_in, layers, log_var, clip)
    parts = [_head(kind, columns, n_in, [], log_var, clip) for kind in kinds]
    return Product(parts, [columns.column_indices(k) for k in kinds], nn.Sequential(*layers))


def _head(
    kind: ColumnKind,
    columns: Columns,
    n_in: int,
    below: Sequence[nn.Module],
    log_var: float | None,
    clip: float,
) -> Conditional:
    chosen = columns.column_indices(kind)
    n = len(chosen)
    if kind == "gaussian":
        moments = Heads(n_in, (n, n)) if log_var is None else linear(n_in, n)
        return Gaussian(nn.Sequential(*below, moments), log_var)
    if kind == "categorical":
        codes = [columns.n_categories[j] for j in chosen]
        return Categorical(nn.Sequential(*below, linear(n_in, sum(codes))), codes)
    network = nn.Sequential(*below, linear(n_in, n))
    return Bernoulli(network, clip) if kind == "bernoulli" else Poisson(network)


def init_output_bias(likelihood: Conditional, columns: Columns, data: DeviceData) -> None:
    """Set the output biases to those of the best decoder that ignores z."""
    dtype = engine.widest_float_dtype(data.device)
    total, count = torch.zeros(2, data.n_columns, dtype=dtype, device=data.device)
    for index in torch.arange(len(data), device=data.device).split(rows_per_block(data.n_columns)):
        batch = data.batch_at(index)
        observed = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        total, count = total + batch.x.sum(0), count + observed.sum(0)
    mean = total / count.clamp(min=1)
    parts = likelihood.parts if isinstance(likelihood, Product) else [likelihood]
    for part, kind in zip(parts, sorted(set(columns.kinds)), strict=True):
        if kind == "bernoulli":
            set_output_bias(part, logit(mean[columns.column_indices(kind)]))
        elif kind == "poisson":
            set_output_bias(part, mean[columns.column_indices(kind)].clamp(min=1e-3).log())
