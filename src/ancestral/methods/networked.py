"""Networks that estimators share: dense ones by their widths, convolutional ones as text."""

from __future__ import annotations

import math
from abc import ABC
from typing import Any, Literal

from torch import nn

from ancestral.fields import Fraction, Sizes, Weight
from ancestral.gradients import GradientEstimator
from ancestral.networks import Dropout, Jitter, Maps, Stack, dense, parse_encoder
from ancestral.rows import RowEstimator

Activation = Literal["tanh", "relu", "softplus", "elu", "leaky_relu", "gelu", "sigmoid"]


class Networked(GradientEstimator, RowEstimator, ABC):
    """An estimator that looks at rows through a network.

    Parameters
    ----------
    hidden : list of int
        Widths of the hidden layers.
    activation : str
        Of the hidden layers.
    batch_norm : bool
        Normalise hidden layers; for evaluation the statistics come from one pass over the
        training rows.
    network : str
        ``"dense"``, with ``hidden`` layers; for images the convolutional ``"mnist"`` (28 x 28) or
        ``"svhn"`` (3 x 32 x 32) of the max-margin paper, or one's own as text:
        ``"5:32 p2 | 3:64 p2 d.5 | 500"`` (see ``networks.written``).
    """

    hidden: Sizes = (500, 500)
    activation: Activation = "relu"
    batch_norm: bool = True
    network: str = "dense"

    def _style(self) -> dict[str, Any]:
        """Return what all layers have in common."""
        if self.batch_norm and self.batch_size == 1:
            raise ValueError("batch_size=1: batch_norm=True compares rows and needs at least 2")
        return {"activation": self.activation, "batch_norm": self.batch_norm}

    def _maps(self, field: str = "network") -> Maps:
        """Return the shape of a row that is a picture, for the layers of a field."""
        if self.image_shape is None:
            layers = getattr(self, field)
            raise ValueError(
                f"{field}={layers!r} is for images, and nothing says that these rows are some: set "
                "image_shape=(height, width) if they are, else take dense layers"
            )
        height, width = self.image_shape[-2:]
        return Maps(math.prod(self.image_shape[:-2]), height, width)

    def _check_shape(self, made: Maps, shape: Maps) -> None:
        """Refuse a network that makes rows of another shape than they have."""
        if made != shape:
            raise ValueError(
                f"network={self.network!r} makes {made.n} x {made.height} x {made.width} of rows "
                f"that are {shape.n} x {shape.height} x {shape.width}"
            )

    def _body(self, n_in: int) -> tuple[nn.Module, int]:
        """Make the hidden layers on ``n_in`` features, and say how many values come out."""
        if self.network != "dense":
            stack = Stack(parse_encoder(self.network), self._maps(), **self._style())
            return stack, math.prod(stack.shape_out)
        widths = tuple(self.hidden)
        return nn.Sequential(*dense(n_in, widths, **self._style())), [n_in, *widths][-1]


class Disturbed(Networked, ABC):
    """A network that is disturbed in training, so that it depends less on single values.

    Parameters
    ----------
    dropout : list of float
        Share dropped in training of the input, then of each hidden layer. Convolutional networks
        have theirs in ``network``, as in ``"5:32 p2 d.5"``.
    jitter : list of float
        Standard deviation of the normal noise added in training to the input, then to each hidden
        layer before its activation; convolutional networks take that of the input.
    """

    dropout: tuple[Fraction, ...] = ()
    jitter: tuple[Weight, ...] = ()

    def _disturbed(self, n_in: int) -> tuple[nn.Module, int]:
        """Make the hidden layers as :meth:`_body` does, with what disturbs them."""
        self._check_disturbances()
        below: list[nn.Module] = [Jitter(scale) for scale in self.jitter[:1]]
        below += [Dropout(rate) for rate in self.dropout[:1]]
        if self.network != "dense":
            body, n = self._body(n_in)
            return nn.Sequential(*below, body), n

        def furnish(depth: int, _: int, layer: list[nn.Module]) -> list[nn.Module]:
            *linear, activation = layer
            inside = [Jitter(scale) for scale in self.jitter[depth + 1 : depth + 2]]
            after = [Dropout(rate) for rate in self.dropout[depth + 1 : depth + 2]]
            return [*linear, *inside, activation, *after]

        widths = tuple(self.hidden)
        layers = dense(n_in, widths, **self._style(), furnish=furnish)
        return nn.Sequential(*below, *layers), [n_in, *widths][-1]

    def _check_disturbances(self) -> None:
        """Refuse more of them than there are layers, or in a place where another says it."""
        if self.network != "dense":
            if self.dropout:
                raise ValueError(
                    f"dropout={self.dropout}: write it into network, as in '5:32 p2 d.5'"
                )
            if len(self.jitter) > 1:
                raise ValueError(f"jitter={self.jitter}: of the input only, where network is text")
        most = len(self.hidden) + 1
        for name in ("dropout", "jitter"):
            if len(getattr(self, name)) > most:
                raise ValueError(
                    f"{name}={getattr(self, name)}: expected at most {most} numbers, of the input "
                    "and of each hidden layer"
                )
