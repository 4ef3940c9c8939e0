"""Base class of deep latent-variable models: networks to the latent variables and back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from ancestral.data.columns import ColumnFeatures, ColumnKind, Columns
from ancestral.data.device_data import DeviceData, rows_per_block
from ancestral.estimators.base.latent import LatentEstimator
from ancestral.estimators.base.network import MIN_LOG_VAR, NetworkEstimator, network_defaults
from ancestral.models.latent import LatentModel
from ancestral.nn import (
    MLP,
    ActivationTap,
    Constant,
    ConvNet,
    Heads,
    MapShape,
    Slice,
    TwoHeadConvNet,
    dense_layers,
    linear,
    logit,
    parse_network,
    set_output_bias,
)
from ancestral.objectives import Objective
from ancestral.probability.composite import Chain, Product
from ancestral.probability.conditionals import (
    Bernoulli,
    Categorical,
    Conditional,
    Gaussian,
    Poisson,
    standard_normal,
)
from ancestral.training import Player, engine
from ancestral.utils.hooks import hook
from ancestral.utils.validation import BelowHalf, Count, Fraction, LogVariance, Positive, Sizes

Modules = dict[str, nn.Module]

Layer = list[nn.Module]


@dataclass(frozen=True)
class LatentKind:
    """Distribution of latent variables.

    Attributes
    ----------
    prior : callable
        Width of the top layer -> its prior p(z).
    given : callable
        (n_in, widths, n_out, style) -> conditional of a layer, through a dense network.
    """

    prior: Callable[[int], Conditional]
    given: Callable[[int, tuple[int, ...], int, Mapping[str, Any]], Gaussian | Bernoulli]


def gaussian(n_in: int, widths: tuple[int, ...], n_out: int, style: Mapping[str, Any]) -> Gaussian:
    """Return a diagonal Gaussian whose mean and log-variance are heads of a dense network."""
    return Gaussian(MLP(n_in, widths, heads=(n_out, n_out), **style))


def bits(n_in: int, widths: tuple[int, ...], n_out: int, style: Mapping[str, Any]) -> Bernoulli:
    """Return a Bernoulli conditional whose logits are the output of a dense network."""
    return Bernoulli(MLP(n_in, widths, n_out, **style))


GAUSSIAN_LATENTS = LatentKind(standard_normal, gaussian)

BERNOULLI_LATENTS = LatentKind(lambda n: Bernoulli(Constant(torch.zeros(n))), bits)


class DeepLatentEstimator(NetworkEstimator, LatentEstimator, ABC):
    """A latent-variable model whose encoder and decoder are networks.

    A subclass implements ``_objective``; hooks extend the layers next to the data and the model.

    Parameters
    ----------
    n_latents : int or list of int
        Number of latent variables; a list makes several stochastic layers, from the data upward.
    hidden : list of int, list of such lists, or "auto"
        Widths of the hidden layers of the encoder, mirrored in the decoder; one list for each
        stochastic layer, or one for all of them. ``"auto"`` is a layer of 50 units for small
        tables (see ``batch_norm``) and two of 500 otherwise.
    network : str
        ``"dense"``, with ``hidden`` layers; for images the convolutional ``"mnist"`` (28 x 28) or
        ``"svhn"`` (3 x 32 x 32) of the max-margin paper, or an encoder and a decoder as text:
        ``"5:32 p2 | 500 -> 500 | 32x14x14 | u2 5:1"`` (see ``networks.written``).
    batch_norm : bool or "auto"
        Batch normalisation of the hidden layers; the statistics for evaluation come from one pass
        over the training rows. ``"auto"`` is False for small tables: fewer than 5,000 rows
        without targets that are neither images nor all bits.
    learning_rate : float or "auto"
        Initial learning rate; ``"auto"`` is 0.003 for small tables and 0.001 otherwise.
    validation_fraction : float or "auto"
        Fraction of the training rows held out for a validation curve in ``history_``. ``"auto"``
        is 0.15 for small tables and 0 otherwise.
    patience : int, "auto" or None
        Number of epochs without a lower validation loss after which training stops early; the
        model of the best epoch is restored. ``"auto"`` is the number of epochs that 200 steps need
        for small tables, if rows are held out, and None otherwise.
    min_log_var : float or "auto"
        Lower limit of the log-variances of Gaussian columns, in standardised units, so that they
        do not shrink onto training rows; at least -14. ``"auto"`` is -6 for small tables and -14
        otherwise.
    clip_means : float
        Means of a Bernoulli likelihood are clipped to [clip_means, 1 - clip_means]; the max-margin
        models' code uses 0.001 with grey pixels (``binarize="none"``). 0 for none.
    """

    n_latents: Count | Sizes = 50
    hidden: Sizes | tuple[Sizes, ...] | Literal["auto"] = "auto"  # type: ignore[assignment]
    batch_norm: bool | Literal["auto"] = "auto"  # type: ignore[assignment]
    learning_rate: Positive | Literal["auto"] = "auto"  # type: ignore[assignment]
    validation_fraction: Fraction | Literal["auto"] = "auto"  # type: ignore[assignment]
    patience: Count | Literal["auto"] | None = "auto"  # type: ignore[assignment]
    min_log_var: LogVariance | Literal["auto"] = "auto"
    clip_means: BelowHalf = 0.0

    _latent_kind: ClassVar[LatentKind] = GAUSSIAN_LATENTS

    @hook
    def _resolve_defaults(self, data: DeviceData) -> None:
        """Set the parameters that are ``"auto"``, under their names with an underscore."""
        defaults = network_defaults(
            len(data),
            self.likelihood_,
            is_image=self.image_shape is not None or self.network != "dense",
            has_targets=data.y is not None,
            batch_size=self.batch_size,
        )
        for name, value in asdict(defaults).items():
            given = getattr(self, name)
            setattr(self, f"{name}_", value if given == "auto" else given)
        if self.patience == "auto" and self.validation_fraction_ == 0:
            self.patience_ = None

    def _log_var_range(self) -> tuple[float, float]:
        """Range of the log-variances of Gaussian columns; saved models may lack the limit."""
        return getattr(self, "min_log_var_", MIN_LOG_VAR), -MIN_LOG_VAR

    @abstractmethod
    def _objective(self) -> Objective:
        """Return the objective to minimise."""

    def _players(self) -> Player:
        return Player(self.model_, self._objective(), self._optimizer())

    def _latent_sizes(self) -> tuple[int, ...]:
        return tuple(int(n) for n in np.atleast_1d(self.n_latents))

    def _hidden_sizes(self) -> list[tuple[int, ...]]:
        hidden, n_layers = tuple(self._resolved("hidden")), len(self._latent_sizes())
        if not n_layers:
            raise ValueError(f"n_latents={self.n_latents!r}: expected one stochastic layer or more")
        per_layer = [tuple(h) for h in hidden if isinstance(h, tuple | list)]
        if not per_layer:
            return [hidden] * n_layers
        if len(per_layer) != n_layers:
            raise ValueError(
                f"hidden={self.hidden} describes {len(per_layer)} stochastic layers and "
                f"n_latents={self.n_latents} describes {n_layers}"
            )
        return per_layer

    @hook
    def _check_architecture(self) -> None:
        """Raise ``ValueError`` for sizes that the model does not support."""

    @hook
    def _encoder_layer(self, depth: int, width: int, layer: Layer) -> Layer:  # noqa: ARG002
        """Return the modules of a dense hidden layer of the encoder next to the data."""
        return layer

    @hook
    def _decoder_layer(self, depth: int, width: int, layer: Layer) -> Layer:  # noqa: ARG002
        """Return the modules of a dense hidden layer of the decoder next to the data."""
        return layer

    @hook
    def _extend_model(self, model: LatentModel) -> None:
        """Add modules to a new model, or initialise its parameters differently."""

    def _build(self) -> Modules:
        self._check_architecture()
        columns = self._columns()
        build = self._dense if self.network == "dense" else self._convolutional
        model = build(columns)
        self._extend_model(model)
        return {"columns_": columns, "model_": model}

    def _dense(self, columns: Columns) -> LatentModel:
        """Return a model of dense networks, with one or more stochastic layers."""
        style, sizes, hidden = self._layer_options(), self._latent_sizes(), self._hidden_sizes()
        given = self._latent_kind.given
        lowest = style | {"layer_transform": self._encoder_layer}
        bottom = given(columns.n_features, hidden[0], sizes[0], lowest)
        bottom.network = nn.Sequential(ColumnFeatures(columns), bottom.network)
        steps = list(zip(pairwise(sizes), hidden[1:], strict=True))
        above = [given(low, widths, high, style) for (low, high), widths in steps]
        below = [given(high, widths[::-1], low, style) for (low, high), widths in steps[::-1]]
        furnished, clip = style | {"layer_transform": self._decoder_layer}, self.clip_means
        log_vars = self._log_var_range()
        return LatentModel(
            prior=stack([self._latent_kind.prior(sizes[-1]), *below], sizes[::-1], reverse=True),
            likelihood=decoder(
                columns, sizes, hidden[0][::-1], furnished, clip=clip, log_var_range=log_vars
            ),
            posterior=stack([bottom, *above], sizes),
        )

    def _convolutional(self, columns: Columns) -> LatentModel:
        """Return a model of convolutional networks, with a tap on the features of the encoder."""
        sizes, kinds = self._latent_sizes(), set(columns.kinds)
        shape = self._image_maps()
        if len(sizes) > 1:
            raise ValueError(
                f"network={self.network!r} needs a single stochastic layer: n_latents=int"
            )
        if len(kinds) > 1 or not kinds <= {"bernoulli", "gaussian"}:
            raise ValueError(f"network={self.network!r} is for images, all bits or all real values")
        up, down = parse_network(self.network)
        style = self._layer_options()
        encoder = ConvNet(up, shape, **style)
        n = math.prod(encoder.output_shape)
        network = nn.Sequential(encoder, ActivationTap("feature0"), Heads(n, (sizes[0], sizes[0])))
        bits, below = kinds == {"bernoulli"}, MapShape(sizes[0])
        decoder = (
            ConvNet(down, below, **style, linear_last=True)
            if bits
            else TwoHeadConvNet(down, below, **style)
        )
        self._check_shape(decoder.output_shape, shape)
        return LatentModel(
            standard_normal(sizes[0]),
            Bernoulli(decoder, self.clip_means)
            if bits
            else Gaussian(decoder, log_var_range=self._log_var_range()),
            Gaussian(nn.Sequential(ColumnFeatures(columns), network)),
        )

    def _init_parameters(self, data: DeviceData) -> None:
        if self.network == "dense":
            init_output_bias(self.model_.likelihood, self.columns_, data)


def stack(layers: list[Conditional], sizes: Sequence[int], reverse: bool = False) -> Conditional:
    """Return a chain of layers, or the layer itself if there is one."""
    return layers[0] if len(layers) == 1 else Chain(layers, sizes, reverse)


def decoder(
    columns: Columns,
    sizes: Sequence[int],
    widths: Sequence[int],
    style: Mapping[str, Any],
    log_var: float | None = None,
    clip: float = 0.0,
    log_var_range: tuple[float, float] = (MIN_LOG_VAR, -MIN_LOG_VAR),
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
    log_var_range : (float, float)
        Range of the log-variances of Gaussian columns.
    """
    bottom = [Slice(0, sizes[0])] if len(sizes) > 1 else []
    layers = [*bottom, *dense_layers(sizes[0], widths, **style)]
    n_in = widths[-1] if widths else sizes[0]
    kinds = sorted(set(columns.kinds))
    if len(kinds) == 1:
        return _head(kinds[0], columns, n_in, layers, log_var, clip, log_var_range)
    parts = [_head(kind, columns, n_in, [], log_var, clip, log_var_range) for kind in kinds]
    return Product(parts, [columns.column_indices(k) for k in kinds], nn.Sequential(*layers))


def _head(
    kind: ColumnKind,
    columns: Columns,
    n_in: int,
    below: Sequence[nn.Module],
    log_var: float | None,
    clip: float,
    log_var_range: tuple[float, float],
) -> Conditional:
    chosen = columns.column_indices(kind)
    n = len(chosen)
    if kind == "gaussian":
        moments = Heads(n_in, (n, n)) if log_var is None else linear(n_in, n)
        return Gaussian(nn.Sequential(*below, moments), log_var, log_var_range)
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
