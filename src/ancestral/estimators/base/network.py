"""Base classes of estimators with a network: dense by its widths, convolutional as text."""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from ancestral.estimators.base.gradient import GradientEstimator
from ancestral.nn import ConvNet, Dropout, GaussianNoise, MapShape, dense_layers, parse_encoder
from ancestral.utils.validation import Fraction, Sizes, Weight

Activation = Literal["tanh", "relu", "softplus", "elu", "leaky_relu", "gelu", "sigmoid"]


SMALL_ROWS = 5000
"""Number of rows from which a table is large."""

MIN_SPLIT_ROWS = 10
"""Smallest number of rows of which some are held out."""

PATIENCE_STEPS = 200
"""Steps without a lower held-out loss after which training of a small table stops."""

MIN_LOG_VAR = -14.0
"""Lower limit of log-variances of Gaussian columns where data do not call for a higher one."""

MIN_LOG_VAR_SMALL = -6.0
"""The same on small tables, in standardised units: a standard deviation of 0.05."""


class NetworkEstimator(GradientEstimator, ABC):
    """An estimator of rows with a dense or convolutional network.

    Parameters
    ----------
    hidden : list of int
        Widths of the hidden layers.
    activation : str
        Activation of the hidden layers.
    batch_norm : bool
        Batch normalisation of the hidden layers; the statistics for evaluation come from one pass
        over the training rows.
    network : str
        ``"dense"``, with ``hidden`` layers; for images the convolutional ``"mnist"`` (28 x 28) or
        ``"svhn"`` (3 x 32 x 32) of the max-margin paper, or a specification as text such as
        ``"5:32 p2 | 3:64 p2 d.5 | 500"`` (see ``networks.written``).
    """

    hidden: Sizes = (500, 500)
    activation: Activation = "relu"
    batch_norm: bool = True
    network: str = "dense"

    def _layer_options(self) -> dict[str, Any]:
        """Return the options of all layers."""
        batch_norm = self._resolved("batch_norm")
        if batch_norm and self.batch_size == 1:
            raise ValueError("batch_size=1: batch_norm=True needs at least 2 rows per batch")
        return {"activation": self.activation, "batch_norm": batch_norm}

    def _image_maps(self, field: str = "network") -> MapShape:
        """Return the image shape of a row, for the convolutional layers of a field."""
        if self.image_shape is None:
            raise ValueError(
                f"{field}={getattr(self, field)!r} is for images and image_shape is not set: set "
                "image_shape=(height, width) for rows that are images, or use dense layers"
            )
        height, width = self.image_shape[-2:]
        return MapShape(math.prod(self.image_shape[:-2]), height, width)

    def _check_shape(self, output: MapShape, shape: MapShape) -> None:
        """Raise if the output of a network has another shape than the rows."""
        if output != shape:
            raise ValueError(
                f"network={self.network!r} has outputs of {output.n} x {output.height} x "
                f"{output.width}: expected {shape.n} x {shape.height} x {shape.width}, as the rows"
            )

    def _hidden_layers(self, n_in: int) -> tuple[nn.Module, int]:
        """Return the hidden layers on ``n_in`` features and the number of their outputs."""
        if self.network != "dense":
            stack = ConvNet(
                parse_encoder(self.network), self._image_maps(), **self._layer_options()
            )
            return stack, math.prod(stack.output_shape)
        widths = tuple(self.hidden)
        return nn.Sequential(*dense_layers(n_in, widths, **self._layer_options())), [n_in, *widths][
            -1
        ]


class RegularizedNetworkEstimator(NetworkEstimator, ABC):
    """An estimator whose network has dropout and additive noise in training.

    Parameters
    ----------
    dropout : list of float
        Dropout rate of the input, then of each hidden layer. Convolutional networks have their
        rates in ``network``, as in ``"5:32 p2 d.5"``.
    noise_std : list of float
        Standard deviation of Gaussian noise added in training to the input, then to each hidden
        layer before its activation; for convolutional networks to the input only.
    """

    dropout: tuple[Fraction, ...] = ()
    noise_std: tuple[Weight, ...] = ()

    def _regularized_layers(self, n_in: int) -> tuple[nn.Module, int]:
        """Return the hidden layers of :meth:`_hidden_layers` with dropout and noise."""
        self._check_regularization()
        below: list[nn.Module] = [GaussianNoise(scale) for scale in self.noise_std[:1]]
        below += [Dropout(rate) for rate in self.dropout[:1]]
        if self.network != "dense":
            body, n = self._hidden_layers(n_in)
            return nn.Sequential(*below, body), n

        def layer_transform(depth: int, _: int, layer: list[nn.Module]) -> list[nn.Module]:
            *linear, activation = layer
            inside = [GaussianNoise(scale) for scale in self.noise_std[depth + 1 : depth + 2]]
            after = [Dropout(rate) for rate in self.dropout[depth + 1 : depth + 2]]
            return [*linear, *inside, activation, *after]

        widths = tuple(self.hidden)
        layers = dense_layers(
            n_in, widths, **self._layer_options(), layer_transform=layer_transform
        )
        return nn.Sequential(*below, *layers), [n_in, *widths][-1]

    def _check_regularization(self) -> None:
        """Raise if there are more rates than layers, or rates that belong into ``network``."""
        if self.network != "dense":
            if self.dropout:
                raise ValueError(
                    f"dropout={self.dropout}: specify it in network, as in '5:32 p2 d.5'"
                )
            if len(self.noise_std) > 1:
                raise ValueError(
                    f"noise_std={self.noise_std}: expected one number, of the input, as network "
                    "is text"
                )
        n_max = len(self.hidden) + 1
        for name in ("dropout", "noise_std"):
            if len(getattr(self, name)) > n_max:
                raise ValueError(
                    f"{name}={getattr(self, name)}: expected at most {n_max} numbers, one for the "
                    "input and one for each hidden layer"
                )


@dataclass(frozen=True)
class NetworkDefaults:
    """Parameters of a latent-variable model and its training that follow from the data.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    batch_norm : bool
        Batch normalisation of the hidden layers.
    learning_rate : float
        Initial learning rate.
    validation_fraction : float
        Fraction of the rows held out.
    patience : int or None
        Epochs without a lower held-out loss after which training stops; None for no limit.
    min_log_var : float
        Lower limit of the log-variances of Gaussian columns, in standardised units.
    """

    hidden: tuple[int, ...] = (500, 500)
    batch_norm: bool = True
    learning_rate: float = 1e-3
    validation_fraction: float = 0.0
    patience: int | None = None
    min_log_var: float = MIN_LOG_VAR


def network_defaults(
    n_rows: int,
    kinds: Sequence[str],
    *,
    is_image: bool = False,
    has_targets: bool = False,
    batch_size: int = 100,
) -> NetworkDefaults:
    """Return the parameters for a data set.

    Images, bits, rows with targets and tables of 5,000 rows or more have wide networks with batch
    normalisation and train on all rows. On smaller tables such networks overfit: learnt variances
    shrink onto training rows. Those have narrow networks, a higher limit of variances, held-out
    rows and early stopping.

    Parameters
    ----------
    n_rows : int
        Number of training rows.
    kinds : sequence of str
        Kind of each column.
    is_image : bool
        Whether a row is an image.
    has_targets : bool
        Whether rows have labels or targets.
    batch_size : int
        Rows per step.

    Examples
    --------
    >>> network_defaults(100, ["gaussian"] * 4).validation_fraction
    0.15
    >>> network_defaults(100, ["bernoulli"] * 4) == NetworkDefaults()
    True
    """
    if is_image or has_targets or n_rows >= SMALL_ROWS or set(kinds) <= {"bernoulli"}:
        return NetworkDefaults()
    narrow = NetworkDefaults((50,), False, 3e-3, min_log_var=MIN_LOG_VAR_SMALL)
    if n_rows < MIN_SPLIT_ROWS:
        return narrow
    fraction = 0.15
    n_batches = -(-round((1 - fraction) * n_rows) // batch_size)
    patience = -(-PATIENCE_STEPS // n_batches)
    return replace(narrow, validation_fraction=fraction, patience=patience)
