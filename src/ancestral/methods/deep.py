"""Deep latent Gaussian models: dense networks up to the latent variables and down to the data."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ancestral import engine
from ancestral.conditional import (
    Bernoulli,
    Categorical,
    Chain,
    Conditional,
    Gaussian,
    Poisson,
    Product,
    standard_normal,
)
from ancestral.data import Data, block_rows
from ancestral.density import LatentEstimator
from ancestral.fields import BelowHalf, Count, Sizes
from ancestral.methods.networked import Networked
from ancestral.models import LatentModel
from ancestral.networks import (
    MLP,
    Constant,
    Furnish,
    Heads,
    Maps,
    Stack,
    Take,
    Tap,
    TwoHeaded,
    dense,
    linear,
    logit,
    parse_network,
    set_output_bias,
)
from ancestral.objectives import Objective
from ancestral.preprocess import ColumnKind, Columns, Features
from ancestral.train import Player

Modules = dict[str, nn.Module]


@dataclass(frozen=True)
class LatentKind:
    """What latent variables are.

    Attributes
    ----------
    prior : callable
        Width of the top layer -> its p(z).
    given : callable
        (n_in, widths, n_out, style) -> a layer given others, through a dense network.
    """

    prior: Callable[[int], Conditional]
    given: Callable[[int, tuple[int, ...], int, Mapping[str, Any]], Gaussian | Bernoulli]


def gaussian(n_in: int, widths: tuple[int, ...], n_out: int, style: Mapping[str, Any]) -> Gaussian:
    """Return a diagonal Gaussian whose moments are the two heads of a dense network."""
    return Gaussian(MLP(n_in, widths, heads=(n_out, n_out), **style))


def bits(n_in: int, widths: tuple[int, ...], n_out: int, style: Mapping[str, Any]) -> Bernoulli:
    """Return bits whose log-odds are a dense network's."""
    return Bernoulli(MLP(n_in, widths, n_out, **style))


GAUSSIAN = LatentKind(standard_normal, gaussian)
BITS = LatentKind(lambda n: Bernoulli(Constant(torch.zeros(n))), bits)


class NetworkEstimator(Networked, LatentEstimator, ABC):
    """Networks around one or more layers of Gaussian latent variables, and what sizes they have.

    Parameters
    ----------
    n_latents : int or list of int
        Number of latent variables; a list makes several stochastic layers, from the data upward.
    hidden : list of int, or list of such lists
        Widths of the hidden layers between data and latents, mirrored in the decoder; one list
        for each stochastic layer, or one for all of them.
    network : str
        ``"dense"``, with ``hidden`` layers; for images the convolutional ``"mnist"`` (28 x 28) or
        ``"svhn"`` (3 x 32 x 32) of the max-margin paper, or an encoder and a decoder as text:
        ``"5:32 p2 | 500 -> 500 | 32x14x14 | u2 5:1"`` (see ``networks.written``).
    clip_means : float
        The means of a Bernoulli likelihood are held within [this, 1 - this]: with grey pixels as
        they are (``binarize="none"``) the max-margin models' code does so, with 0.001. 0 for none.
    """

    n_latents: Count | Sizes = 50
    hidden: Sizes | tuple[Sizes, ...] = (500, 500)  # type: ignore[assignment]
    clip_means: BelowHalf = 0.0

    _latents: ClassVar[LatentKind] = GAUSSIAN

    @abstractmethod
    def _objective(self) -> Objective:
        """Return what is minimised."""

    def _players(self) -> Player:
        return Player(self.model_, self._objective(), self._optimizer())

    def _latent_sizes(self) -> tuple[int, ...]:
        return tuple(int(n) for n in np.atleast_1d(self.n_latents))

    def _hidden_sizes(self) -> list[tuple[int, ...]]:
        hidden, n_layers = tuple(self.hidden), len(self._latent_sizes())
        if not n_layers:
            raise ValueError(f"n_latents={self.n_latents!r}: expected one stochastic layer or more")
        per_layer = [tuple(h) for h in hidden if isinstance(h, tuple | list)]
        if not per_layer:
            return [hidden] * n_layers  # type: ignore[list-item]
        if len(per_layer) != n_layers:
            raise ValueError(
                f"hidden={self.hidden} describes {len(per_layer)} stochastic layers and "
                f"n_latents={self.n_latents} describes {n_layers}"
            )
        return per_layer

    def _networks(self, up: Furnish | None = None, down: Furnish | None = None) -> Modules:
        """Make the model; ``up`` and ``down`` furnish dense layers next to the data."""
        style = self._style()
        if self.network != "dense":
            return self._convolutional()
        columns, sizes, hidden = self._columns(), self._latent_sizes(), self._hidden_sizes()
        given = self._latents.given
        bottom = given(columns.n_features, hidden[0], sizes[0], style | {"furnish": up})
        bottom.network = nn.Sequential(Features(columns), bottom.network)
        steps = list(zip(pairwise(sizes), hidden[1:], strict=True))
        above = [given(low, widths, high, style) for (low, high), widths in steps]
        below = [given(high, widths[::-1], low, style) for (low, high), widths in steps[::-1]]
        furnished, clip = style | {"furnish": down}, self.clip_means
        model = LatentModel(
            prior=stack([self._latents.prior(sizes[-1]), *below], sizes[::-1], reverse=True),
            likelihood=decoder(columns, sizes, hidden[0][::-1], furnished, clip=clip),
            posterior=stack([bottom, *above], sizes),
        )
        return {"columns_": columns, "model_": model}

    def _convolutional(self) -> Modules:
        """Make the model of a convolutional network; its features are tapped."""
        columns, sizes, kinds = self._columns(), self._latent_sizes(), set(self.likelihood_)
        shape = self._maps()
        if len(sizes) > 1:
            raise ValueError(f"network={self.network!r} is for a single stochastic layer")
        if len(kinds) > 1 or not kinds <= {"bernoulli", "gaussian"}:
            raise ValueError(f"network={self.network!r} is for images, all bits or all real values")
        up, down = parse_network(self.network)
        style = self._style()
        encoder = Stack(up, shape, **style)
        n = math.prod(encoder.shape_out)
        network = nn.Sequential(encoder, Tap("feature0"), Heads(n, (sizes[0], sizes[0])))
        bits, below = kinds == {"bernoulli"}, Maps(sizes[0])
        decoder = (
            Stack(down, below, **style, linear_last=True)
            if bits
            else TwoHeaded(down, below, **style)
        )
        self._check_shape(decoder.shape_out, shape)
        model = LatentModel(
            standard_normal(sizes[0]),
            Bernoulli(decoder, self.clip_means) if bits else Gaussian(decoder),
            Gaussian(nn.Sequential(Features(columns), network)),
        )
        return {"columns_": columns, "model_": model}

    def _initialise(self, data: Data) -> None:
        if self.network == "dense":
            start_at_means(self.model_.likelihood, self.columns_, data)


class DeepLatentEstimator(NetworkEstimator, ABC):
    """Dense encoder and decoder; who derives from it says what is minimised."""

    def _build(self) -> Modules:
        return self._networks()


def stack(layers: list[Conditional], sizes: Sequence[int], reverse: bool = False) -> Conditional:
    """Return the one layer itself, or several as a chain."""
    return layers[0] if len(layers) == 1 else Chain(layers, sizes, reverse)


def decoder(
    columns: Columns,
    sizes: Sequence[int],
    widths: Sequence[int],
    style: Mapping[str, Any],
    log_var: float | None = None,
    clip: float = 0.0,
) -> Conditional:
    """p(x | z): a dense network on the lowest latent layer, with heads by the kinds of columns.

    With ``log_var``, that of real values is not learnt; with ``clip``, means of bits are held.
    """
    bottom = [Take(0, sizes[0])] if len(sizes) > 1 else []
    layers = [*bottom, *dense(sizes[0], widths, **style)]
    n_in = widths[-1] if widths else sizes[0]
    kinds = sorted(set(columns.kinds))
    if len(kinds) == 1:
        return _head(kinds[0], columns, n_in, layers, log_var, clip)
    parts = [_head(kind, columns, n_in, [], log_var, clip) for kind in kinds]
    return Product(parts, [columns.columns_of(k) for k in kinds], nn.Sequential(*layers))


def _head(
    kind: ColumnKind,
    columns: Columns,
    n_in: int,
    below: Sequence[nn.Module],
    log_var: float | None,
    clip: float,
) -> Conditional:
    chosen = columns.columns_of(kind)
    n = len(chosen)
    if kind == "gaussian":
        moments = Heads(n_in, (n, n)) if log_var is None else linear(n_in, n)
        return Gaussian(nn.Sequential(*below, moments), log_var)
    if kind == "categorical":
        codes = [columns.n_categories[j] for j in chosen]
        return Categorical(nn.Sequential(*below, linear(n_in, sum(codes))), codes)
    network = nn.Sequential(*below, linear(n_in, n))
    return Bernoulli(network, clip) if kind == "bernoulli" else Poisson(network)


def start_at_means(likelihood: Conditional, columns: Columns, data: Data) -> None:
    """Start the output biases where a decoder that ignores z would put them."""
    dtype = engine.widest(data.device)
    total, count = torch.zeros(2, data.n_columns, dtype=dtype, device=data.device)
    for index in torch.arange(len(data), device=data.device).split(block_rows(data.n_columns)):
        batch = data.take(index)
        observed = torch.ones_like(batch.x) if batch.mask is None else batch.mask
        total, count = total + batch.x.sum(0), count + observed.sum(0)
    mean = total / count.clamp(min=1)
    parts = likelihood.parts if isinstance(likelihood, Product) else [likelihood]
    for part, kind in zip(parts, sorted(set(columns.kinds)), strict=True):
        if kind == "bernoulli":
            set_output_bias(part, logit(mean[columns.columns_of(kind)]))
        elif kind == "poisson":
            set_output_bias(part, mean[columns.columns_of(kind)].clamp(min=1e-3).log())
