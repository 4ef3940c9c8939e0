"""Deterministic autoencoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from torch import Tensor, nn

from ancestral.data.columns import ColumnFeatures, Columns
from ancestral.data.device_data import DeviceData
from ancestral.estimators.base.deep_latent import decoder, init_output_bias
from ancestral.estimators.base.network import RegularizedNetworkEstimator
from ancestral.estimators.base.tabular import CHUNK
from ancestral.models.deterministic import AutoencoderModel
from ancestral.nn import ConvNet, GaussianNoise, MapShape, linear, parse_network
from ancestral.objectives import reconstruction
from ancestral.probability.conditionals import Bernoulli, Conditional, Gaussian
from ancestral.probability.distributions import mean_or_mode
from ancestral.training import Player
from ancestral.utils.validation import Count, Sizes

CODE_ACTIVATIONS = {"sigmoid": nn.Sigmoid, "linear": nn.Identity}
"""Output activation of the encoder, by name."""


class Autoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, RegularizedNetworkEstimator):
    """Deterministic autoencoder.

    Minimises the cross-entropy of binary values and of values in [0, 1], and half the squared error
    of standardised real values. The model has no density and cannot be sampled; a :class:`GMMN` can
    be fitted to its codes.

    Parameters
    ----------
    n_latents : int
        Length of a code.
    hidden : list of int
        Widths of the encoder's hidden layers, mirrored in the decoder.
    code_activation : {"sigmoid", "linear"}
        Output activation of the encoder: codes in [0, 1], or unbounded codes.
    dropout, noise_std : list of float
        Dropout rates, and standard deviations of Gaussian noise, in training: at the encoder's
        input, then at each of its hidden layers. The paper uses ``dropout=(0.2, 0.5)``.
    network : str
        ``"dense"``, with layers of the widths ``hidden``; for images also a text specification of
        encoder and decoder: ``"5:32 p2 | 500 -> 500 | 32x14x14 | u2 5:1"`` (see
        ``networks.written``).

    References
    ----------
    Generative Moment Matching Networks, section 4, https://arxiv.org/abs/1502.02761

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = Autoencoder(n_latents=8, hidden=(50,), max_epochs=5, random_state=0)
    >>> codes = autoencoder.fit_transform(X / 16)
    >>> codes.shape, autoencoder.inverse_transform(codes).shape
    ((1797, 8), (1797, 64))
    """

    n_latents: Count = 32
    hidden: Sizes = (1024,)
    code_activation: Literal["sigmoid", "linear"] = "sigmoid"
    binarize: Literal["batch", "epoch", "once", "none"] = "none"

    def transform(self, X: Any) -> np.ndarray:
        """Encode samples; return their codes, [n_samples, n_latents].

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data; ``NaN`` marks missing values, which enter the encoder as zeros.
        """
        return self._map_rows(X, lambda batch: self.model_.encode(batch))

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decode codes to samples, [n_samples, n_features], in the units of the training data.

        Data of type uint8 are returned as fractions of 255.

        Parameters
        ----------
        X : array-like [n_samples, n_latents]
            Codes.

        Raises
        ------
        ValueError
            If the codes do not have ``n_latents`` entries.
        """
        self._check_fitted()
        codes = check_array(X, dtype=[np.float64, np.float32])
        if codes.shape[1] != self.n_latents:
            raise ValueError(f"X: expected codes of length {self.n_latents}, got {codes.shape[1]}")
        data = DeviceData(codes, device=self._device())
        with torch.no_grad():
            parts = [self._decode(b.x)[:n].cpu().numpy() for b, n in data.padded_chunks(CHUNK)]
        return np.concatenate(parts).astype(codes.dtype)

    def reconstruct(self, X: Any) -> np.ndarray:
        """Encode and decode samples; return reconstructions, [n_samples, n_features].

        They are in the units of the training data; data of type uint8 are returned as fractions of
        255.

        Parameters
        ----------
        X : array-like [n_samples, n_features]
            Data; ``NaN`` marks missing values, which enter the encoder as zeros.
        """
        return self._map_rows(X, lambda batch: self._decode(self.model_.encode(batch)))

    def _decode(self, code: Tensor) -> Tensor:
        return self.columns_.to_data_units(mean_or_mode(self.model_.decode(code)))

    def _build(self) -> dict[str, nn.Module]:
        columns = self._columns()
        encoder, likelihood = (
            self._dense(columns) if self.network == "dense" else self._convolutional(columns)
        )
        model = AutoencoderModel(
            nn.Sequential(
                ColumnFeatures(columns), encoder, CODE_ACTIVATIONS[self.code_activation]()
            ),
            likelihood,
        )
        return {"columns_": columns, "model_": model}

    def _dense(self, columns: Columns) -> tuple[nn.Module, Conditional]:
        body, n = self._regularized_layers(columns.n_features)
        likelihood = decoder(
            columns, (self.n_latents,), tuple(self.hidden)[::-1], self._layer_options(), log_var=0.0
        )
        return nn.Sequential(body, linear(n, self.n_latents)), likelihood

    def _convolutional(self, columns: Columns) -> tuple[nn.Module, Conditional]:
        kinds, style = set(columns.kinds), self._layer_options()
        self._check_regularization()
        noise = [GaussianNoise(scale) for scale in self.noise_std[:1]]
        if len(kinds) > 1 or not kinds <= {"bernoulli", "gaussian"}:
            raise ValueError(
                f"network={self.network!r}: expected images whose pixels are all Bernoulli or all "
                f"Gaussian, got {', '.join(sorted(kinds))} columns"
            )
        up, down = parse_network(self.network)
        encoder = ConvNet(up, self._image_maps(), **style)
        mean = ConvNet(down, MapShape(self.n_latents), **style, linear_last=True)
        self._check_shape(mean.output_shape, self._image_maps())
        head = linear(math.prod(encoder.output_shape), self.n_latents)
        likelihood = Bernoulli(mean) if kinds == {"bernoulli"} else Gaussian(mean, 0.0)
        return nn.Sequential(*noise, encoder, head), likelihood

    def _init_parameters(self, data: DeviceData) -> None:
        if self.network == "dense":
            init_output_bias(self.model_.likelihood, self.columns_, data)

    def _players(self) -> Player:
        return Player(self.model_, reconstruction(), self._optimizer())

    @property
    def _n_features_out(self) -> int:
        return self.n_latents

    if TYPE_CHECKING:
        model_: AutoencoderModel
